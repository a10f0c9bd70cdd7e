# SPDX-License-Identifier: Apache-2.0
"""The loader: what the board files say, every kind of mistake with its message, and no crash on any input."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fleetboard
from fleetboard import bootargs, dts, env, fit, tables
from fleetboard.model import SLOT_NAMES

BOARDS = Path(__file__).parents[2] / "meta-fleet/bsp/boards"
X1_PATH = BOARDS / "fleet-x1.toml"
X1_TEXT = X1_PATH.read_text(encoding="utf-8")
X1_DATA = tomllib.loads(X1_TEXT)
ALL = sorted(BOARDS.glob("*.toml"))

SENSORS = [
    "PSU0_CURRENT_IN",
    "PSU0_CURRENT_OUT",
    "PSU0_FAN_0",
    "SYS_FAN",
    "SYS_FAN1",
    "SYS_FAN2",
    "CPU_CORE_VR_POUT",
    "CPU_POWER",
    "CPU_SOC_VR_POUT",
    "DIMM_1_VR_POUT",
    "DIMM_2_VR_POUT",
    "CPU_CORE_MOSFET",
    "CPU_TEMP",
    "DIMM_MOSFET_1",
    "DIMM_MOSFET_2",
    "DIMM_TEMP_A1",
    "DIMM_TEMP_B1",
    "NIC_TEMP",
    "INLET_TEMP",
]

FLASH_MAP = [
    ("u-boot", 0x0, 0xE0000),
    ("u-boot-env", 0xE0000, 0x20000),
    ("fit-a", 0x100000, 0x8F0000),
    ("manifest-a", 0x9F0000, 0x10000),
    ("rofs-a", 0xA00000, 0x2800000),
    ("fit-b", 0x3200000, 0x8F0000),
    ("manifest-b", 0x3AF0000, 0x10000),
    ("rofs-b", 0x3B00000, 0x2800000),
    ("rwfs", 0x6300000, 0x1D00000),
]


def toml(value: Any) -> str:
    """Write a value as TOML, inline, so that any mutated tree can be fed to the loader as text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'


def document(data: dict[str, Any]) -> str:
    return "\n".join(f"{quoted(key)} = {toml(value)}" for key, value in data.items())


def mutated(*path: str | int, value: Any = None, delete: bool = False) -> str:
    """Return X1's file with one key replaced or deleted; the last element of path is the key."""
    data = copy.deepcopy(X1_DATA)
    table: Any = data
    for step in path[:-1]:
        table = table[step]
    if delete:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    return document(data)


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(fleetboard.BoardError) as caught:
        fleetboard.parse(text, "some/board.toml")
    assert str(caught.value).startswith("some/board.toml: ")
    for line in caught.value.problems:
        assert line in str(caught.value)
    return caught.value.problems


def render_everything(board: fleetboard.Board) -> None:
    verity = bootargs.Verity("ab" * 32, "-", 1, 1)
    for slot in SLOT_NAMES:
        dts.render(board, slot, bootargs.render(board, slot, verity))
    fit.render(board, Path("zImage"), {slot: Path(slot) for slot in SLOT_NAMES})
    env.image(board, env.render_env(board))
    env.render_uboot_config(board)
    tables.render(board)


def test_x1_has_the_flash_map_of_the_first_release() -> None:
    board = fleetboard.load(X1_PATH)
    assert [(p.name, p.offset, p.size) for p in board.flash.partitions] == FLASH_MAP
    assert [p.index for p in board.flash.partitions] == list(range(9))
    assert board.flash.size == board.flash.partition("rwfs").end == 128 << 20


def test_x1_names_every_sensor_once() -> None:
    names = [sensor.name for _, _, sensor in fleetboard.load(X1_PATH).sensors()]
    assert sorted(names) == sorted(SENSORS)


