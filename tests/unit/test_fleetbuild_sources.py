# SPDX-License-Identifier: Apache-2.0
"""Unpacking sources: a package that carries an archive, and a source package with patches."""

import hashlib
import io
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fleetbuild import BuildError, sources
from fleetbuild.archive import cached
from fleetbuild.lock import SourceFile

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("dpkg-deb", "patch", "xz"))), reason="needs dpkg-deb, patch and xz"
)


def packed(files: Mapping[str, str]) -> bytes:
    """Return a compressed tar archive."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(text.encode()), 0o664, 1234
            tar.addfile(info, io.BytesIO(text.encode()))
    return lzma.compress(plain.getvalue())


UPSTREAM = {"x-1/a.c": "one\ntwo\nthree\n", "x-1/doc/manual": "long\n", "x-1/old": "remove me\n"}
PATCH = "--- a/a.c\n+++ b/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n"
SECOND = "--- a/a.c\n+++ b/a.c\n@@ -1,3 +1,3 @@\n one\n-TWO\n+2\n three\n"
SECOND += "--- a/old\n+++ b/old\n@@ -1 +0,0 @@\n-remove me\n"


class Downloads:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def put(self, name: str, data: bytes) -> SourceFile:
        file = SourceFile("debian", f"pool/{name}", hashlib.sha256(data).hexdigest(), len(data))
        cached(self.folder, file).write_bytes(data)
        return file

    def package(self, patches: Mapping[str, str], series: str | None) -> Sequence[SourceFile]:
        """A source package of format 3.0 (quilt)."""
        files = {"debian/rules": "x", **{f"debian/patches/{name}": text for name, text in patches.items()}}
        if series is not None:
            files["debian/patches/series"] = series
        # The order of the lock is not that of unpacking.
        return [
            self.put("x_1-1.debian.tar.xz", packed(files)),
            self.put("x_1.orig.tar.xz", packed(UPSTREAM)),
        ]


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return Downloads(tmp_path / "downloads")


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_patches_are_applied_in_the_order_of_the_series(downloads: Downloads, tmp_path: Path) -> None:
    files = downloads.package(
        {"z.patch": PATCH, "a.patch": SECOND}, "# first\nz.patch # comment\n\na.patch -p1\n#gone.patch\n"
    )
    sources.unpack(downloads.folder, files, tmp_path / "out/x")
    assert content(tmp_path / "out/x") == {"a.c": "one\n2\nthree\n", "doc/manual": "long\n"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


@pytest.mark.parametrize("series", [None, "", "# none\n"])
def test_a_package_without_patches(series: str | None, downloads: Downloads, tmp_path: Path) -> None:
    sources.unpack(downloads.folder, downloads.package({}, series), tmp_path / "x")
    assert set(content(tmp_path / "x")) == {"a.c", "doc/manual", "old"}


def test_what_is_excluded_is_not_unpacked_and_what_was_there_goes(
    downloads: Downloads, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/stale").touch()
    sources.unpack(downloads.folder, downloads.package({}, None), tmp_path / "x", ["x-1/doc", "*/old"])
    assert set(content(tmp_path / "x")) == {"a.c"}
    assert (tmp_path / "x/a.c").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        (PATCH.replace("two", "2"), "1 out of 1 hunk FAILED"),
        (PATCH.replace(" one", " uno"), "1 out of 1 hunk FAILED"),  # one line of context is wrong: no fuzz
        (PATCH.replace("-two\n+TWO", "-TWO\n+two"), "Reversed"),  # would apply the other way round
        (PATCH.replace("a.c", "b.c"), "No file to patch"),
    ],
)
def test_a_patch_that_does_not_apply_exactly_is_an_error(
    patch: str, why: str, downloads: Downloads, tmp_path: Path
) -> None:
    files = downloads.package({"p.patch": patch}, "p.patch\n")
    with pytest.raises(BuildError, match=r"^Debian's patch p\.patch does not apply: ") as caught:
        sources.unpack(downloads.folder, files, tmp_path / "x")
    assert why in str(caught.value)


def test_a_patch_that_is_not_there_is_an_error(downloads: Downloads, tmp_path: Path) -> None:
    files = downloads.package({}, "p.patch\n")
    with pytest.raises(BuildError, match=r"Debian's patch p\.patch does not apply: .*Can't open patch file"):
        sources.unpack(downloads.folder, files, tmp_path / "x")


def test_other_options_in_the_series_are_refused(downloads: Downloads, tmp_path: Path) -> None:
    files = downloads.package({"p.patch": PATCH}, "p.patch -p0\n")
    with pytest.raises(BuildError, match=r"p\.patch asks for -p0; only -p1"):
        sources.unpack(downloads.folder, files, tmp_path / "x")


def deb(folder: Path, archives: Mapping[str, bytes]) -> bytes:
    top = folder / "deb"
    (top / "usr/src").mkdir(parents=True)
    (top / "DEBIAN").mkdir()
    (top / "DEBIAN/control").write_text(
        "Package: linux-source\nVersion: 1\nArchitecture: all\nDescription: x\n"
        "Maintainer: x <x@example.org>\n"
    )
    for name, data in archives.items():
        (top / "usr/src" / name).write_bytes(data)
    subprocess.run(["dpkg-deb", "-Znone", "-b", top, folder / "x.deb"], check=True)
    return (folder / "x.deb").read_bytes()


def test_the_archive_in_a_package_is_unpacked(downloads: Downloads, tmp_path: Path) -> None:
    file = downloads.put("linux-source_1_all.deb", deb(tmp_path, {"x-1.tar.xz": packed(UPSTREAM)}))
    sources.unpack(downloads.folder, [file], tmp_path / "out/x", ["*/doc"])
    assert content(tmp_path / "out/x") == {"a.c": "one\ntwo\nthree\n", "old": "remove me\n"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


@pytest.mark.parametrize("names", [(), ("a.tar.xz", "b.tar.xz")])
def test_a_package_must_hold_one_archive(names: Sequence[str], downloads: Downloads, tmp_path: Path) -> None:
    file = downloads.put("linux-source_1_all.deb", deb(tmp_path, dict.fromkeys(names, packed(UPSTREAM))))
    with pytest.raises(BuildError, match=f"expected one source archive in /usr/src, found {len(names)}"):
        sources.unpack(downloads.folder, [file], tmp_path / "x")


@pytest.mark.parametrize("name", ["x_1.tar.xz", "x_1.orig-extra.tar.xz", "x_1-1.diff.gz"])
def test_files_of_other_formats_are_refused(name: str, downloads: Downloads, tmp_path: Path) -> None:
    files = [*downloads.package({}, None), downloads.put(name, b"")]
    with pytest.raises(BuildError, match=rf"^{name}: only packages that hold .* can be unpacked"):
        sources.unpack(downloads.folder, files, tmp_path / "x")


def test_a_source_without_upstream_archive_is_refused(downloads: Downloads, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"expected one upstream archive, found \[\]"):
        sources.unpack(downloads.folder, downloads.package({}, None)[:1], tmp_path / "x")


def test_an_unknown_compression_is_refused(downloads: Downloads, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"x_1\.orig\.tar\.lzma: compression is none of \.xz, \.gz"):
        sources.unpack(downloads.folder, [downloads.put("x_1.orig.tar.lzma", b"")], tmp_path / "x")


@pytest.mark.parametrize("present", [True, False])
def test_files_are_checked_before_anything_old_is_deleted(
    present: bool, downloads: Downloads, tmp_path: Path
) -> None:
    files = downloads.package({}, None)
    path = cached(downloads.folder, files[1])
    path.unlink()
    if present:
        path.write_bytes(b"wrong")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/old").touch()
    words = "held wrong bytes; removed" if present else "No such file or directory; run the fetch task again"
    with pytest.raises(BuildError, match=rf"x_1\.orig\.tar\.xz: .*{words}"):
        sources.unpack(downloads.folder, files, tmp_path / "x")
    assert (tmp_path / "x/old").exists()
    assert not path.exists()


def test_a_damaged_archive_is_told_in_words(downloads: Downloads, tmp_path: Path) -> None:
    file = downloads.put("x_1.orig.tar.xz", packed(UPSTREAM)[:100])
    with pytest.raises(
        BuildError, match=r"cannot unpack 'xz -dc .*x_1\.orig\.tar\.xz' into .*/x: (.|\n)*Unexpected end"
    ):
        sources.unpack(downloads.folder, [file], tmp_path / "x")
