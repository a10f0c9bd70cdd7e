# SPDX-License-Identifier: Apache-2.0
"""What the BMC does on its I2C buses, seen from outside: transactions from QEMU's trace of register writes.

The trace event `aspeed_i2c_bus_write` names the bus, and a START is written whether or not a device answers,
so silence in this trace means that the bus was left alone. (`i2c_event` names no bus and is silent about
addresses where nobody is.) Linux' i2c-aspeed drives the AST2600's controller in its old register mode, byte
by byte; its registers are the table below (AST2600 data sheet, I2C). Whatever another driver might do
(packet, buffer or DMA mode) is not decoded but counted, and a trace with such a count proves nothing and says
so.
"""

import contextlib
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from fleet_qemu.errors import QemuError
from fleet_qemu.qmp import Qmp, QmpClosed
from fleetboard import Board

EVENT = "aspeed_i2c_bus_write"
RETAINED = 100_000  # transactions that the supervisor keeps; the oldest go first
BATCH = 5_000  # transactions in one answer, so that no answer holds up the supervisor
STANDARD_HERTZ = 100_000  # I2C standard mode

_LINE = re.compile(
    rb"\d+@(\d+\.\d+):" + EVENT.encode() + rb" bus\[(\d+)\]: To 0x([0-9a-f]+) of size \d+: 0x([0-9a-f]+)"
)
_LINE_LIMIT = 4096  # bytes; what is longer without an end is no line of QEMU's

# Registers of one bus, and their bits.
_FUNCTION, _STATUS, _COMMAND, _NEW_COMMAND, _BYTE = 0x00, 0x10, 0x14, 0x18, 0x20
_MASTER = 0x1  # of _FUNCTION: without it the controller is off
_NAK = 0x2  # of _STATUS: the driver clears "not acknowledged"
_START, _SEND, _RECEIVE, _LAST, _STOP = 0x1, 0x2, 0x8, 0x10, 0x20
_BUFFER_OR_DMA = 0x3C0


class Transaction(NamedTuple):
    """From a START to the next START or the STOP.

    `time` is wall time in seconds since the epoch. `address` has 7 bits. `bytes` is what follows the address;
    a byte that was sent and refused is counted, and a device that does not answer is asked for none.
    `duration` is in seconds: how long the guest took. `nak`: address or a byte was not acknowledged.
    """

    time: float
    bus: int
    address: int
    read: bool
    bytes: int
    duration: float
    nak: bool

    def __str__(self) -> str:
        way, end = ("read" if self.read else "write"), (", not acknowledged" if self.nak else "")
        return f"{self.time:.6f} bus {self.bus} {way} {self.address:#04x}: {self.bytes} bytes{end}"


class Window(NamedTuple):
    """A time in which somebody else needs a bus: from `start` to before `end`, in seconds since the epoch."""

    start: float
    end: float
    bus: int


def wire_seconds(count: int, hertz: int = STANDARD_HERTZ) -> float:
    """Time that a transaction with `count` bytes takes on a real bus: 9 clocks per byte and address."""
    return 9 * (1 + count) / hertz


def overlaps(
    transactions: Iterable[Transaction], windows: Iterable[Window], hertz: int = STANDARD_HERTZ
) -> list[tuple[Transaction, Window]]:
    """Pairs of a transaction and a window of its bus that share some time, in the order of time.

    The emulated bus is infinitely fast, so a transaction takes its duration or its time on a real bus of
    `hertz`, whichever is longer.
    """
    waiting = deque(sorted(windows, reverse=True))
    begun: list[Window] = []  # and perhaps not over yet
    found = []
    for one in sorted(transactions):
        end = one.time + max(one.duration, wire_seconds(one.bytes, hertz))
        while waiting and waiting[-1].start < end:
            begun.append(waiting.pop())
        # transactions come by start: what is over at this one is over at all later ones
        begun = [window for window in begun if window.end > one.time]
        found += [(one, w) for w in begun if w.bus == one.bus and w.start < end and w.start < w.end]
    return found


class _Bus:
    """What is going on on one bus."""

    def __init__(self) -> None:
        self.byte: int | None = None  # to be sent by the next command
        self.start: float | None = None  # of the transaction that has not ended
        self.target = 0
        self.count = 0
        self.nak = False


