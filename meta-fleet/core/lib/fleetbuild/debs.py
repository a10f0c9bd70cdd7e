# SPDX-License-Identifier: Apache-2.0
"""Unpacking Debian packages without running any of their maintainer scripts (deb(5))."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fleetbuild import BuildError
from fleetbuild.archive import verified
from fleetbuild.lock import Package

# Links of a merged /usr: what an amd64 system has, and what an armhf system has.
MERGED_NATIVE = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
MERGED_TARGET = ("bin", "sbin", "lib")
_DOCUMENTATION = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale")


@contextmanager
def data(path: Path) -> Iterator[tarfile.TarFile]:
    """Open the file tree of a package as a tar stream; BuildError when the package is damaged."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|", encoding="utf-8") as tar:
                yield tar
        except tarfile.TarError as error:
            raise BuildError(f"{path.name}: not a Debian package, or damaged: {error}") from None
        # The reader stops at the end mark; what pads the archive after it must not break dpkg-deb's pipe.
        while process.stdout.read(1 << 16):
            pass
    if process.returncode:
        raise BuildError(f"{path.name}: dpkg-deb failed with {process.returncode}")


def extract(command: Sequence[str], target: Path, exclude: Iterable[str] = (), *, strip: int = 0) -> None:
    """Unpack the tar archive that ``command`` writes into ``target``; BuildError when one of both fails.

    Owners are not kept, modes are those of the archive without set-id bits and without write permission for
    others, whoever runs the build. ``exclude`` are patterns of tar(1), ``strip`` a number of leading folders.
    """
    tar = ["tar", "-x", "-C", str(target), "--keep-directory-symlink", f"--strip-components={strip}"]
    tar += ["--no-same-owner", "--no-same-permissions", *(f"--exclude={pattern}" for pattern in exclude)]
    with tempfile.TemporaryFile() as words:
        try:
            # The end of the block closes our end of the pipe: without a reader the producer ends, too.
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words) as producer:
                result = subprocess.run(tar, stdin=producer.stdout, stderr=words, check=False, umask=0o022)
        except FileNotFoundError as error:
            raise BuildError(
                f"'{error.filename}' is missing on this machine; install it and build again."
            ) from None
        if result.returncode or producer.returncode:
            words.seek(0)
            complaint = words.read().decode(errors="replace").strip()
            raise BuildError(f"cannot unpack '{' '.join(command)}' into {target}: {complaint}")


def merge_usr(root: Path, folders: Sequence[str]) -> None:
    """Make the merged-/usr links that packages of this suite expect to find."""
    for name in folders:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")


def unpack_tools(folder: Path, packages: Sequence[Package], root: Path) -> None:
    """Unpack tool packages into ``root``, two at a time; owners do not matter for tools."""
    root.mkdir(parents=True, exist_ok=True)
    merge_usr(root, MERGED_NATIVE)

    def one(package: Package) -> None:
        path = verified(folder, package)
        extract(["dpkg-deb", "--fsys-tarfile", str(path)], root, _DOCUMENTATION)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, packages))
