# SPDX-License-Identifier: Apache-2.0
"""The accounts' folder in memory: it loses power in the middle of a change, or refuses to write."""

import errno
import random


class PowerCut(BaseException):
    """The machine is off; nobody handles that."""


class FlakyFolder:
    """A folder that loses power in its `cut_at`th change from now, or is full while `is_full`."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.chance = chance or random.Random(0)
        self.cut_at = 0  # counts down; at 1 the power goes
        self.is_full = False
        self.changes = 0

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return self.files[name]

    def write(self, name: str, data: bytes) -> None:
        if self._is_cut():
            torn = data[: self.chance.randrange(len(data) + 1)]
            garbage = self.chance.randbytes(self.chance.choice((0, 0, 7)))
            if self.chance.random() < 0.8:
                self.files[name] = torn + garbage
            raise PowerCut
        self.files[name] = data

    def rename(self, name: str, new_name: str) -> None:
        cut = self._is_cut()
        if not cut or self.chance.random() < 0.5:
            self.files[new_name] = self.files.pop(name)
        if cut:
            raise PowerCut

    def remove(self, name: str) -> None:
        cut = self._is_cut()
        if not cut or self.chance.random() < 0.5:
            del self.files[name]
        if cut:
            raise PowerCut

    def _is_cut(self) -> bool:
        """Count a change; whether the power goes in the middle of it."""
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.changes += 1
        if self.cut_at:
            self.cut_at -= 1
            return self.cut_at == 0
        return False
