# SPDX-License-Identifier: Apache-2.0
"""The folder that holds the log's files."""

import os
from typing import Protocol


class Storage(Protocol):
    """A flat folder. Every method raises OSError; what has returned survives a power cut."""

    def names(self) -> list[str]:
        """Names of all files."""

    def read(self, name: str) -> bytes:
        """All of a file."""

    def append(self, name: str, data: bytes) -> None:
        """Write behind the end of a file, which is made when it is not there.

        When this fails or the power goes, some, all or none of `data` may be there, or garbage in its place;
        what was there before stays.
        """

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name, whole or not at all; a file that has it already is replaced."""

    def remove(self, name: str) -> None:
        """Remove a file. When the power goes, some of it may be left, and some of that garbage."""


class Folder:
    """A real folder, made when it is not there."""

    def __init__(self, path: str) -> None:
        os.makedirs(path, mode=0o750, exist_ok=True)  # noqa: PTH103 (pathlib costs start-up time)
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._name = ""
        self._file = -1  # of the file that was appended to last

    def names(self) -> list[str]:
        """Names of all files."""
        return os.listdir(self._folder)  # noqa: PTH208

    def read(self, name: str) -> bytes:
        """All of a file."""
        with open(name, "rb", opener=self._open) as file:
            return file.read()

    def append(self, name: str, data: bytes) -> None:
        """Write and wait until it is in flash."""
        may_be_new = name != self._name
        if may_be_new:
            self._switch_to(name)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)
        if may_be_new:
            os.fsync(self._folder)

    def rename(self, name: str, new_name: str) -> None:
        """Rename and wait until that is in flash."""
        if name == self._name:
            self._close()
        os.rename(name, new_name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def remove(self, name: str) -> None:
        """Remove; it need not be in flash yet."""
        os.unlink(name, dir_fd=self._folder)

    def _switch_to(self, name: str) -> None:
        self._close()
        self._file = self._open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        self._name = name

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._name, self._file = "", -1

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags, 0o640, dir_fd=self._folder)