def test_x1_interfaces() -> None:
    board = fleetboard.load(X1_PATH)
    assert (board.console_bmc.tty, board.console_bmc.emulator_serial, board.console_bmc.baud) == (
        "ttyS4",
        0,
        115200,
    )
    assert (board.console_host.tty, board.console_host.emulator_serial) == ("ttyS0", 1)
    assert (board.kcs.channel, board.kcs.io_address, board.kcs.device) == (3, 0xCA2, "ipmi-kcs3")
    assert {(f.name, f.protocol, f.port) for f in board.network.forwards} == {
        ("ssh", "tcp", 22),
        ("ipmi", "udp", 623),
        ("https", "tcp", 443),
        ("host-console", "tcp", 2200),
    }
    assert board.emulator.min_version == (7, 2)
    assert board.memory == 1 << 30


def test_the_kernel_binds_only_what_is_powered_and_nobody_elses() -> None:
    board = fleetboard.load(X1_PATH)
    bound = {device.name for bus, device in board.devices() if bus.probed_at_boot(device)}
    assert board.bus("dimm").owner == board.bus("vr").owner == "host"
    assert not bound & {device.name for device in (*board.bus("dimm").devices, *board.bus("vr").devices)}
    assert "cpu-temp" not in bound
    assert {"inlet-temp", "hot-swap", "fan-controller", "fru"} <= bound


def test_a_standby_device_on_the_hosts_bus_is_not_bound_by_the_kernel() -> None:
    board = fleetboard.parse(mutated("i2c", 0, "device", 2, "domain", value="standby"))
    bus = board.bus("dimm")
    assert [device.domain for device in bus.devices] == ["host", "host", "standby", "host"]
    assert not any(bus.probed_at_boot(device) for device in bus.devices)


def test_lines_are_numbered_by_bank_and_pin() -> None:
    board = fleetboard.load(X1_PATH)
    assert (board.gpio("POWER_BUTTON").line, board.gpio("POWER_BUTTON").offset) == ("A0", 0)
    assert (board.gpio("PLTRST").line, board.gpio("PLTRST").offset) == ("B0", 8)
    assert fleetboard.load(BOARDS / "fleet-mini.toml").gpio("PS_PWROK").offset == 6 * 8 + 3


def test_names_that_are_not_there_are_answered_with_those_that_are() -> None:
    board = fleetboard.load(X1_PATH)
    for lookup, name in ((board.gpio, "PS_PWROK"), (board.bus, "dimm"), (board.flash.partition, "rwfs")):
        with pytest.raises(KeyError, match=name):
            lookup("nothing")


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_board_file_loads_and_is_named_after_its_board(path: Path) -> None:
    board = fleetboard.load(path)
    assert board.name == path.stem
    render_everything(board)


def test_the_boards_differ_where_a_port_may_differ() -> None:
    x1, mini = (fleetboard.load(BOARDS / f"fleet-{name}.toml") for name in ("x1", "mini"))
    for part in ("identity", "emulator", "flash", "gpios", "i2c", "kcs", "memory", "console_host"):
        assert getattr(x1, part) != getattr(mini, part), part


def test_a_board_cannot_be_changed() -> None:
    board = fleetboard.load(X1_PATH)
    with pytest.raises(AttributeError):
        board.flash.size = 0  # type: ignore[misc]
    _, device = next(board.devices())
    with pytest.raises(TypeError):
        device.emulator_options["rom-size"] = 1  # type: ignore[index]


I2C = ("i2c", 0, "device", 0)
PART = ("flash", "partition")