class Parser:
    """Lines of QEMU's log to transactions of certain buses. Pure: it does no input or output."""

    def __init__(self, buses: Iterable[int]) -> None:
        self._buses = {number: _Bus() for number in buses}
        self._rest = b""
        self._skipping = False
        self._last = 0.0
        self.ignored = 0  # lines that are not of this trace
        self.undecoded = 0  # writes that may have been transactions, in a mode that is not decoded

    def feed(self, data: bytes) -> list[Transaction]:
        """Take a piece of the log, cut anywhere; the transactions that have ended in it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        done: list[Transaction] = []
        for line in lines:
            if self._skipping:
                self._skipping = False  # it was counted when it became too long
            elif match := _LINE.fullmatch(line.rstrip(b"\r")):
                number = int(match[2])
                if number in self._buses:
                    self._last = float(match[1])
                    done += self._write(number, self._last, int(match[3], 16), int(match[4], 16))
            elif line:
                self.ignored += 1
        if len(self._rest) > _LINE_LIMIT:
            self.ignored += not self._skipping
            self._rest, self._skipping = b"", True
        return done

    def end(self) -> list[Transaction]:
        """End what has begun and not ended, at the time of the last line."""
        done = [one for number in self._buses for one in self._finish(number, self._last)]
        self._buses = {number: _Bus() for number in self._buses}
        return done

    def _write(self, number: int, time: float, register: int, value: int) -> list[Transaction]:
        bus = self._buses[number]
        if register == _COMMAND:
            return self._command(number, time, value)
        if register == _BYTE:
            bus.byte = value & 0xFF
        elif register == _STATUS and value & _NAK and bus.start is not None:
            bus.nak = True
            if bus.target & 1:
                bus.count = 0  # the START asked for the first byte as well, and nobody sent it
        elif register == _NEW_COMMAND and value & _START:
            self.undecoded += 1
        elif register == _FUNCTION and not value & _MASTER:
            return self._finish(number, time)
        return []

    def _command(self, number: int, time: float, value: int) -> list[Transaction]:
        bus, done = self._buses[number], []
        if value & _BUFFER_OR_DMA or (value & _START and bus.byte is None):
            self.undecoded += 1
        elif value & _START and bus.byte is not None:
            done += self._finish(number, time)
            bus.start, bus.target, bus.count, bus.nak = time, bus.byte, 0, False
            bus.byte = None
        elif value & _SEND:
            bus.count += 1
        if value & (_RECEIVE | _LAST):
            bus.count += 1
        if value & _STOP:
            done += self._finish(number, time)
        return done

    def _finish(self, number: int, time: float) -> list[Transaction]:
        bus = self._buses[number]
        if bus.start is None:
            return []  # the trace began in the middle of it
        start, bus.start = bus.start, None
        duration = max(0.0, round(time - start, 6))  # the clock may have been set back
        return [
            Transaction(start, number, bus.target >> 1, bool(bus.target & 1), bus.count, duration, bus.nak)
        ]


class Ring:
    """The newest transactions, each with its number, so that a reader knows what it has missed."""

    def __init__(self, limit: int = RETAINED) -> None:
        self._kept: deque[Transaction] = deque(maxlen=limit)
        self.total = 0

    def add(self, transactions: Sequence[Transaction]) -> None:
        """Append; the oldest are dropped when there is no room."""
        self._kept.extend(transactions)
        self.total += len(transactions)

    def read(self, since: int, count: int) -> tuple[list[Transaction], int, int]:
        """At most `count` transactions from number `since` on, the number after them, how many were lost."""
        oldest = self.total - len(self._kept)
        start = min(max(since, oldest), self.total)
        end = min(start + count, self.total)
        part = [self._kept[index - oldest] for index in range(start, end)]
        return part, end, max(0, start - max(since, 0))


class Traced(Protocol):
    """A running QEMU whose log comes here."""

    qmp: Qmp

    def drain_log(self) -> None:
        """Deliver what QEMU has logged so far."""


class Tracer:
    """The trace of one board, over its power cycles. It is the supervisor's; see `Board.bus_trace`."""

    def __init__(self) -> None:
        self._qemu: Traced | None = None
        self._on = False
        self._parser = Parser(())
        self._ring = Ring()

    def feed(self, log: bytes) -> None:
        """Take a piece of QEMU's log."""
        if self._on:
            self._ring.add(self._parser.feed(log))

    async def attach(self, qemu: Traced) -> None:
        """A QEMU was started and has not run an instruction yet."""
        self._qemu = qemu
        if self._on:
            await self._switch(True)

    def detach(self) -> None:
        """QEMU has ended, and all of its log has come."""
        self._qemu = None
        self.feed(b"\n")  # if it ended within a line, the next QEMU begins a new one
        self._ring.add(self._parser.end())

    def reset(self) -> None:
        """The board was reset: no transaction goes on."""
        if self._qemu is not None:
            self._qemu.drain_log()
        self._ring.add(self._parser.end())

    async def start(self, buses: Sequence[int]) -> dict[str, Any]:
        """Forget the last trace and begin one; a board without power is traced from its first instruction."""
        wanted = [number for number in buses if isinstance(number, int) and 0 <= number < 16]
        if not wanted or wanted != list(buses):
            raise QemuError(f"{list(buses)} are no I2C buses", "give numbers from 0 to 15")
        if self._on:
            raise QemuError("the I2C buses of this board are traced already", "stop that trace first")
        self._parser, self._ring = Parser(wanted), Ring()
        self._on = True
        try:
            await self._switch(True)
        except BaseException:
            self._on = False
            raise
        return self.read(0)

    def read(self, since: int) -> dict[str, Any]:
        """What has ended from transaction `since` on, in batches: `next` is the `since` of the next one.

        `lost` were dropped before they were read; for `ignored` and `undecoded` see Parser.
        """
        if self._qemu is not None:
            self._qemu.drain_log()
        part, following, lost = self._ring.read(since, BATCH)
        return {
            "transactions": part,
            "next": following,
            "more": following < self._ring.total,
            "lost": lost,
            "ignored": self._parser.ignored,
            "undecoded": self._parser.undecoded,
        }

    async def stop(self) -> dict[str, Any]:
        """End the trace. What it has can be read until the next one; nothing to do when there is none."""
        if self._on:
            with contextlib.suppress(QmpClosed):
                await self._switch(False)
            if self._qemu is not None:
                self._qemu.drain_log()
            self._on = False
            self._ring.add(self._parser.end())
        return self.read(self._ring.total)

    async def _switch(self, enable: bool) -> None:
        if self._qemu is not None:
            await self._qemu.qmp.execute("trace-event-set-state", name=EVENT, enable=enable)


