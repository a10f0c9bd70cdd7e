# SPDX-License-Identifier: Apache-2.0
"""The kernel command line of a slot: console, and the slot's read-only system as root, checked by dm-verity.

The mapping is made by the kernel itself (CONFIG_DM_INIT), so no initramfs is needed. Sources: the kernel's
Documentation/admin-guide/device-mapper/dm-init.rst and verity.rst.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fleetboard.model import Board

SECTOR = 512
MTD_BLOCK_MAJOR = 31
# A panic ends in a reset, so that U-Boot can count it; the seconds are for whoever reads the console.
PANIC_SECONDS = 5
DIGEST_BYTES = {"sha256": 32, "sha512": 64}


@dataclass(frozen=True, slots=True)
class Verity:
    """What `veritysetup format` printed for one root file system, whose hash tree follows its data.

    Counts are in blocks of `block_size` bytes; digest and salt are hexadecimal (no salt: "-"). `options` are
    dm-verity's optional parameters. ValueError for values the kernel would refuse.
    """

    root_hash: str
    salt: str
    data_blocks: int
    hash_start_block: int
    block_size: int = 4096
    algorithm: str = "sha256"
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.algorithm not in DIGEST_BYTES:
            raise ValueError(
                f"verity algorithm {self.algorithm!r}; expected one of {', '.join(DIGEST_BYTES)}"
            )
        digits = 2 * DIGEST_BYTES[self.algorithm]
        if re.fullmatch(rf"[0-9a-f]{{{digits}}}", self.root_hash) is None:
            raise ValueError(f"verity root hash {self.root_hash!r}; expected {digits} hexadecimal digits")
        if re.fullmatch(r"([0-9a-f]{2}){1,256}|-", self.salt) is None:
            raise ValueError(f"verity salt {self.salt!r}; expected pairs of hexadecimal digits, or -")
        if self.block_size not in (1024, 2048, 4096):
            raise ValueError(f"verity block size {self.block_size}; expected 1024, 2048 or 4096")
        if self.data_blocks < 1 or self.hash_start_block < self.data_blocks:
            raise ValueError(
                f"verity hash tree at block {self.hash_start_block}; "
                f"expected after {self.data_blocks} data blocks"
            )
        for option in self.options:
            if re.fullmatch(r"[a-z0-9_]+", option) is None:
                raise ValueError(f"verity option {option!r}; expected letters, digits and _")


def render(board: Board, slot: str, verity: Verity, extra: Sequence[str] = ()) -> str:
    """Return the command line that boots `slot`; `extra` words are appended as they are.

    `fleet.slot=` tells services which slot runs; the kernel ignores it.

    ValueError if the data does not fit the slot's rofs partition.
    """
    rofs = board.flash.slot(slot).rofs
    if verity.hash_start_block * verity.block_size >= rofs.size:
        raise ValueError(
            f"the hash tree starts at byte {verity.hash_start_block * verity.block_size:#x}, "
            f"beyond the end of {rofs.name}, {rofs.size:#x} bytes"
        )
    console = board.console_bmc
    words = [
        f"console={console.tty},{console.baud}n8",
        f'dm-mod.create="{_mapping(rofs.index, verity)}"',
        "root=/dev/dm-0",
        "ro",
        "rootfstype=squashfs",
        f"panic={PANIC_SECONDS}",
        f"fleet.slot={slot}",
        *extra,
    ]
    return " ".join(words)


def _mapping(mtd: int, verity: Verity) -> str:
    # major:minor needs no device node, which nobody could have made this early
    device = f"{MTD_BLOCK_MAJOR}:{mtd}"
    sectors = verity.data_blocks * verity.block_size // SECTOR
    target = [
        f"0 {sectors} verity 1 {device} {device} {verity.block_size} {verity.block_size}",
        f"{verity.data_blocks} {verity.hash_start_block} {verity.algorithm} {verity.root_hash} {verity.salt}",
    ]
    if verity.options:
        target.append(f"{len(verity.options)} {' '.join(verity.options)}")
    return f"rofs,,0,ro,{' '.join(target)}"