MISTAKES: list[tuple[str, tuple[str | int, ...], Any, str, str]] = [
    # what, key path, value, expected key, expected words
    (
        "unknown key",
        ("flash", "colour"),
        1,
        "flash.colour",
        "unknown key; allowed here: erase_block, partition, size",
    ),
    ("unknown table", ("extras",), {}, "extras", "unknown key"),
    ("key with a line break", ("a\nb",), 1, "'a\\nb'", "unknown key"),
    ("wrong schema", ("schema",), 2, "schema", "2 is not allowed"),
    (
        "string for integer",
        ("kcs", "io_address"),
        "0xca2",
        "kcs.io_address",
        "is a string; expected an integer",
    ),
    ("boolean for integer", ("kcs", "channel"), True, "kcs.channel", "is a boolean"),
    ("integer for string", ("identity", "name"), 7, "identity.name", "is an integer"),
    ("table for array", ("gpio",), {}, "gpio", "is a table; expected an array"),
    ("array for table", ("kcs",), [], "kcs", "is an array; expected a table"),
    ("scalar in array", ("gpio", 0), 3, "gpio[0]", "expected a table"),
    ("bad board name", ("identity", "name"), "Fleet X1", "identity.name", "'Fleet X1' is not allowed"),
    ("quote in model", ("identity", "model"), 'X"1', "identity.model", "not allowed"),
    ("unknown SoC", ("soc", "name"), "ast2700", "soc.name", "one of ast2600"),
    ("odd memory", ("soc", "memory_mib"), 768, "soc.memory_mib", "one of 256, 512, 1024, 2048"),
    ("unknown machine", ("emulator", "machine"), "virt", "emulator.machine", "one of ast2600-evb"),
    ("unknown chip", ("emulator", "fmc_model"), "w25q80", "emulator.fmc_model", "mx66l1g45g"),
    ("bad version", ("emulator", "min_version"), "seven", "emulator.min_version", "such as 7.2"),
    ("unknown UART", ("console", "bmc", "uart"), "uart9", "console.bmc.uart", "one of uart1"),
    ("odd baud", ("console", "bmc", "baud"), 12345, "console.bmc.baud", "one of 9600"),
    (
        "one UART twice",
        ("console", "host", "uart"),
        "uart5",
        "console.host.uart",
        "already the BMC's console",
    ),
    ("FIT over kernel", ("boot", "fit_load"), 0x83F0_0000, "boot.kernel_load", "after fit_load"),
    (
        "kernel beyond DRAM",
        ("boot", "kernel_load"),
        0xC000_0000,
        "boot.kernel_load",
        "0xc0000000 is not allowed",
    ),
    ("KCS channel", ("kcs", "channel"), 5, "kcs.channel", "from 1 to 4"),
    ("odd KCS port", ("kcs", "io_address"), 0xCA3, "kcs.io_address", "multiple of 0x2"),
    ("unknown watchdog", ("watchdog", 0, "controller"), "wdt9", "watchdog[0].controller", "one of wdt1"),
    ("no watchdog", ("watchdog",), [], "watchdog", "at least 1"),
    (
        "port 0",
        ("network", "forward", 0, "port"),
        0,
        "network.forward[0].port",
        ": 0 is not allowed; expected an integer from 1 to 65535",
    ),
    ("port twice", ("network", "forward", 2, "port"), 22, "network.forward[2].port", "used twice"),
    (
        "unknown protocol",
        ("network", "forward", 0, "protocol"),
        "sctp",
        "network.forward[0].protocol",
        "tcp, udp",
    ),
    ("flash not the chip's", ("flash", "size"), 64 << 20, "flash.size", "is not the size of mx66l1g45g"),
    ("erase block", ("flash", "erase_block"), 4096, "flash.erase_block", "0x10000"),
    ("unaligned", (*PART, 2, "offset"), 0x100001, "flash.partition[2].offset", "multiple of 0x10000"),
    (
        "past the end",
        (*PART, 8, "size"),
        0x1D10000,
        "flash.partition[8].size",
        "65536 bytes past|0x10000 bytes past",
    ),
    ("overlap", (*PART, 3, "offset"), 0x9E0000, "flash.partition[3].offset", "overlaps fit-a"),
    ("partition twice", (*PART, 8, "name"), "fit-a", "flash.partition[8].name", "used twice"),
    ("partition renamed", (*PART, 8, "name"), "data", "flash.partition", "no partition rwfs"),
    ("slots differ", (*PART, 7, "size"), 0x2700000, "flash.partition", "rofs-a and rofs-b differ"),
    ("one environment", (*PART, 1, "size"), 0x10000, "flash.partition", "smaller than its two copies"),
    ("bank too far", ("gpio", 0, "line"), "AA0", "gpio[0].line", "from A0 to Z7"),
    ("pin too far", ("gpio", 0, "line"), "A8", "gpio[0].line", "from A0 to Z7"),
    ("line twice", ("gpio", 1, "line"), "A0", "gpio[1].line", "'A0' is used twice"),
    ("GPIO name twice", ("gpio", 1, "name"), "POWER_BUTTON", "gpio[1].name", "used twice"),
    ("direction", ("gpio", 0, "direction"), "inout", "gpio[0].direction", "input, output"),
    ("level", ("gpio", 0, "active"), 1, "gpio[0].active", "low, high"),
    ("pull", ("gpio", 0, "pull"), "floating", "gpio[0].pull", "up, down, none"),
    (
        "unknown bus",
        ("i2c", 0, "bus"),
        16,
        "i2c[0].bus",
        "16 is not allowed; expected an integer from 0 to 15",
    ),
    ("bus twice", ("i2c", 1, "bus"), 0, "i2c[1].bus", "used twice"),
    ("role twice", ("i2c", 1, "role"), "dimm", "i2c[1].role", "used twice"),
    ("owner", ("i2c", 0, "owner"), "nobody", "i2c[0].owner", "bmc, host"),
    ("frequency", ("i2c", 0, "frequency"), 5, "i2c[0].frequency", "is not allowed"),
    ("reserved address", (*I2C, "address"), 0x03, "i2c[0].device[0].address", "from 0x8 to 0x77"),
    ("address twice", (*I2C, "address"), 0x19, "i2c[0].device[1].address", "already belongs to dimm-a1-temp"),
    (
        "emulator's own",
        ("i2c", 5, "bus"),
        7,
        "i2c[5].device[0].address",
        "already belongs to the emulated machine",
    ),
    ("device twice", (*I2C, "name"), "fru", "i2c[5].device[0].name", "used twice"),
    ("name too long", (*I2C, "name"), "a" * 32, "i2c[0].device[0].name", "at most 31"),
    ("compatible", (*I2C, "compatible"), "tmp105", "i2c[0].device[0].compatible", "vendor,device"),
    ("domain", (*I2C, "domain"), "usb", "i2c[0].device[0].domain", "standby, host"),
    ("emulator option type", (*I2C, "emulator", "options"), {"x": []}, "emulator.options.x", "is an array"),
    (
        "emulator option comma",
        (*I2C, "emulator", "options"),
        {"x": "a,b"},
        "emulator.options.x",
        "not allowed",
    ),
    (
        "emulator option name",
        (*I2C, "emulator", "options"),
        {"x=1,y": 1},
        "emulator.options.'x=1,y'",
        "option name",
    ),
    ("own emulator option", (*I2C, "emulator", "options"), {"id": "x"}, "emulator.options.id", "own keys"),
    ("sensor twice", (*I2C, "sensor", 0, "name"), "CPU_TEMP", "sensor[0].name", "used twice"),
    ("sensor name too long", (*I2C, "sensor", 0, "name"), "A" * 17, "sensor[0].name", "at most 16"),
    (
        "channel",
        (*I2C, "sensor", 0, "channel"),
        "humidity1",
        "sensor[0].channel",
        "temp, power, curr, in, fan",
    ),
    (
        "channel twice",
        ("i2c", 2, "device", 0, "sensor", 1, "channel"),
        "power3",
        "sensor[1].channel",
        "used twice",
    ),
    ("scale", (*I2C, "sensor", 0, "scale"), 0.0, "sensor[0].scale", "0 is not allowed"),
    (
        "scale not a number",
        (*I2C, "sensor", 0, "scale"),
        float("nan"),
        "sensor[0].scale",
        "nan is not allowed",
    ),
    ("pwm of a thermometer", (*I2C, "sensor", 0, "pwm"), "pwm1", "sensor[0].pwm", "only a fan"),
    ("fault of a thermometer", (*I2C, "sensor", 0, "fault"), "PLTRST", "sensor[0].fault", "unknown key"),
    (
        "unknown fault line",
        ("i2c", 1, "device", 0, "sensor", 0, "fault"),
        "X",
        "sensor[0].fault",
        "SYS_FAN_FAULT",
    ),
    (
        "fault is an output",
        ("i2c", 1, "device", 0, "sensor", 0, "fault"),
        "ID_LED",
        "sensor[0].fault",
        "an output",
    ),
    (
        "fault twice",
        ("i2c", 1, "device", 0, "sensor", 1, "fault"),
        "SYS_FAN_FAULT",
        "sensor[1].fault",
        "used twice",
    ),
]


