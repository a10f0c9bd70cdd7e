# SPDX-License-Identifier: Apache-2.0
"""The kernel's lines through libgpiod, of which the test plays the part."""

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from fleet_bmc_common import ServiceError
from fleet_bmc_common.board import Gpio
from fleet_host_power.gpio import KernelLines, choose

OK = Gpio("PS_PWROK", False, False)
S5 = Gpio("SLP_S5", True, False)
OUT = Gpio("POWER_OUT", True, True)


class Event(NamedTuple):
    type: int
    sec: int
    nsec: int


class FakeLine:
    """A line of libgpiod 1.6; `value` is logical."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = 0
        self.queue: list[Event] = []
        self.calls: list[tuple[str, Any]] = []
        self.requested: dict[str, Any] | None = None
        self.is_busy = False
        self._read, self._write = os.pipe()

    def request(self, **arguments: Any) -> None:
        if self.is_busy:
            raise OSError(16, "Device or resource busy")
        self.requested = arguments

    def event_get_fd(self) -> int:
        return self._read

    def event_wait(self, sec: int) -> bool:
        assert sec == 0
        return bool(self.queue)

    def event_read_multiple(self) -> list[Event]:
        """At most 16, as the real one."""
        found, self.queue = self.queue[:16], self.queue[16:]
        os.read(self._read, len(found))
        return found

    def get_value(self) -> int:
        return self.value

    def set_value(self, value: int) -> None:
        self.value = value
        self.calls.append(("set", value))

    def release(self) -> None:
        self.calls.append(("release", None))

    def happen(self, *edges: tuple[int, int]) -> None:
        """Queue edges: time in ns and level."""
        for time, level in edges:
            self.value = level
            self.queue.append(Event(FakeGpiod.LineEvent.RISING_EDGE if level else 2, *divmod(time, 10**9)))
            os.write(self._write, b"x")

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class FakeGpiod:
    LINE_REQ_DIR_OUT = 3
    LINE_REQ_EV_BOTH_EDGES = 6
    LINE_REQ_FLAG_ACTIVE_LOW = 4

    class LineEvent:
        RISING_EDGE = 1

    def __init__(self, *names: str) -> None:
        self.lines = {name: FakeLine(name) for name in names}

    def find_line(self, name: str) -> FakeLine | None:
        return self.lines.get(name)


@pytest.fixture
def gpiod(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpiod]:
    fake = FakeGpiod("PS_PWROK", "SLP_S5", "POWER_OUT")
    monkeypatch.setitem(sys.modules, "gpiod", fake)
    yield fake
    for line in fake.lines.values():
        line.close()


def heard(lines: KernelLines) -> list[tuple[str, bool]]:
    """What the lines tell until nothing is left."""
    found: list[tuple[str, bool]] = []

    async def run() -> None:
        lines.listen(lambda name, level: found.append((name, level)))
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(run())
    return found


def test_lines_are_taken_with_their_polarity(gpiod: FakeGpiod) -> None:
    gpiod.lines["SLP_S5"].value = 1
    lines = KernelLines([OK, S5], [OUT])
    taken = {name: line.requested for name, line in gpiod.lines.items()}
    assert taken == {
        "PS_PWROK": {"consumer": "host-power", "type": 6, "flags": 0},
        "SLP_S5": {"consumer": "host-power", "type": 6, "flags": 4},
        "POWER_OUT": {"consumer": "host-power", "type": 3, "flags": 4, "default_val": 0},
    }
    assert lines.levels() == {"PS_PWROK": False, "SLP_S5": True}


def test_an_output_is_claimed_released_and_written_once_more(gpiod: FakeGpiod) -> None:
    lines = KernelLines([OK], [OUT])
    out = gpiod.lines["POWER_OUT"]
    assert out.calls == [("set", 0)]
    lines.drive("POWER_OUT", True)
    assert out.calls == [("set", 0), ("set", 1)]
    lines.close()
    assert out.calls[2:] == [("set", 0), ("release", None)]
    assert gpiod.lines["PS_PWROK"].calls == [("release", None)]


def test_edges_of_all_lines_are_told_in_the_order_of_time(gpiod: FakeGpiod) -> None:
    lines = KernelLines([OK, S5], [])
    gpiod.lines["PS_PWROK"].happen((2, 1), (4_000_000_000, 0))
    gpiod.lines["SLP_S5"].happen((1, 1), (3, 0), (4_000_000_001, 1))
    assert heard(lines) == [
        *(("SLP_S5", True), ("PS_PWROK", True), ("SLP_S5", False), ("PS_PWROK", False), ("SLP_S5", True)),
    ]
    assert lines.levels() == {"PS_PWROK": False, "SLP_S5": True}


def test_all_that_is_queued_is_told(gpiod: FakeGpiod) -> None:
    lines = KernelLines([OK], [])
    gpiod.lines["PS_PWROK"].happen(*((time, time % 2) for time in range(1, 51)))
    assert [level for _, level in heard(lines)] == [bool(time % 2) for time in range(1, 51)]


def test_what_a_full_queue_lost_is_told_by_the_level(gpiod: FakeGpiod) -> None:
    lines = KernelLines([OK], [])
    line = gpiod.lines["PS_PWROK"]
    line.happen((1, 1))
    line.value = 0
    assert heard(lines) == [("PS_PWROK", True), ("PS_PWROK", False)]


def test_what_is_known_already_is_not_told(gpiod: FakeGpiod) -> None:
    lines = KernelLines([OK], [])
    gpiod.lines["PS_PWROK"].happen((1, 1), (2, 1))
    assert heard(lines) == [("PS_PWROK", True)]


def test_what_was_queued_before_the_start_is_in_the_level(gpiod: FakeGpiod) -> None:
    line = gpiod.lines["PS_PWROK"]
    line.happen((1, 1))
    lines = KernelLines([OK], [])
    assert lines.levels() == {"PS_PWROK": True}
    assert heard(lines) == []


def test_a_line_that_is_not_there_is_named(gpiod: FakeGpiod) -> None:
    del gpiod
    with pytest.raises(ServiceError, match="the kernel has no GPIO line PLTRST; the board file and"):
        KernelLines([Gpio("PLTRST", True, False)], [])


def test_a_line_that_somebody_else_has_is_named(gpiod: FakeGpiod) -> None:
    gpiod.lines["POWER_OUT"].is_busy = True
    with pytest.raises(ServiceError, match="GPIO line POWER_OUT cannot be taken: Device or resource busy"):
        KernelLines([OK], [OUT])


def test_another_gpiod_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", object())  # as that of libgpiod 2 would look
    with pytest.raises(ServiceError, match=r"another interface than that of libgpiod 1\.6"):
        KernelLines([OK], [])
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(ServiceError, match="the image needs python3-gpiod"):
        KernelLines([OK], [])


def test_the_board_file_says_which_way() -> None:
    gpios = {gpio.name: gpio for gpio in (OK, S5, OUT)}
    assert choose(gpios, ["SLP_S5", "PLTRST", "PS_PWROK"], output=False) == [S5, OK]
    with pytest.raises(ServiceError, match="POWER_OUT must be an input; the board file says otherwise"):
        choose(gpios, ["POWER_OUT"], output=False)
