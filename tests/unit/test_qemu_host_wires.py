# SPDX-License-Identifier: Apache-2.0
"""The wires between BMC and host: levels, polarity, lines that nobody drives, and what a board lacks."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest

import fleetboard
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.host_wires import POLL_SECONDS, QemuPins, Wires, is_asserted, level_of
from fleet_qemu.qmp import Qmp, QmpClosed, QmpError
from fleet_qemu.qtest import Qtest
from fleetboard.model import Gpio

X1 = fleetboard.load(DEFAULT_BOARD_FILE)
MINI = fleetboard.load(DEFAULT_BOARD_FILE.with_name("fleet-mini.toml"))


class FakePins:
    """A BMC's pins; `outputs` holds what the BMC drives."""

    def __init__(self) -> None:
        self.levels: dict[str, bool] = {}
        self.outputs: dict[str, bool | None] = {}
        self.gone = False
        self.looks = 0

    async def drive(self, pin: Gpio, high: bool) -> None:
        if self.gone:
            raise QmpClosed
        self.levels[pin.name] = high

    async def sample(self, pins: Iterable[Gpio]) -> dict[str, bool | None]:
        self.looks += 1
        if self.gone:
            raise QmpClosed
        return {pin.name: self.outputs.get(pin.name) for pin in pins}


def changes_of(wires_of: fleetboard.Board) -> tuple[Wires, list[tuple[str, bool, float]]]:
    heard: list[tuple[str, bool, float]] = []
    return Wires(wires_of, lambda *change: heard.append(change)), heard


@pytest.mark.parametrize(
    ("board", "line", "asserted", "level"),
    [
        (X1, "POWER_BUTTON", True, False),
        (X1, "PS_PWROK", True, True),
        (X1, "SLP_S5", False, True),
        (MINI, "POST_COMPLETE", True, True),
    ],
)
def test_polarity(board: fleetboard.Board, line: str, asserted: bool, level: bool) -> None:
    assert level_of(board.gpio(line), asserted) is level
    assert is_asserted(board.gpio(line), level) is asserted


@pytest.mark.parametrize("board", [X1, MINI], ids=["low", "high"])
def test_an_output_that_nobody_drives_says_nothing(board: fleetboard.Board) -> None:
    assert not is_asserted(board.gpio("POWER_OUT"), None)


def test_a_pull_may_assert() -> None:
    assert is_asserted(X1.gpio("SLP_S5"), None)
    assert not is_asserted(Gpio("X", "A0", 0, direction="output", active_low=True, pull="none"), None)


def test_all_inputs_are_set_before_anything_else() -> None:
    async def run() -> None:
        wires, _ = changes_of(X1)
        pins = FakePins()
        await wires.connect(pins)
        await wires.disconnect()
        assert set(pins.levels) == {pin.name for pin in X1.gpios if pin.direction == "input"}
        assert {name for name, high in pins.levels.items() if not high} == {
            *("SLP_S5", "PLTRST", "PSU0_PRESENT"),  # asserted, active low
            "PS_PWROK",  # not asserted, active high
        }

    asyncio.run(run())


def test_levels_outlive_the_bmcs_power_and_its_reset() -> None:
    async def run() -> None:
        wires, _ = changes_of(X1)
        await wires.set("PS_PWROK", True)  # nobody there yet
        pins = FakePins()
        await wires.connect(pins)
        assert pins.levels["PS_PWROK"]
        pins.levels.clear()
        await wires.assert_all()
        assert pins.levels["PS_PWROK"]
        pins.gone = True
        await wires.set("PS_PWROK", False)
        await wires.disconnect()
        again = FakePins()
        await wires.connect(again)
        await wires.disconnect()
        assert not again.levels["PS_PWROK"]

    asyncio.run(run())


def test_a_board_without_a_line_lacks_the_wire() -> None:
    async def run() -> None:
        wires, _ = changes_of(MINI)
        pins = FakePins()
        await wires.connect(pins)
        await wires.set("RESET_BUTTON", True)
        await wires.set("POWER_OUT", True)  # not the host's
        await wires.disconnect()
        assert not {"RESET_BUTTON", "POWER_OUT"} & set(pins.levels)
        assert not wires.has("RESET_BUTTON")
        assert wires.has("POWER_BUTTON")

    asyncio.run(run())


