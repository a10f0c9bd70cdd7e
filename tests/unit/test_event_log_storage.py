# SPDX-License-Identifier: Apache-2.0
"""The real folder."""

import os
from pathlib import Path

import pytest

from fleet_event_log.record import Draft
from fleet_event_log.ring import EventLog, LogError
from fleet_event_log.storage import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "var/log"))


def test_files(folder: Folder) -> None:
    assert folder.names() == []
    folder.append("a", b"one")
    folder.append("b", b"other")
    folder.append("a", b" two")
    assert sorted(folder.names()) == ["a", "b"]
    assert folder.read("a") == b"one two"
    folder.rename("a", "c")
    folder.append("a", b"new")
    assert (folder.read("a"), folder.read("c")) == (b"new", b"one two")
    folder.remove("c")
    assert sorted(folder.names()) == ["a", "b"]
    for gone in (folder.read, folder.remove):
        with pytest.raises(FileNotFoundError):
            gone("c")


def test_what_was_appended_is_synced_file_first_then_folder(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    folder.append("a", b"1")
    folder.append("a", b"2")
    folder.rename("a", "b")
    assert synced == ["a", "log", "a", "log"]


def test_only_the_folder_stays_open(folder: Folder, tmp_path: Path) -> None:
    for name in "abc":
        folder.append(name, b"1")
        folder.rename(name, name + "2")
    opened = [Path(os.path.realpath(link)) for link in Path("/proc/self/fd").iterdir()]
    assert [path for path in opened if path.is_relative_to(tmp_path)] == [tmp_path / "var/log"]


def test_the_log_lives_in_it_over_restarts(tmp_path: Path) -> None:
    for number in range(1, 4):
        log = EventLog(Folder(str(tmp_path)))
        assert log.problems == []
        assert list(log) == list(range(1, number))
        log.add([Draft(5, "Error", f"message {number}")])
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.log"]


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(Folder(str(tmp_path)))
    log.add([Draft(5, "Error", "before")])
    with Path("/dev/full").open("wb") as full:
        write = os.write
        monkeypatch.setattr(os, "write", lambda _, data: write(full.fileno(), data))
        with pytest.raises(LogError, match="No space left on device"):
            log.add([Draft(5, "Error", "lost")])
        with pytest.raises(LogError):
            log.clear(6)
        monkeypatch.undo()
    log.add([Draft(5, "Error", "after")])
    for either in (log, EventLog(Folder(str(tmp_path)))):
        assert [either[number].message for number in either] == ["before", "after"]
