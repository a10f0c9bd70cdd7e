# SPDX-License-Identifier: Apache-2.0
"""The host's end of the KCS interface (IPMI 2.0, section 9), on registers of an emulated AST2600.

`Transfer` is the protocol, pure: a generator that asks for one register access at a time. `LpcPort` does
them, `KcsHost` brings both together, one transaction at a time.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from typing import NamedTuple, Protocol, TypeVar

from fleet_qemu.qmp import Qmp, QmpClosed, QmpError
from fleet_qemu.qtest import Qtest

# Status register (9.7)
OBF, IBF, SMS_ATN, COMMAND = 0x01, 0x02, 0x04, 0x08
IDLE, READ, WRITE, ERROR = range(4)
_STATE_NAMES = ("IDLE", "READ", "WRITE", "ERROR")

# Control codes (9.10)
GET_STATUS_ABORT, WRITE_START, WRITE_END, READ_NEXT = 0x60, 0x61, 0x62, 0x68

# Status codes (9.12)
_STATUS_CODES = {
    0x00: "no error",
    0x01: "aborted by command",
    0x02: "illegal control code",
    0x06: "length error",
    0xFF: "unspecified error",
}

REQUEST_BYTES = 255  # longest request; the BMC's driver takes more, the host's software does not send it
RESPONSE_BYTES = 1024  # more than any BMC sends: one that never stops is out of step
_ABORTS = 3  # the host's software may give up after some (9.14, figure 9-8)


class KcsError(Exception):
    """A request was not answered; the text says why."""


class KcsAbsent(KcsError):
    """There is no BMC: it has no power."""


class KcsTimeout(KcsError):
    """The BMC did not do in time what it must."""


class KcsAborted(KcsError):
    """BMC and host were out of step. `code` is what the BMC said about it (9.12)."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(f"{reason}; the BMC says: {_STATUS_CODES.get(code, f'status code {code:#04x}')}")
        self.code = code


class Op(NamedTuple):
    """A register access: `status`, `read` (data), `command` or `data` (writes `value`), `again`."""

    kind: str
    value: int = 0


class Limits(NamedTuple):
    """Seconds for the BMC to take a byte, to answer, and to set a flag that belongs to a state it is in."""

    take: float = 2.0
    answer: float = 5.0
    flag: float = 0.5
    again: float = 0.2


LIMITS = Limits()

T = TypeVar("T")
Talk = Generator[Op, int, T]
Clock = Callable[[], float]

_STATUS = Op("status")
_READ = Op("read")


class _OutOfStep(Exception):
    """The BMC is in another state than the protocol says."""


class _Silent(Exception):
    """The BMC gives no byte where the protocol says that it does."""


class Transfer:
    """One request and its response, as the flow charts of section 9.15 have it.

    Drive `exchange` with `send`: it yields an `Op` and wants its result, the register's value (anything for a
    write). It asks for the status as often as it must wait; how soon to look again is the driver's choice.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits

    def exchange(self, request: bytes) -> Talk[bytes]:
        """Send `request` (netFn/LUN, command, data) and return the response. Raises KcsError."""
        yield from self._wait_until_taken(stale=True)
        try:
            yield from self._write(request)
            return (yield from self._read())
        except _OutOfStep as error:
            reason = str(error)
        except _Silent as error:
            yield from self._abort()
            raise KcsTimeout(str(error)) from None
        raise KcsAborted(reason, (yield from self._abort()))

    def _write(self, request: bytes) -> Talk[None]:
        yield from self._clear()
        yield Op("command", WRITE_START)
        yield from self._expect(WRITE)
        for byte in request[:-1]:
            yield Op("data", byte)
            yield from self._expect(WRITE)
        yield Op("command", WRITE_END)
        yield from self._expect(WRITE)
        yield Op("data", request[-1])

    def _read(self) -> Talk[bytes]:
        response = bytearray()
        limit = self._limits.answer
        while True:
            status = yield from self._wait_until_taken()
            state = status >> 6
            if state not in (READ, IDLE):
                raise _OutOfStep(f"the BMC is in state {_STATE_NAMES[state]} while it is read from")
            if not (yield from self._output(state, limit if state == READ else self._limits.flag)):
                continue  # it went to another state
            byte = yield _READ
            if state == IDLE:
                return bytes(response)
            response.append(byte)
            if len(response) > RESPONSE_BYTES:
                raise _OutOfStep(f"a response longer than {RESPONSE_BYTES} bytes")
            limit = self._limits.flag
            yield Op("data", READ_NEXT)

    def _abort(self) -> Talk[int]:
        """Bring the BMC back to idle (figure 9-8); the status code that it gives."""
        for _ in range(_ABORTS):
            try:
                yield from self._wait_until_taken()
                yield Op("command", GET_STATUS_ABORT)
                yield from self._wait_until_taken()
                yield from self._clear()
                yield Op("data", 0)
                if (yield from self._wait_until_taken()) >> 6 != READ:
                    continue
                if not (yield from self._output(READ, self._limits.flag)):
                    continue
                code = yield _READ
                yield Op("data", READ_NEXT)
                if (yield from self._wait_until_taken()) >> 6 != IDLE:
                    continue
                if (yield from self._output(IDLE, self._limits.flag)):
                    yield _READ
                    return code
            except _Silent:
                pass
        raise KcsTimeout("the BMC does not come back to idle")

    def _expect(self, state: int) -> Talk[None]:
        status = yield from self._wait_until_taken()
        if status & OBF:
            yield _READ
        if status >> 6 != state:
            raise _OutOfStep(
                f"the BMC is in state {_STATE_NAMES[status >> 6]} instead of {_STATE_NAMES[state]}"
            )

    def _clear(self) -> Talk[None]:
        if (yield _STATUS) & OBF:
            yield _READ

    def _wait_until_taken(self, *, stale: bool = False) -> Talk[int]:
        """Wait for IBF to be clear; the status then.

        A byte that is `stale`, from before, is put there `again` now and then: the emulated SoC raises the
        interrupt when a byte comes, and never for one that came while the BMC did not listen yet.
        """
        start = looked = self._clock()
        while (status := (yield _STATUS)) & IBF:
            now = self._clock()
            if now - start > self._limits.take:
                raise KcsTimeout(f"the BMC does not take a byte within {self._limits.take:g} s")
            if stale and now - looked > self._limits.again:
                looked = now
                yield Op("again")
        return status

    def _output(self, state: int, limit: float) -> Talk[bool]:
        """Wait for OBF; False when the BMC leaves `state` instead."""
        end = self._clock() + limit
        while not (status := (yield _STATUS)) & OBF:
            if status >> 6 != state:
                return False
            if self._clock() > end:
                raise _Silent(f"the BMC, in state {_STATE_NAMES[state]}, gives nothing within {limit:g} s")
        return True


class Port(Protocol):
    """The host's view of the registers. Methods raise QmpError or QmpClosed when the BMC is gone."""

    async def do(self, op: Op) -> int:
        """Make one access; its result, 0 for a write."""