def test_a_change_counts_when_the_next_look_confirms_it() -> None:
    wires, heard = changes_of(X1)
    wires.look({"POWER_OUT": True}, 0.98)
    wires.look({"POWER_OUT": False}, 1.0)
    assert heard == []
    wires.look({"POWER_OUT": False}, 1.02)
    assert heard == [("POWER_OUT", True, 1.0)]
    assert wires.heard["POWER_OUT"]
    wires.look({"POWER_OUT": None}, 1.2)  # an input again: the resistor releases it
    wires.look({"POWER_OUT": None}, 1.22)
    assert heard[1:] == [("POWER_OUT", False, 1.2)]


def test_a_glitch_is_none() -> None:
    wires, heard = changes_of(X1)
    for moment in range(10):
        wires.look({"RESET_OUT": moment % 2 == 0}, moment / 50)
    assert heard == []


def test_an_output_counts_from_its_first_release() -> None:
    """The emulated SoC drops the first "high" of a new output, for as long as the BMC likes."""
    wires, heard = changes_of(X1)
    for _ in range(2):
        for moment in range(100):
            wires.look({"POWER_OUT": False}, moment / 50)
        assert heard == []
        wires.look({"POWER_OUT": True}, 2.0)
        wires.look({"POWER_OUT": None}, 3.0)  # the BMC has been reset
    wires.look({"POWER_OUT": True}, 4.0)
    wires.look({"POWER_OUT": False}, 5.0)
    wires.look({"POWER_OUT": False}, 5.02)
    assert heard == [("POWER_OUT", True, 5.0)]


def test_the_bmcs_power_cut_releases_its_outputs() -> None:
    async def run() -> None:
        wires, heard = changes_of(X1)
        pins = FakePins()
        pins.outputs = {"POWER_OUT": True}
        await wires.connect(pins)
        async with asyncio.timeout(30):
            while not pins.looks:
                await asyncio.sleep(POLL_SECONDS)
            pins.outputs = {"POWER_OUT": False}
            while not heard:
                await asyncio.sleep(POLL_SECONDS)
        await wires.disconnect()
        assert [(name, asserted) for name, asserted, _ in heard] == [
            ("POWER_OUT", True),
            ("POWER_OUT", False),
        ]
        looks = pins.looks
        await asyncio.sleep(3 * POLL_SECONDS)
        assert pins.looks == looks

    asyncio.run(run())


class FakeQemu:
    """Registers and properties of the emulated GPIO controller."""

    def __init__(self, registers: dict[int, int]) -> None:
        self.registers = registers
        self.set: list[tuple[str, str, bool]] = []

    async def readl(self, address: int) -> int:
        return self.registers[address]

    async def execute(self, command: str, *, path: str, property: str, value: bool) -> None:
        assert command == "qom-set"
        if property == "gpioA7":
            raise QmpError("no such property")
        self.set.append((path, property, value))


def test_pins_of_the_emulated_soc() -> None:
    async def run() -> None:
        # A3 high and driven, A4 low and driven, A5 high but not driven; on the other board G1 high and driven
        qemu = FakeQemu({0x1E780000: 0x28, 0x1E780004: 0x18, 0x1E780020: 1 << 17, 0x1E780024: 1 << 17})
        pins = QemuPins(cast(Qmp, qemu), cast(Qtest, qemu))
        outputs: Any = [X1.gpio(name) for name in ("POWER_OUT", "RESET_OUT", "NMI_OUT")]
        assert await pins.sample(outputs) == {"POWER_OUT": True, "RESET_OUT": False, "NMI_OUT": None}
        assert await pins.sample([MINI.gpio("POWER_OUT")]) == {"POWER_OUT": True}
        await pins.drive(X1.gpio("PS_PWROK"), True)
        assert qemu.set == [("/machine/soc/gpio", "gpioA6", True)]
        with pytest.raises(QmpError, match=r"line A7 \(SLP_S5\): no such property"):
            await pins.drive(X1.gpio("SLP_S5"), True)

    asyncio.run(run())