@pytest.mark.parametrize(
    ("path", "value", "key", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_is_named_with_key_and_remedy(
    path: tuple[str | int, ...], value: Any, key: str, words: str
) -> None:
    found = problems(mutated(*path, value=value))
    assert any(key in line.partition(": ")[0] and re.search(words, line) for line in found), found


@pytest.mark.parametrize(
    "path",
    [
        ("identity",),
        ("identity", "model"),
        ("flash", "size"),
        ("flash", "partition", 0, "size"),
        ("gpio", 0, "line"),
        ("i2c", 0, "device", 0, "compatible"),
        ("i2c", 0, "device", 0, "emulator", "type"),
        ("i2c", 0, "device", 0, "sensor", 0, "channel"),
    ],
    ids=str,
)
def test_a_missing_key_is_named(path: tuple[str | int, ...]) -> None:
    found = problems(mutated(*path, delete=True))
    assert any(str(path[-1]) in line and "missing; expected" in line for line in found), found


def test_all_mistakes_are_listed_at_once() -> None:
    data = copy.deepcopy(X1_DATA)
    data["kcs"]["channel"] = 9
    data["gpio"][1]["line"] = "A0"
    data["flash"]["partition"][2]["offset"] = 0x100001
    data["colour"] = "red"
    found = problems(document(data))
    assert len(found) == 4
    keys = [line.partition(": ")[0] for line in found]
    assert sorted(keys) == ["colour", "flash.partition[2].offset", "gpio[1].line", "kcs.channel"]


def test_a_wrong_flash_size_does_not_accuse_every_partition() -> None:
    assert len(problems(mutated("flash", "size", value="big"))) == 1


def test_an_unreadable_file_is_a_board_error(tmp_path: Path) -> None:
    with pytest.raises(fleetboard.BoardError, match="cannot be read"):
        fleetboard.load(tmp_path / "none.toml")
    (tmp_path / "latin1.toml").write_bytes(b'name = "\xe4"')
    with pytest.raises(fleetboard.BoardError, match="not UTF-8"):
        fleetboard.load(tmp_path / "latin1.toml")


@pytest.mark.parametrize("text", ["schema = ", "a = 1\na = 2", "a = " + "[" * 5000, "a = " + "9" * 5000])
def test_text_that_is_not_toml_is_a_board_error(text: str) -> None:
    assert len(problems(text)) == 1


def test_an_empty_file_names_what_a_board_needs() -> None:
    keys = [line.partition(": ")[0] for line in problems("")]
    assert sorted(keys) == sorted(
        ["schema", "identity", "soc", "emulator", "boot", "console", "network", "kcs", "watchdog", "flash"]
    )


def loads_or_complains(text: str) -> None:
    try:
        board = fleetboard.parse(text)
    except fleetboard.BoardError:
        return
    render_everything(board)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += paths(item, (*path, key))
    return found


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 40), 1 << 40)
    | st.sampled_from([0, 1, 0x10000, 0x8000000])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["A0", "fit-a", "uart5", "pwm1", "CPU_TEMP", "dimm", "../x", 'a"b', "x\ny"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


def without_none(value: Any) -> Any:
    """TOML has no null; an empty table stands in."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return {} if value is None else value


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits=st.lists(st.tuples(st.sampled_from(paths(X1_DATA)), VALUES), min_size=1, max_size=3))
def test_any_values_in_any_keys_never_crash(edits: list[tuple[tuple[str | int, ...], Any]]) -> None:
    data = copy.deepcopy(X1_DATA)
    for path, value in edits:
        table: Any = data
        try:
            for step in path[:-1]:
                table = table[step]
            table[path[-1]] = without_none(value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier edit took this path away
    loads_or_complains(document(data))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(position=st.integers(0, len(X1_TEXT) - 1), length=st.integers(0, 60), insert=st.text(max_size=10))
def test_any_damage_to_the_text_never_crashes(position: int, length: int, insert: str) -> None:
    loads_or_complains(X1_TEXT[:position] + insert + X1_TEXT[position + length :])
