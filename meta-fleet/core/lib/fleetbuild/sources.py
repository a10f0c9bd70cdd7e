# SPDX-License-Identifier: Apache-2.0
"""Unpacking locked sources: linux-source style binary packages and Debian source packages (dpkg-source(1))."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fleetbuild import BuildError
from fleetbuild.archive import cached
from fleetbuild.lock import SourceFile


def unpack(downloads: Path, files: Sequence[SourceFile], target: Path, exclude: Sequence[str] = ()) -> None:
    """Unpack into ``target``; ``exclude`` are tar patterns of what the build does not need.

    Raises BuildError for a file that is absent or wrong, and for a patch that does not apply.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    paths = {Path(file.filename).name: _checked(downloads, file) for file in files}
    for name, path in paths.items():
        if name.endswith(".deb"):
            _unpack_deb(path, target, exclude)
        elif ".orig.tar." in name and not name.endswith(".asc"):
            _tar(["-xf", str(path)], target, exclude)
    for name, path in paths.items():
        if ".debian.tar." in name:
            _apply_series(path, target)


def _checked(downloads: Path, file: SourceFile) -> Path:
    path = cached(downloads, file)
    if not path.is_file():
        raise BuildError(f"{path} is missing; run the fetch task again.")
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
            path.unlink()
            raise BuildError(
                f"{path.name}: the download cache held wrong bytes; removed, run the build again."
            )
    return path


def _tar(arguments: Sequence[str], target: Path, exclude: Sequence[str]) -> None:
    command = ["tar", "-C", str(target), "--strip-components=1", "--no-same-owner"]
    command += [f"--exclude={pattern}" for pattern in exclude]
    if subprocess.run([*command, *arguments], check=False).returncode:
        raise BuildError(f"cannot unpack into {target}; is the disk full?")


def _unpack_deb(path: Path, target: Path, exclude: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        if subprocess.run(["dpkg-deb", "-x", str(path), name], check=False).returncode:
            raise BuildError(f"cannot unpack {path.name}; is the disk full?")
        archives = sorted((Path(name) / "usr/src").glob("*.tar.*"))
        if len(archives) != 1:
            raise BuildError(f"{path.name}: expected one source archive in /usr/src, found {len(archives)}")
        _tar(["-xf", str(archives[0])], target, exclude)


def _apply_series(path: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        subprocess.run(["tar", "-C", name, "-xf", str(path)], check=True)
        series = Path(name) / "debian/patches/series"
        if not series.is_file():
            return
        for line in series.read_text().splitlines():
            words = line.split("#")[0].split()
            if not words:
                continue
            command = ["patch", "-p1", "--batch", "--silent", "--no-backup-if-mismatch", "-d", str(target)]
            result = subprocess.run(
                [*command, "-i", str(series.parent / words[0])], capture_output=True, text=True, check=False
            )
            if result.returncode:
                raise BuildError(f"Debian's patch {words[0]} does not apply: {result.stdout}{result.stderr}")
