# SPDX-License-Identifier: Apache-2.0
"""Unpacking packages that dpkg-deb made."""

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from fleetbuild import BuildError, debs
from fleetbuild.archive import cached
from fleetbuild.lock import Package
from fleetbuild.tree import Tree

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")


def build(folder: Path, name: str, compression: str = "xz") -> Path:
    """Make a package of the files in ``folder``."""
    (folder / "DEBIAN").mkdir()
    (folder / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (folder / "DEBIAN/postinst").write_text("#!/bin/sh\nexit 1\n")
    (folder / "DEBIAN/postinst").chmod(0o755)
    path = folder.parent / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", folder, path], check=True)
    return path


def in_cache(path: Path, cache: Path) -> Package:
    """Put a package into the download cache and return its lock entry."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    package = Package(path.stem, "1", "all", path.stem, "debian", f"pool/{path.name}", digest, len(data), ())
    cache.mkdir(exist_ok=True)
    cached(cache, package).write_bytes(data)
    return package


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A little file tree with all that packages hold."""
    top = tmp_path / "content"
    (top / "usr/bin").mkdir(parents=True)
    (top / "usr/bin/tool").write_text("#!/bin/sh\n")
    (top / "usr/bin/tool").chmod(0o4755)
    (top / "usr/bin/same").hardlink_to(top / "usr/bin/tool")
    (top / "usr/bin/link").symlink_to("tool")
    (top / "lib").mkdir()
    (top / "lib/library").write_text("x")
    (top / "lib/library").chmod(0o664)
    for folder in ("doc/tool", "man/man1", "locale/de"):
        (top / "usr/share" / folder).mkdir(parents=True)
        (top / "usr/share" / folder / "file").write_text("x")
    return top


@pytest.mark.parametrize("compression", ["xz", "gzip", "zstd", "none"])
def test_a_package_is_a_tar_stream_whatever_its_compression(compression: str, content: Path) -> None:
    with debs.data(build(content, "tool", compression)) as tar:
        members = {member.name.removeprefix("./"): member for member in tar}
    assert members["usr/bin/tool"].mode == 0o4755
    assert members["usr/bin/tool"].uid == 0
    assert members["usr/bin/link"].linkname == "tool"
    assert not any("postinst" in name for name in members)


def test_a_stream_need_not_be_read_to_its_end(content: Path) -> None:
    (content / "big").write_bytes(os.urandom(1 << 20))
    with debs.data(build(content, "tool")) as tar:
        assert tar.next() is not None


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_damaged_package_is_named(keep: int, content: Path) -> None:
    path = build(content, "tool")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BuildError, match=r"^tool\.deb: "), debs.data(path) as tar:
        Tree(content).add_tar(tar)


def test_a_package_that_ends_early_is_named(content: Path) -> None:
    (content / "usr/big").write_bytes(os.urandom(1 << 18))
    path = build(content, "tool")
    path.write_bytes(path.read_bytes()[: 1 << 16])
    with pytest.raises(BuildError, match=r"^tool\.deb: "), debs.data(path) as tar:
        for _ in tar:
            pass


def test_an_error_while_reading_is_not_hidden(content: Path) -> None:
    (content / "big").write_bytes(os.urandom(1 << 20))
    path = build(content, "tool")
    with pytest.raises(BuildError, match="my own"), debs.data(path):
        raise BuildError("my own")


class TestTools:
    def test_tools_lie_in_a_merged_usr_without_documentation(self, content: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        (other / "usr/lib").mkdir(parents=True)
        (other / "usr/lib/more").write_text("y")
        packages = [in_cache(build(content, "tool"), tmp_path / "cache")]
        packages.append(in_cache(build(other, "other"), tmp_path / "cache"))
        root = tmp_path / "root"
        debs.unpack_tools(tmp_path / "cache", packages, root)
        assert (root / "lib").readlink() == Path("usr/lib")
        assert (root / "lib64").readlink() == Path("usr/lib64")
        assert (root / "usr/lib/library").read_text() == "x"
        assert (root / "usr/lib/more").read_text() == "y"
        assert (root / "usr/bin/link").readlink() == Path("tool")
        assert list((root / "usr/share").iterdir()) == []

    @pytest.mark.parametrize("umask", [0o077, 0o000])
    def test_modes_are_the_packages_own_without_set_id_bits(
        self, umask: int, content: Path, tmp_path: Path
    ) -> None:
        package = in_cache(build(content, "tool"), tmp_path / "cache")
        before = os.umask(umask)
        try:
            debs.unpack_tools(tmp_path / "cache", [package], tmp_path / "root")
        finally:
            os.umask(before)
        modes = {
            name: stat.S_IMODE((tmp_path / "root/usr" / name).stat().st_mode)
            for name in ("bin/tool", "bin/same", "lib/library")
        }
        assert modes == {"bin/tool": 0o755, "bin/same": 0o755, "lib/library": 0o644}

    def test_wrong_bytes_in_the_cache_are_removed_and_named(self, content: Path, tmp_path: Path) -> None:
        package = in_cache(build(content, "tool"), tmp_path / "cache")
        path = cached(tmp_path / "cache", package)
        path.write_bytes(b"x" * package.size)
        with pytest.raises(BuildError, match=r"tool\.deb: the download cache held wrong bytes; removed"):
            debs.unpack_tools(tmp_path / "cache", [package], tmp_path / "root")
        assert not path.exists()

    def test_what_cannot_be_unpacked_is_told_in_tars_words(self, content: Path, tmp_path: Path) -> None:
        package = in_cache(build(content, "tool"), tmp_path / "cache")
        (tmp_path / "root/usr/bin/tool/full").mkdir(parents=True)
        with pytest.raises(
            BuildError, match=r"cannot unpack .*tool\.deb' into .*/root: tar: (.|\n)*bin/tool"
        ):
            debs.unpack_tools(tmp_path / "cache", [package], tmp_path / "root")


class TestExtract:
    def test_a_tar_that_gives_up_ends_the_producer_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a pipe that nobody reads and nobody closes, this would never return."""
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "tar").write_text("#!/bin/sh\necho no room >&2\nexit 2\n")
        (programs / "tar").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        with pytest.raises(BuildError, match="no room"):
            debs.extract(["yes"], tmp_path)

    def test_a_producer_that_fails_is_an_error_even_when_tar_is_content(self, tmp_path: Path) -> None:
        subprocess.run(["tar", "-cf", tmp_path / "a.tar", "-T", "/dev/null"], check=True)
        with pytest.raises(BuildError, match=r"cannot unpack .*: broken"):
            debs.extract(["sh", "-c", f"cat {tmp_path}/a.tar; echo broken >&2; exit 1"], tmp_path)

    def test_a_missing_producer_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"^'no-such-program' is missing on this machine"):
            debs.extract(["no-such-program"], tmp_path)