class KcsHost:
    """Carries requests over the port, one at a time; without a port there is no BMC."""

    def __init__(self, clock: Clock = time.monotonic, limits: Limits = LIMITS) -> None:
        self._clock = clock
        self._transfer = Transfer(clock, limits)
        self._lock = asyncio.Lock()
        self._port: Port | None = None

    def connect(self, port: Port | None) -> None:
        """The BMC has power, or with None none any more; a request on its way fails."""
        self._port = port

    async def transact(self, request: bytes) -> tuple[bytes, float]:
        """Send a request (netFn/LUN, command, data); the response and the seconds that it took.

        Waiting for another transaction to end does not count. Raises KcsError; ValueError for a request that
        is none.
        """
        if not 1 <= len(request) <= REQUEST_BYTES:
            raise ValueError(f"a request has 1 to {REQUEST_BYTES} bytes, not {len(request)}")
        async with self._lock:
            start = self._clock()
            response = await self._run(self._transfer.exchange(request))
            seconds = self._clock() - start
        # One byte is no request, but something that a BMC has to stand.
        is_ours = response[:1] == bytes([request[0] | 4]) and request[1:2] in (b"", response[1:2])
        if len(response) < 3 or not is_ours:
            raise KcsError(f"{response.hex(' ') or 'nothing'} is no response to {request.hex(' ')}")
        return response, seconds

    async def _run(self, talk: Talk[bytes]) -> bytes:
        port = self._port
        op = next(talk)
        looks_since = self._clock()
        try:
            while True:
                if port is None or port is not self._port:
                    raise KcsAbsent("the BMC has no power")
                if op.kind == "status":
                    await asyncio.sleep(_pause(self._clock() - looks_since))
                else:
                    looks_since = self._clock()
                op = talk.send(await port.do(op))
        except StopIteration as end:
            response: bytes = end.value
            return response
        except (QmpClosed, QmpError) as error:
            raise KcsAbsent(f"the BMC is gone: {error}") from None


def _pause(waited: float) -> float:
    """Seconds to the next look after having looked for `waited`: at once at first, then ever lazier."""
    return 0.0 if waited < 0.02 else min(0.01, waited / 20)


# Source: QEMU, hw/misc/aspeed_lpc.c.
_LPC = "/machine/soc/lpc"
_LPC_BASE = 0x1E78_9000
_STATUS_OFFSETS = {1: 0x3C, 2: 0x40, 3: 0x44, 4: 0x11C}


class LpcPort:
    """`Port` of an emulated AST2600's KCS channel.

    Writing the input register over QMP raises the interrupt, reading the output register over QMP clears
    OBF, as the host's accesses would. The status register cannot be written that way, and its command/data
    bit must be, so that goes by qtest.
    """

    def __init__(self, qmp: Qmp, qtest: Qtest, channel: int) -> None:
        self._qmp = qmp
        self._qtest = qtest
        self._channel = channel
        self._status_register = _LPC_BASE + _STATUS_OFFSETS[channel]
        self._status = 0

    async def do(self, op: Op) -> int:
        """Make one access. A write must follow a look at the status that found IBF clear."""
        match op.kind:
            case "status":
                self._status = await self._qtest.readl(self._status_register)
                return self._status & 0xFF
            case "read":
                self._status &= ~OBF  # reading clears it
                return await self._get("odr") & 0xFF
            case "command" | "data":
                # Nobody else changes the register now: the BMC has taken the last byte.
                flag = COMMAND if op.kind == "command" else 0
                if self._status & COMMAND != flag:
                    self._status = self._status & ~COMMAND | flag
                    await self._qtest.writel(self._status_register, self._status)
                await self._put(op.value)
            case "again":
                await self._put(await self._get("idr"))
            case _:
                raise ValueError(op.kind)
        return 0

    async def _get(self, register: str) -> int:
        value: int = await self._qmp.execute("qom-get", path=_LPC, property=f"{register}{self._channel}")
        return value

    async def _put(self, value: int) -> None:
        await self._qmp.execute("qom-set", path=_LPC, property=f"idr{self._channel}", value=value)