class BusTrace:
    """A trace as tests hold it. Make it with `Board.bus_trace`."""

    def __init__(self, read: Callable[[int], dict[str, Any]]) -> None:
        self._read = read
        self._next = 0
        self.transactions: list[Transaction] = []
        """What has been fetched so far; all of it after the end of the trace."""

    def update(self) -> list[Transaction]:
        """Fetch what has ended since the last time, and return just that.

        A long trace must be fetched before RETAINED more transactions come. Raises QemuError when some were
        lost or could not be decoded: such a trace proves nothing.
        """
        news: list[Transaction] = []
        more = True
        while more:
            answer = self._read(self._next)
            if answer["lost"]:
                raise QemuError(f"{answer['lost']} transactions were lost", "fetch them more often")
            if answer["undecoded"]:
                raise QemuError(
                    "the guest drives an I2C controller in a mode that is not decoded (new, buffer or DMA)",
                    "teach it to bustrace.Parser",
                )
            news += [Transaction(*fields) for fields in answer["transactions"]]
            self._next, more = answer["next"], answer["more"]
        self.transactions += news
        return news


# --- Self-test: would a forbidden access be seen? ---


class Access(NamedTuple):
    """One transaction of the guest, and whether a device answers it."""

    bus: int
    address: int
    read: bool
    answered: bool


def self_test_accesses(board: Board, role: str) -> tuple[list[Access], list[Access]]:
    """What to do on the traced bus of `role`, at a present and at an absent address, and on another bus."""
    traced = board.bus(role)
    taken = {device.address for device in traced.devices}
    absent = next(address for address in range(0x08, 0x78) if address not in taken)
    present = traced.devices[0].address
    other = next(bus for bus in board.i2c if bus.number != traced.number and bus.devices)
    own = [(present, True), (absent, False)]
    return (
        [Access(traced.number, address, read, there) for address, there in own for read in (True, False)],
        [Access(other.number, other.devices[0].address, True, True)],
    )


def guest_script(accesses: Iterable[Access]) -> str:
    """Python program that does the accesses in the guest: a byte is read, or a byte 0 written.

    For the devices of the board that is a pointer or page number. I2C_SLAVE_FORCE (0x706, linux/i2c-dev.h)
    goes past a driver that is bound.
    """
    plan = [(access.bus, access.address, access.read) for access in accesses]
    return f"""\
import fcntl, os
for bus, address, read in {plan}:
    device = os.open(f"/dev/i2c-{{bus}}", os.O_RDWR)
    fcntl.ioctl(device, 0x706, address)
    try:
        os.read(device, 1) if read else os.write(device, bytes(1))
    except OSError:
        pass
    os.close(device)
"""


def self_test_problems(accesses: Iterable[Access], seen: Iterable[Transaction]) -> list[str]:
    """What is wrong with the trace of a bus on which `accesses` were done, perhaps beside other accesses."""
    seen = list(seen)
    expected = list(accesses)
    found = Counter(Access(one.bus, one.address, one.read, not one.nak) for one in seen)
    problems = [f"not seen: {access}" for access in (Counter(expected) - found).elements()]
    buses = {access.bus for access in expected}
    return problems + [f"of another bus: {one}" for one in seen if one.bus not in buses]
