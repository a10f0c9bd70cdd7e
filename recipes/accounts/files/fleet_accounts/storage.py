# SPDX-License-Identifier: Apache-2.0
"""The folder that holds the users' files."""

import os
from typing import Protocol

_ASIDE = ".damaged"


class Storage(Protocol):
    """A flat folder. Every method raises OSError; what has returned survives a power cut."""

    def read(self, name: str) -> bytes:
        """All of a file; FileNotFoundError when it is not there."""

    def write(self, name: str, data: bytes) -> None:
        """Make the file anew, readable by its owner only.

        When this fails or the power goes, nothing, a part or garbage may be in it.
        """

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name, whole or not at all; a file that has it already is replaced."""

    def remove(self, name: str) -> None:
        """Remove a file, whole or not at all."""


def replace(storage: Storage, name: str, data: bytes) -> None:
    """Give a file new contents: at any instant it has the old ones or the new ones, whole. Raises OSError."""
    temporary = name + ".new"
    storage.write(temporary, data)
    storage.rename(temporary, name)


def set_aside(storage: Storage, name: str) -> str:
    """Rename a damaged file; say what became of it."""
    try:
        storage.rename(name, name + _ASIDE)
    except OSError as error:
        return f"it cannot be moved aside: {error.strerror}"
    return f"it is now {name}{_ASIDE}"


class Folder:
    """A real folder, made when it is not there."""

    def __init__(self, path: str) -> None:
        os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103 (pathlib costs start-up time)
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def read(self, name: str) -> bytes:
        """All of a file."""
        with open(name, "rb", opener=self._open) as file:
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        """Write and wait until it is in flash."""
        file = self._open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.fchmod(file, 0o600)  # what a power cut left there may have been somebody else's
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        finally:
            os.close(file)

    def rename(self, name: str, new_name: str) -> None:
        """Rename and wait until that is in flash."""
        os.rename(name, new_name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def remove(self, name: str) -> None:
        """Remove and wait until that is in flash."""
        os.unlink(name, dir_fd=self._folder)
        os.fsync(self._folder)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=self._folder)
