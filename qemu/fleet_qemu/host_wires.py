# SPDX-License-Identifier: Apache-2.0
"""The wires between the BMC and the host: lines that the host drives, and lines on which it listens.

Everybody else says "asserted"; which level that is, is known to `level_of` and `is_asserted` only. The names
are those of the board file; a board without a line lacks the wire, and driving it does nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from fleet_qemu.qmp import Qmp, QmpClosed, QmpError
from fleet_qemu.qtest import Qtest
from fleetboard import Board
from fleetboard.model import Gpio

POWER_BUTTON, RESET_BUTTON, ID_BUTTON = "POWER_BUTTON", "RESET_BUTTON", "ID_BUTTON"
PS_PWROK, SLP_S5, PLTRST, POST_COMPLETE = "PS_PWROK", "SLP_S5", "PLTRST", "POST_COMPLETE"
POWER_OUT, RESET_OUT = "POWER_OUT", "RESET_OUT"

# What is asserted on a board whose host is in standby; every other input of the BMC is not.
STANDBY = frozenset({SLP_S5, PLTRST, "PSU0_PRESENT"})

POLL_SECONDS = 0.02

Changed = Callable[[str, bool, float], None]
"""Called with the line's name, whether it is asserted, and since when (event loop's clock, seconds)."""


class Pins(Protocol):
    """The BMC's pins as seen from outside. Methods raise QmpError or QmpClosed when the BMC is gone."""

    async def drive(self, pin: Gpio, high: bool) -> None:
        """Put a level on an input of the BMC."""

    async def sample(self, pins: Iterable[Gpio]) -> dict[str, bool | None]:
        """Whether each output of the BMC is high; None for one that the BMC does not drive."""


def level_of(pin: Gpio, asserted: bool) -> bool:
    """The level, True for high, that says `asserted` on this line."""
    return asserted != pin.active_low


def is_asserted(pin: Gpio, high: bool | None) -> bool:
    """What a level says on this line. A line that nobody drives (None) goes where its resistor pulls it."""
    if high is None:
        if pin.pull == "none":
            return False
        high = pin.pull == "up"
    return high != pin.active_low


class Wires:
    """All wires of one board. They keep what the host put on them while the BMC has no power."""

    def __init__(self, board: Board, changed: Changed) -> None:
        self._inputs = {pin.name: pin for pin in board.gpios if pin.direction == "input"}
        self._outputs = {pin.name: pin for pin in board.gpios if pin.direction == "output"}
        self._changed = changed
        self._levels = {name: name in STANDBY for name in self._inputs}
        self._heard = dict.fromkeys(self._outputs, False)
        self._suspects: dict[str, float] = {}  # outputs that looked changed once, and when
        self._settled: set[str] = set()  # outputs that have been released since the BMC drives them
        self._pins: Pins | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def driven(self) -> Mapping[str, bool]:
        """What the host asserts towards the BMC."""
        return MappingProxyType(self._levels)

    @property
    def heard(self) -> Mapping[str, bool]:
        """What the BMC asserts towards the host."""
        return MappingProxyType(self._heard)

    def has(self, name: str) -> bool:
        """Whether the host can drive a line of that name."""
        return name in self._inputs

    async def connect(self, pins: Pins) -> None:
        """The BMC has power: put every level on its pin, then listen."""
        self._pins = pins
        await self.assert_all()
        self._watch = asyncio.create_task(self._listen(pins))

    async def disconnect(self) -> None:
        """The BMC loses power: its outputs go where their resistors pull them."""
        self._pins = None
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        self._suspects.clear()
        self._settled.clear()
        now = asyncio.get_running_loop().time()
        for name, pin in self._outputs.items():
            self._hear(name, is_asserted(pin, None), now)

    async def set(self, name: str, asserted: bool) -> None:
        """Assert or release a line; at a BMC without power it takes effect when that comes."""
        if name in self._inputs:
            self._levels[name] = asserted
            await self._drive(name)

    async def assert_all(self) -> None:
        """Put all levels on their pins again, which a reset of the emulated SoC has cleared."""
        await asyncio.gather(*(self._drive(name) for name in self._inputs))

    async def _drive(self, name: str) -> None:
        pin = self._inputs[name]
        if self._pins is not None:
            with contextlib.suppress(QmpClosed):  # connecting puts it there
                await self._pins.drive(pin, level_of(pin, self._levels[name]))

    async def _listen(self, pins: Pins) -> None:
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(QmpClosed):
            while True:
                seen = await pins.sample(self._outputs.values())
                self.look(seen, clock())
                await asyncio.sleep(POLL_SECONDS)

    def look(self, seen: Mapping[str, bool | None], now: float) -> None:
        """Judge one look at the outputs: a change counts when the next look confirms it.

        Chipsets debounce their buttons so (16 ms). And a line that has just become an output counts from the
        first time that it is not asserted: the emulated SoC drops the first "high" of an output, so an
        active-low one is low until the BMC writes it again, which a busy BMC may do late.
        """
        for name, pin in self._outputs.items():
            asserted = is_asserted(pin, self._believed(pin, seen.get(name)))
            if asserted == self._heard[name]:
                self._suspects.pop(name, None)
            elif name in self._suspects:
                self._hear(name, asserted, self._suspects.pop(name))
            else:
                self._suspects[name] = now

    def _believed(self, pin: Gpio, high: bool | None) -> bool | None:
        if high is None:
            self._settled.discard(pin.name)
        elif not is_asserted(pin, high):
            self._settled.add(pin.name)
        elif pin.name not in self._settled:
            return None
        return high

    def _hear(self, name: str, asserted: bool, since: float) -> None:
        if asserted != self._heard[name]:
            self._heard[name] = asserted
            self._changed(name, asserted, since)


# AST2600, first GPIO controller: data and direction registers, one set for four banks of eight lines.
# Source: QEMU, hw/gpio/aspeed_gpio.c.
_GPIO = "/machine/soc/gpio"
_GPIO_BASE = 0x1E78_0000
_SETS = (
    *((0x000, 0x004), (0x020, 0x024), (0x070, 0x074), (0x078, 0x07C)),  # A-D, E-H, I-L, M-P
    *((0x080, 0x084), (0x088, 0x08C), (0x1E0, 0x1E4)),  # Q-T, U-X, Y-Z
)


class QemuPins:
    """`Pins` of an emulated AST2600."""

    def __init__(self, qmp: Qmp, qtest: Qtest) -> None:
        self._qmp = qmp
        self._qtest = qtest

    async def drive(self, pin: Gpio, high: bool) -> None:
        """Set a line; QEMU raises the interrupt that the guest has asked for. No effect on an output."""
        try:
            await self._qmp.execute("qom-set", path=_GPIO, property=f"gpio{pin.line}", value=high)
        except QmpError as error:
            raise QmpError(f"line {pin.line} ({pin.name}): {error}") from None

    async def sample(self, pins: Iterable[Gpio]) -> dict[str, bool | None]:
        """Read the registers of each bank in use; a line whose direction bit is clear is not driven."""
        lines = {pin.name: divmod(pin.offset, 32) for pin in pins}
        words: dict[int, tuple[int, int]] = {}
        for index in {index for index, _ in lines.values()}:
            data, direction = _SETS[index]
            words[index] = tuple(  # type: ignore[assignment]
                await asyncio.gather(
                    self._qtest.readl(_GPIO_BASE + data), self._qtest.readl(_GPIO_BASE + direction)
                )
            )
        return {
            name: bool(words[index][0] >> bit & 1) if words[index][1] >> bit & 1 else None
            for name, (index, bit) in lines.items()
        }
