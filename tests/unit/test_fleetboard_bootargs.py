# SPDX-License-Identifier: Apache-2.0
"""The command line: parsed back by the rules of the kernel's dm-init, and refused where the kernel would."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import fleetboard
from fleetboard import bootargs
from fleetboard.model import SLOT_NAMES

BOARD = fleetboard.load(Path(__file__).parents[2] / "meta-fleet/bsp/boards/fleet-x1.toml")
ROOT_HASH, SALT = "0123456789abcdef" * 4, "5a" * 32


def verity(**changes: object) -> bootargs.Verity:
    values: dict[str, object] = {
        "root_hash": ROOT_HASH,
        "salt": SALT,
        "data_blocks": 7000,
        "hash_start_block": 7001,
    }
    return bootargs.Verity(**{**values, **changes})  # type: ignore[arg-type]


def words(line: str) -> dict[str, str]:
    """Split as the kernel does: at spaces outside double quotes, quotes removed."""
    return {word.partition("=")[0]: word.partition("=")[2] for word in shlex.split(line)}


@pytest.mark.parametrize("slot", SLOT_NAMES)
def test_root_is_the_slot_checked_by_dm_verity(slot: str) -> None:
    found = words(bootargs.render(BOARD, slot, verity()))
    name, uuid, minor, flags, table = found["dm-mod.create"].split(",")
    assert (name, uuid, minor, flags) == ("rofs", "", "0", "ro")
    mtd = next(p.index for p in BOARD.flash.partitions if p.name == f"rofs-{slot}")
    sectors = 7000 * 4096 // 512
    assert table.split() == [
        *("0", str(sectors), "verity", "1"),
        *(f"31:{mtd}", f"31:{mtd}", "4096", "4096"),
        *("7000", "7001", "sha256", ROOT_HASH, SALT),
    ]
    assert found["root"] == "/dev/dm-0"
    assert "ro" in found
    assert found["rootfstype"] == "squashfs"
    assert found["fleet.slot"] == slot
    assert found["console"] == "ttyS4,115200n8"
    assert int(found["panic"]) > 0


def test_slots_use_different_flash() -> None:
    lines = {bootargs.render(BOARD, slot, verity()) for slot in SLOT_NAMES}
    assert len(lines) == 2


def test_verity_options_are_counted() -> None:
    line = bootargs.render(BOARD, "a", verity(options=("panic_on_corruption", "check_at_most_once")))
    assert words(line)["dm-mod.create"].endswith(" 2 panic_on_corruption check_at_most_once")


def test_extra_words_come_last() -> None:
    assert bootargs.render(BOARD, "a", verity(), ["quiet", "loglevel=3"]).endswith(" quiet loglevel=3")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root_hash": "12"}, "64 hexadecimal digits"),
        ({"root_hash": "G" * 64}, "hexadecimal"),
        ({"salt": "abc"}, "pairs"),
        ({"salt": '" init=/bin/sh "'}, "hexadecimal"),
        ({"data_blocks": 0}, "data blocks"),
        ({"hash_start_block": 6999}, "after 7000 data blocks"),
        ({"block_size": 512}, "1024, 2048 or 4096"),
        ({"algorithm": "md5"}, "one of sha256"),
        ({"options": ("a b",)}, "option"),
    ],
)
def test_what_the_kernel_would_refuse_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        verity(**changes)


def test_a_tree_beyond_the_partition_is_refused() -> None:
    blocks = BOARD.flash.partition("rofs-a").size // 4096
    with pytest.raises(ValueError, match="beyond the end of rofs-a"):
        bootargs.render(BOARD, "a", verity(data_blocks=blocks, hash_start_block=blocks))


def test_an_unknown_slot_is_refused() -> None:
    with pytest.raises(KeyError, match="rofs-a"):
        bootargs.render(BOARD, "c", verity())
