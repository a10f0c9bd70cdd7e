# SPDX-License-Identifier: Apache-2.0
"""Unpacking Debian packages without running any of their maintainer scripts (deb(5))."""

from __future__ import annotations

import hashlib
import lzma
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fleetbuild import BuildError
from fleetbuild.archive import cached
from fleetbuild.lock import Package

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def checked(folder: Path, package: Package) -> Path:
    """Return the downloaded package after verifying its checksum; BuildError when it is absent or wrong."""
    path = cached(folder, package)
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}; run the fetch task again.") from None
    if digest != package.sha256:
        path.unlink()
        raise BuildError(f"{path.name}: the download cache held wrong bytes; removed, run the build again.")
    return path


@contextmanager
def _member(path: Path, prefix: str) -> Iterator[IO[bytes]]:
    """Open the archive member whose name starts with ``prefix`` (``control.tar`` or ``data.tar``)."""
    process = None
    with path.open("rb") as stream:
        if stream.read(8) != b"!<arch>\n":
            raise BuildError(f"{path}: not a Debian package")
        while header := stream.read(60):
            name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
            if name.startswith(prefix):
                break
            stream.seek(size + size % 2, 1)
        else:
            raise BuildError(f"{path}: no {prefix} in it")
        if name.endswith(".xz"):
            with lzma.open(stream) as plain:
                yield plain
        elif name.endswith(".zst"):
            process = subprocess.Popen(["zstd", "-dc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            with ThreadPoolExecutor(1) as pool:
                assert process.stdin and process.stdout
                feed = pool.submit(
                    lambda pipe, data: (pipe.write(data), pipe.close()), process.stdin, stream.read(size)
                )
                yield process.stdout
                feed.result()
        else:
            raise BuildError(f"{path}: compression of {name} is not known")


@contextmanager
def data(path: Path) -> Iterator[tarfile.TarFile]:
    """Open the file tree of a package as a tar stream."""
    with _member(path, "data.tar") as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        yield tar


def merge_usr(root: Path) -> None:
    """Make the merged-/usr links that packages of this suite expect to find."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")


def unpack_tools(folder: Path, packages: list[Package], root: Path) -> None:
    """Unpack tool packages into ``root``, two at a time; owners do not matter for tools."""
    root.mkdir(parents=True, exist_ok=True)
    merge_usr(root)

    def one(package: Package) -> None:
        path = checked(folder, package)
        dpkg = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE)
        tar = [
            "tar",
            "-x",
            "--keep-directory-symlink",
            "--no-same-owner",
            "--exclude=./usr/share/doc",
            "--exclude=./usr/share/man",
        ]
        result = subprocess.run(
            [*tar, "--exclude=./usr/share/locale", "-C", str(root)], stdin=dpkg.stdout, check=False
        )
        if dpkg.wait() or result.returncode:
            raise BuildError(f"cannot unpack {path.name} into {root}; is the disk full?")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, packages))
