# SPDX-License-Identifier: Apache-2.0
"""U-Boot's environment: the boot script is run by a shell with stand-ins for U-Boot's commands."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fleetboard
from fleetboard import env
from fleetboard.model import Board

BOARDS = Path(__file__).parents[2] / "meta-fleet/bsp/boards"
BOARD = fleetboard.load(BOARDS / "fleet-x1.toml")

# U-Boot's commands, as bash functions: each says what it did, and fails where U-Boot would.
COMMANDS = r"""
run() { eval "${!1}"; }
setenv() { printf -v "$1" %s "$2"; }
saveenv() { echo "save slot=$slot upgrade_available=$upgrade_available bootcount=$bootcount"; }
reset() { echo reset; exit 0; }
fdt() {
    if [ "$1" = addr ]; then last=$2; [[ " $present " == *" $2 "* ]]; return; fi
    [ "$1 $2 $4" = "header get totalsize" ] && printf -v "$3" %x $((totalsize))
}
cp.b() { echo "copy $1 $2 $3"; }
bootm() { echo "bootm $1"; if [[ " $good " == *" $last "* ]]; then echo started; exit 0; fi; return 1; }
"""


@dataclass
class Boot:
    """What the script did."""

    started: str | None
    lines: list[str]


def boot(
    board: Board = BOARD,
    command: str = "bootcmd",
    good: str = "ab",
    present: str = "ab",
    totalsize: int = 0x400000,
    **variables: str,
) -> Boot:
    """Run the environment's script; `good` and `present` name slots with a sound FIT and with any FIT."""
    addresses = {slot.name: f"{board.flash.mapped_at + slot.fit.offset:#x}" for slot in board.flash.slots}
    # fdt header get stores 32 bits, and test compares them as U-Boot's signed longs do on a 32-bit machine
    signed = totalsize - (1 << 32) if totalsize >= 1 << 31 else totalsize
    extras = {
        "good": " ".join(addresses[slot] for slot in good),
        "present": " ".join(addresses[slot] for slot in present),
        "totalsize": str(totalsize),
    }
    script = COMMANDS + 'test() { [ "$2" = = ] && { [ "$1" = "$3" ]; return; }; local v=$(($1)); '
    script += f'[ "$v" = {totalsize} ] && v={signed}; builtin test "$v" "$2" "$(($3))"; }}\n'
    values = {**env.render_env(board), **variables, **extras}
    script += "".join(f"{name}={quoted(value)}\n" for name, value in values.items())
    done = subprocess.run(
        ["bash", "-c", script + f"run {command}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    booted = [line.split("#")[1] for line in lines if line.startswith("bootm ")]
    return Boot(booted[-1] if lines[-1:] == ["started"] else None, lines)


def quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.mark.parametrize(
    ("slot", "expected"), [("a", "conf-a"), ("b", "conf-b"), ("", "conf-a"), ("z z", "conf-a")]
)
def test_the_slot_in_the_environment_is_booted(slot: str, expected: str) -> None:
    assert boot(slot=slot).started == expected


@pytest.mark.parametrize(("slot", "good", "expected"), [("a", "b", "conf-b"), ("b", "a", "conf-a")])
@pytest.mark.parametrize("present", ["ab", "one"], ids=["damaged", "erased"])
def test_a_slot_without_a_good_system_gives_way_to_the_other(
    slot: str, good: str, expected: str, present: str
) -> None:
    result = boot(slot=slot, good=good, present=good if present == "one" else "ab")
    assert result.started == expected
    assert ("bootm 0x83000000#conf-" + slot in result.lines) == (present == "ab")


def test_without_any_good_system_the_board_resets() -> None:
    result = boot(good="")
    assert result.started is None
    assert result.lines[-1] == "reset"
    assert len([line for line in result.lines if line.startswith("bootm")]) == 2


@pytest.mark.parametrize("size", [0, 0x8F0001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_header_with_an_impossible_size_is_never_copied(size: int) -> None:
    result = boot(totalsize=size)
    assert result.lines == ["reset"]


@pytest.mark.parametrize("size", [1, 0x8F0000])
def test_any_size_that_the_partition_holds_is_copied_whole(size: int) -> None:
    assert f"copy 0x20100000 0x83000000 {size:x}" in boot(totalsize=size).lines


@pytest.mark.parametrize(("slot", "other"), [("a", "b"), ("b", "a")])
def test_a_trial_that_failed_too_often_goes_back_and_ends(slot: str, other: str) -> None:
    result = boot(command="altbootcmd", slot=slot, upgrade_available="1", bootcount="4")
    assert result.lines[0] == f"save slot={other} upgrade_available=0 bootcount=0"
    assert result.started == f"conf-{other}"


@pytest.mark.parametrize("path", sorted(BOARDS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_board_boots_from_its_own_addresses(path: Path) -> None:
    board = fleetboard.load(path)
    for slot in board.flash.slots:
        result = boot(board, slot=slot.name)
        assert result.started == f"conf-{slot.name}"
        assert f"copy {0x20000000 + slot.fit.offset:#x} {board.boot.fit_load:#x} 400000" in result.lines


def test_every_variable_is_explained() -> None:
    assert set(env.VARIABLES) == set(env.render_env(BOARD))


def test_text_is_one_variable_a_line() -> None:
    lines = env.render_env_text(BOARD).splitlines()
    assert dict(line.split("=", 1) for line in lines) == env.render_env(BOARD)


def test_configuration_follows_the_flash_map() -> None:
    lines = env.render_uboot_config(BOARD).splitlines()
    values = dict(line.split("=") for line in lines if not line.startswith("#"))
    partition = BOARD.flash.partition("u-boot-env")
    assert int(values["CONFIG_ENV_OFFSET"], 16) == partition.offset
    assert int(values["CONFIG_ENV_OFFSET_REDUND"], 16) == partition.offset + partition.size // 2
    assert int(values["CONFIG_ENV_SIZE"], 16) == partition.size // 2
    assert int(values["CONFIG_ENV_SECT_SIZE"], 16) == BOARD.flash.erase_block
    assert values["CONFIG_ENV_IS_IN_SPI_FLASH"] == values["CONFIG_SYS_REDUNDAND_ENVIRONMENT"] == "y"


def decode(image: bytes, copy: int) -> dict[str, str]:
    """Read the first copy as U-Boot does: CRC over all that follows the flag."""
    crc, flag = struct.unpack_from("<IB", image)
    assert flag == 1
    assert crc == zlib.crc32(image[5:copy])
    text = image[5:copy].split(b"\0\0")[0].decode()
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


NAME = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=10)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)


@given(st.dictionaries(NAME, VALUE, min_size=1, max_size=10))
def test_an_environment_image_holds_its_variables(variables: dict[str, str]) -> None:
    partition = BOARD.flash.partition("u-boot-env")
    image = env.image(BOARD, variables)
    assert len(image) == partition.size
    assert decode(image, partition.size // 2) == variables
    assert set(image[partition.size // 2 :]) == {0xFF}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"a=b": "c"}, "'a=b': not storable"),
        ({"": "c"}, "not storable"),
        ({"a": "ä"}, "'a': not storable"),
        ({"a": "b\0c"}, "not storable"),
        ({"a": "x" * 65536}, "65531 fit"),
    ],
)
def test_what_cannot_be_stored_is_named(variables: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        env.image(BOARD, variables)
