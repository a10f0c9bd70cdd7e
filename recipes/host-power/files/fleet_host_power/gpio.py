# SPDX-License-Identifier: Apache-2.0
"""The power lines, by their kernel names. Polarity ends here: True is asserted, everywhere else.

The implementation is libgpiod's (1.6, Debian's python3-libgpiod), imported only when it is used.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from fleet_bmc_common import ServiceError
from fleet_bmc_common.board import Gpio

Changed = Callable[[str, bool], None]

_CONSUMER = "host-power"


class Lines(Protocol):
    """What the service asks of the board's lines."""

    def levels(self) -> dict[str, bool]:
        """Return the inputs as they are now, or were at the last change told."""

    def listen(self, changed: Changed) -> None:
        """From now on call `changed` with the name and new level of each input that changes, in order."""

    def poll(self) -> None:
        """Tell of changes that are already there, before anything is decided without them."""

    def drive(self, name: str, asserted: bool) -> None:
        """Assert or release an output."""

    def close(self) -> None:
        """Release the outputs and let go of all lines."""


class KernelLines:
    """Lines of the kernel's GPIO character devices."""

    def __init__(self, inputs: Iterable[Gpio], outputs: Iterable[Gpio]) -> None:
        """Take the lines; outputs are released, without a moment in between when they are asserted.

        Raises ServiceError that names a line which is not there or in use.
        """
        gpiod = _gpiod()
        self._changed: Changed | None = None
        self._levels: dict[str, bool] = {}
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._rising = gpiod.LineEvent.RISING_EDGE
        for gpio in inputs:
            line = _request(gpiod, gpio, type=gpiod.LINE_REQ_EV_BOTH_EDGES)
            self._inputs[gpio.name] = line
        for gpio in outputs:
            # The value given here is logical, too, and is set before the line becomes an output.
            line = _request(gpiod, gpio, type=gpiod.LINE_REQ_DIR_OUT, default_val=0)
            # Once more: QEMU's AST2600 loses what is written before.
            line.set_value(0)
            self._outputs[gpio.name] = line
        for name, line in self._inputs.items():
            _events(line)  # of before; the level has them
            self._levels[name] = bool(line.get_value())

    def levels(self) -> dict[str, bool]:
        """Return the inputs as they were at the last change told."""
        return dict(self._levels)

    def listen(self, changed: Changed) -> None:
        """From now on call `changed`, from the running event loop."""
        self._changed = changed
        loop = asyncio.get_running_loop()
        for line in self._inputs.values():
            loop.add_reader(line.event_get_fd(), self.poll)

    def poll(self) -> None:
        """Tell of what the kernel has queued, over all lines in the order in which it happened.

        The kernel's queue is short (16 events of a line): where it ran over, the level has the last word. An
        event that says what is known already has lost its other half in the queue, and is passed over.
        """
        found = [
            (event.sec, event.nsec, name, event.type == self._rising)
            for name, line in self._inputs.items()
            for event in _events(line)
        ]
        found.sort(key=lambda event: event[:2])
        for _, _, name, level in found:
            self._tell(name, level)
        for name in {event[2] for event in found}:
            line = self._inputs[name]
            level = bool(line.get_value())
            if not line.event_wait(sec=0):
                self._tell(name, level)

    def _tell(self, name: str, level: bool) -> None:
        if self._levels[name] != level:
            self._levels[name] = level
            if self._changed:
                self._changed(name, level)

    def drive(self, name: str, asserted: bool) -> None:
        """Assert or release an output."""
        self._outputs[name].set_value(int(asserted))

    def close(self) -> None:
        """Release the outputs. They stay outputs: the kernel leaves a line as it is."""
        for line in self._outputs.values():
            line.set_value(0)
        for line in (*self._inputs.values(), *self._outputs.values()):
            line.release()


def _gpiod() -> Any:
    try:
        import gpiod
    except ImportError as error:
        raise ServiceError(f"Python's gpiod cannot be used: {error}; the image needs python3-gpiod") from None
    if not hasattr(gpiod, "LINE_REQ_EV_BOTH_EDGES"):
        raise ServiceError("Python's gpiod has another interface than that of libgpiod 1.6")
    return gpiod


def _request(gpiod: Any, gpio: Gpio, **request: int) -> Any:
    try:
        line = gpiod.find_line(gpio.name)
        if line is None:
            raise ServiceError(
                f"the kernel has no GPIO line {gpio.name}; the board file and the device tree do not agree"
            )
        flags = gpiod.LINE_REQ_FLAG_ACTIVE_LOW if gpio.active_low else 0
        line.request(consumer=_CONSUMER, flags=flags, **request)
    except OSError as error:
        raise ServiceError(f"the GPIO line {gpio.name} cannot be taken: {error.strerror}") from None
    return line


def _events(line: Any) -> list[Any]:
    found: list[Any] = []
    while line.event_wait(sec=0):
        found += line.event_read_multiple()
    return found


def choose(gpios: Mapping[str, Gpio], names: Iterable[str], *, output: bool) -> list[Gpio]:
    """Return the board's lines of these names.

    Raises ServiceError for one whose direction is the other.
    """
    found = [gpios[name] for name in names if name in gpios]
    for gpio in found:
        if gpio.output != output:
            wanted = "output" if output else "input"
            raise ServiceError(
                f"the GPIO line {gpio.name} must be an {wanted}; the board file says otherwise"
            )
    return found
