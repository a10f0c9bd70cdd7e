# SPDX-License-Identifier: Apache-2.0
"""U-Boot's default environment and the configuration that follows from the flash map.

The FIT is read where it lies: the flash is mapped into memory, and U-Boot checks the hashes while it copies.

Boot attempts of a new system are counted with U-Boot's own boot counter (doc/api/bootcount.rst): the counter is
written only while `upgrade_available` is 1, so a healthy system never writes flash at boot.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from fleetboard.model import Board, Slot

# The redundant environment's header: CRC32 of the data, then the flag byte "active".
HEADER = struct.Struct("<IB")
ACTIVE = 1
MAX_BOOT_ATTEMPTS = 3

# Every variable, in words; docs/board.md shows this table.
VARIABLES = {
    "slot": "slot to boot, a or b; anything else means a",
    "fit_a": "address of slot a's FIT in the mapped flash",
    "fit_b": "address of slot b's FIT in the mapped flash",
    "boot_a": "boots slot a",
    "boot_b": "boots slot b",
    "bootcmd": "boots the slot in `slot`; if its FIT is bad, the other one; then resets",
    "altbootcmd": "run instead of bootcmd after `bootlimit` failed attempts: goes back to the other slot for good",
    "bootlimit": "attempts a new system has to say that it works",
    "upgrade_available": "1 while a new system is on trial: attempts are counted in `bootcount`",
    "bootcount": "attempts so far",
}


def render_env(board: Board) -> dict[str, str]:
    """Return the default environment."""
    first, second = board.flash.slots
    return {
        "slot": first.name,
        **{f"fit_{slot.name}": f"{_fit_address(board, slot):#x}" for slot in board.flash.slots},
        **{f"boot_{slot.name}": f"bootm ${{fit_{slot.name}}}#conf-{slot.name}" for slot in board.flash.slots},
        "bootcmd": (
            f'if test "${{slot}}" = {second.name}; then run boot_{second.name}; run boot_{first.name}; '
            f"else run boot_{first.name}; run boot_{second.name}; fi; reset"
        ),
        "altbootcmd": (
            f'if test "${{slot}}" = {second.name}; then setenv slot {first.name}; '
            f"else setenv slot {second.name}; fi; "
            "setenv upgrade_available 0; setenv bootcount 0; saveenv; run bootcmd"
        ),
        "bootlimit": str(MAX_BOOT_ATTEMPTS),
        "upgrade_available": "0",
        "bootcount": "0",
    }


def render_env_text(board: Board) -> str:
    """Return the default environment as the file that CONFIG_DEFAULT_ENV_FILE names."""
    return "".join(f"{name}={value}\n" for name, value in render_env(board).items())


def render_uboot_config(board: Board) -> str:
    """Return the U-Boot configuration fragment that follows from the flash map and the environment."""
    env = board.flash.partition("u-boot-env")
    copy = env.size // 2
    return f"""# Generated from the board file of {board.name}. Change that file, not this one.
CONFIG_ENV_IS_IN_SPI_FLASH=y
CONFIG_ENV_OFFSET={env.offset:#x}
CONFIG_ENV_SIZE={copy:#x}
CONFIG_ENV_SECT_SIZE={board.flash.erase_block:#x}
CONFIG_SYS_REDUNDAND_ENVIRONMENT=y
CONFIG_ENV_OFFSET_REDUND={env.offset + copy:#x}
CONFIG_BOOTCOUNT_LIMIT=y
CONFIG_BOOTCOUNT_ENV=y
"""


def image(board: Board, variables: Mapping[str, str]) -> bytes:
    """Return the u-boot-env partition with `variables` in its first copy and the second one erased.

    ValueError if they do not fit or a name or value cannot be stored. Source: U-Boot's include/env_internal.h.
    """
    copy = board.flash.partition("u-boot-env").size // 2
    data = b""
    for name, value in sorted(variables.items()):
        if not name or "=" in name or not f"{name}{value}".isascii() or "\0" in name + value:
            raise ValueError(f"environment variable {name!r}: not storable")
        data += f"{name}={value}\0".encode("ascii")
    data += b"\0"
    room = copy - HEADER.size
    if len(data) > room:
        raise ValueError(f"the environment has {len(data)} bytes; {room} fit")
    data = data.ljust(room, b"\0")
    return (HEADER.pack(zlib.crc32(data), ACTIVE) + data).ljust(2 * copy, b"\xff")


def _fit_address(board: Board, slot: Slot) -> int:
    return board.flash.mapped_at + slot.fit.offset
