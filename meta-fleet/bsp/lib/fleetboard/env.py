# SPDX-License-Identifier: Apache-2.0
"""U-Boot's default environment and the configuration that follows from the flash map.

The FIT is copied to memory once and checked there: bootm on the mapped flash reads it twice, which took 2 s
longer in the emulator. Its size comes from its header and is bounded by the partition, so that a damaged
header cannot make the copy run over U-Boot.

Boot attempts of a new system are counted with U-Boot's own boot counter (doc/api/bootcount.rst). It is
written only while `upgrade_available` is 1, so a healthy system never writes flash at boot.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from fleetboard.model import Board

# The redundant environment's header: CRC32 of the data, then the flag byte "active".
HEADER = struct.Struct("<IB")
ACTIVE = 1
MAX_BOOT_ATTEMPTS = 3

# Every variable, in words; docs/board.md shows this table.
VARIABLES = {
    "slot": "slot to boot, `a` or `b`; anything else means `a`",
    "loadaddr": "where the FIT is copied to",
    "boot_a": "boots slot a",
    "boot_b": "boots slot b",
    "boot_fit": "copies the FIT at `fit`, checks it and starts its configuration `conf`; fails if it is bad",
    "bootcmd": "boots the slot in `slot`; if its FIT is bad, the other one; if both are, resets",
    "altbootcmd": "runs instead of `bootcmd` after `bootlimit` failed attempts: back to the other slot",
    "bootlimit": "attempts that a new system has to say that it works",
    "upgrade_available": "1 while a new system is on trial: attempts are counted in `bootcount`",
    "bootcount": "attempts so far",
}


def render_env(board: Board) -> dict[str, str]:
    """Return the default environment."""
    first, second = board.flash.slots
    fit_size = first.fit.size
    return {
        "slot": first.name,
        "loadaddr": f"{board.boot.fit_load:#x}",
        **{
            f"boot_{slot.name}": (
                f"setenv fit {board.flash.mapped_at + slot.fit.offset:#x}; "
                f"setenv conf conf-{slot.name}; run boot_fit"
            )
            for slot in board.flash.slots
        },
        # test compares signed numbers, hence the first of the two
        "boot_fit": (
            "fdt addr ${fit} && fdt header get fitsize totalsize "
            f"&& test 0x${{fitsize}} -gt 0 && test 0x${{fitsize}} -le {fit_size:#x} "
            "&& cp.b ${fit} ${loadaddr} ${fitsize} && bootm ${loadaddr}#${conf}"
        ),
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
CONFIG_CMD_FDT=y
CONFIG_CMD_MEMORY=y
CONFIG_CMD_SAVEENV=y
"""


def image(board: Board, variables: Mapping[str, str]) -> bytes:
    """Return the u-boot-env partition with `variables` in its first copy and the second one erased.

    ValueError if they do not fit or a name or value cannot be stored. Source: U-Boot's
    include/env_internal.h.
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
