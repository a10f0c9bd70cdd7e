# SPDX-License-Identifier: Apache-2.0
"""The real folder."""

import os
import stat
from pathlib import Path

import pytest

from fleet_accounts.storage import Folder, replace, set_aside


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "var/accounts"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files(folder: Folder, tmp_path: Path) -> None:
    place = tmp_path / "var/accounts"
    assert mode(place) == 0o700
    folder.write("a", b"long contents")
    folder.write("a", b"one")
    assert folder.read("a") == b"one"
    assert mode(place / "a") == 0o600
    folder.write("b", b"two")
    folder.rename("b", "a")
    assert folder.read("a") == b"two"
    folder.remove("a")
    for gone in (folder.read, folder.remove):
        with pytest.raises(FileNotFoundError):
            gone("a")
    assert list(place.iterdir()) == []


def test_a_file_that_others_could_read_is_no_more(folder: Folder, tmp_path: Path) -> None:
    left = tmp_path / "var/accounts/a"
    left.write_text("old")
    left.chmod(0o644)
    folder.write("a", b"new")
    assert mode(left) == 0o600


def test_links_are_not_followed(folder: Folder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("other")
    (tmp_path / "var/accounts/a").symlink_to(other)
    for use in (lambda: folder.read("a"), lambda: folder.write("a", b"new")):
        with pytest.raises(OSError, match="symbolic links"):
            use()
    assert other.read_text() == "other"


def test_replace_syncs_the_file_then_renames_then_syncs_the_folder(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rename = os.rename

    def fsync(fd: int) -> None:
        done.append("sync " + Path(f"/proc/self/fd/{fd}").readlink().name)

    def note_rename(old: str, new: str, src_dir_fd: int, dst_dir_fd: int) -> None:
        done.append(f"{old} -> {new}")
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    replace(folder, "a", b"1")
    folder.remove("a")
    assert done == ["sync a.new", "a.new -> a", "sync accounts", "sync accounts"]
    assert list((tmp_path / "var/accounts").iterdir()) == []


def test_short_writes_go_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    folder.write("a", b"0123456789")
    assert folder.read("a") == b"0123456789"


def test_a_full_disk_leaves_the_old_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(folder, "a", b"old")
    with Path("/dev/full").open("wb") as full:
        write = os.write
        monkeypatch.setattr(os, "write", lambda _, data: write(full.fileno(), data))
        with pytest.raises(OSError, match="No space left"):
            replace(folder, "a", b"new")
    assert folder.read("a") == b"old"


def test_only_the_folder_stays_open(folder: Folder, tmp_path: Path) -> None:
    replace(folder, "a", b"1")
    folder.read("a")
    opened = [Path(os.path.realpath(link)) for link in Path("/proc/self/fd").iterdir()]
    assert [path for path in opened if path.is_relative_to(tmp_path)] == [tmp_path / "var/accounts"]


def test_set_aside(folder: Folder) -> None:
    folder.write("a", b"1")
    assert set_aside(folder, "a") == "it is now a.damaged"
    assert folder.read("a.damaged") == b"1"
    assert set_aside(folder, "a") == "it cannot be moved aside: No such file or directory"
