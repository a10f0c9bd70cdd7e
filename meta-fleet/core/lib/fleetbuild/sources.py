# SPDX-License-Identifier: Apache-2.0
"""Unpacking locked sources: packages like linux-source, and source packages of format 3.0 (quilt)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fleetbuild import BuildError
from fleetbuild.archive import verified
from fleetbuild.debs import extract
from fleetbuild.lock import SourceFile


def unpack(downloads: Path, files: Sequence[SourceFile], target: Path, exclude: Sequence[str] = ()) -> None:
    """Unpack into ``target``; ``exclude`` are tar patterns of what the build does not need.

    Raises BuildError for a file that is absent or wrong, for one of another kind, and for a patch that does
    not apply.
    """
    upstream: list[tuple[str, Path]] = []
    debian: list[Path] = []
    for file in files:
        name = Path(file.filename).name
        path = verified(downloads, file)
        if name.endswith(".deb") or re.search(r"\.orig\.tar\.[a-z0-9]+$", name):
            upstream.append((name, path))
        elif re.search(r"\.debian\.tar\.[a-z0-9]+$", name):
            debian.append(path)
        else:
            raise BuildError(
                f"{name}: only packages that hold a source archive, and source packages of format "
                "3.0 (quilt) with one upstream archive, can be unpacked"
            )
    if len(upstream) != 1:
        raise BuildError(f"expected one upstream archive, found {[name for name, _ in upstream]}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, path in upstream:
        if name.endswith(".deb"):
            _unpack_deb(path, target, exclude)
        else:
            _unpack_tar(path, target, exclude)
    for path in debian:
        _apply_series(path, target)


def _unpack_tar(path: Path, target: Path, exclude: Sequence[str]) -> None:
    """Unpack an archive without its top folder."""
    unpackers = {".xz": "xz", ".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd"}
    if path.suffix not in unpackers:
        raise BuildError(f"{path.name}: compression is none of {', '.join(unpackers)}")
    extract([unpackers[path.suffix], "-dc", str(path)], target, exclude, strip=1)


def _unpack_deb(path: Path, target: Path, exclude: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        extract(["dpkg-deb", "--fsys-tarfile", str(path)], Path(name))
        archives = sorted((Path(name) / "usr/src").glob("*.tar.*"))
        if len(archives) != 1:
            raise BuildError(f"{path.name}: expected one source archive in /usr/src, found {len(archives)}")
        _unpack_tar(archives[0], target, exclude)


def _apply_series(path: Path, target: Path) -> None:
    """Apply Debian's patches as strictly as dpkg-source does: in order, without fuzz, never in reverse."""
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        _unpack_tar(path, Path(name), ())
        series = Path(name) / "patches/series"
        if not series.is_file():
            return
        for line in series.read_text().splitlines():
            words = line.split("#")[0].split()
            if not words:
                continue
            patch, *options = words
            if options not in ([], ["-p1"]):
                raise BuildError(
                    f"Debian's patch {patch} asks for {' '.join(options)}; only -p1 can be applied"
                )
            command = ["patch", "-p1", "--batch", "--forward", "--fuzz=0", "--remove-empty-files"]
            command += ["--no-backup-if-mismatch", "--reject-file=-", "--silent", "-d", str(target)]
            command += ["-i", str(series.parent / patch)]
            result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if result.returncode:
                raise BuildError(
                    f"Debian's patch {patch} does not apply: {result.stdout}{result.stderr}".strip()
                )
