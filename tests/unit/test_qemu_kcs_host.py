# SPDX-License-Identifier: Apache-2.0
"""The host's end of KCS against a BMC's end as Linux's kcs_bmc_cdev_ipmi has it."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from fleet_qemu.kcs_host import (
    COMMAND,
    IBF,
    OBF,
    KcsAborted,
    KcsAbsent,
    KcsError,
    KcsHost,
    KcsTimeout,
    Limits,
    LpcPort,
    Op,
    Transfer,
)
from fleet_qemu.qmp import Qmp, QmpClosed
from fleet_qemu.qtest import Qtest

IDLE, READ, WRITE, ERROR = range(4)
GET_DEVICE_ID = bytes.fromhex("18 01")
ANSWER = bytes.fromhex("1c 01 00 20 01 02 03 02 bf 00 00 00 34 12")


class Bmc:
    """The BMC's end: registers, driver and a service that answers. Takes a byte after `delay` looks."""

    def __init__(self, answer: Callable[[bytes], bytes | None] = lambda _: ANSWER) -> None:
        self.answer = answer
        self.delay = 2
        self.deaf = False  # takes no byte
        self.seen: list[bytes] = []
        self.ops: list[Op] = []
        self.hook: Callable[[Op], None] = lambda _: None
        self.reset()

    def reset(self) -> None:
        self.state, self.flags, self.idr, self.odr = IDLE, 0, 0, 0
        self.phase, self.error, self.request, self.out = "idle", 0, bytearray(), bytearray()
        self.countdown = 0

    def do(self, op: Op) -> int:
        self.ops.append(op)
        if op.kind == "status" and self.flags & IBF and not self.deaf:
            self.countdown -= 1
            if self.countdown <= 0:
                self.take()
        self.hook(op)  # where a test interferes
        match op.kind:
            case "status":
                return self.state << 6 | self.flags
            case "read":
                self.flags &= ~OBF
                return self.odr
            case "command" | "data":
                assert not self.flags & IBF, "written while the BMC has not taken the last byte"
                self.flags = self.flags & ~COMMAND | (COMMAND if op.kind == "command" else 0) | IBF
                self.idr, self.countdown = op.value, self.delay
        return 0

    def put(self, byte: int) -> None:
        self.odr, self.flags = byte, self.flags | OBF

    def force_abort(self) -> None:
        self.state, self.phase, self.request, self.out = ERROR, "error", bytearray(), bytearray()
        self.put(0)

    def take(self) -> None:
        byte, command = self.idr, bool(self.flags & COMMAND)
        self.flags &= ~IBF
        if command:
            self.state = WRITE
            self.put(0)
            match byte:
                case 0x61:
                    self.phase, self.error, self.request = "write", 0, bytearray()
                case 0x62 if self.phase == "write":
                    self.phase = "last"
                case 0x60:
                    self.error = self.error or 1
                    self.phase = "abort1"
                case _:
                    self.force_abort()
                    self.error = 2
            return
        match self.phase:
            case "write":
                self.request.append(byte)
                self.put(0)
            case "last":
                self.request.append(byte)
                self.state, self.phase = READ, "wait"
                self.seen.append(bytes(self.request))
                answer = self.answer(bytes(self.request))
                if answer is not None:
                    self.out, self.phase = bytearray(answer), "read"
                    self.put(self.out.pop(0))
            case "read" if byte == 0x68:
                if self.out:
                    self.put(self.out.pop(0))
                else:
                    self.state, self.phase = IDLE, "idle"
                    self.put(0)
            case "abort1":
                self.state, self.phase = READ, "abort2"
                self.put(self.error)
            case "abort2":
                self.state, self.phase = IDLE, "idle"
                self.put(0)
            case _:
                self.force_abort()


class Clock:
    """A clock that goes on by a millisecond each time somebody looks at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


LIMITS = Limits(take=0.5, answer=1.0, flag=0.2, again=0.1)


def exchange(bmc: Bmc, request: bytes = GET_DEVICE_ID) -> bytes:
    """Drive the pure protocol against the BMC."""
    talk = Transfer(Clock(), LIMITS).exchange(request)
    op = next(talk)
    try:
        for _ in range(100_000):
            op = talk.send(bmc.do(op))
    except StopIteration as end:
        return bytes(end.value)
    raise AssertionError("it never ends")


def test_a_request_and_its_response() -> None:
    bmc = Bmc()
    assert exchange(bmc) == ANSWER
    assert bmc.seen == [GET_DEVICE_ID]
    writes = [(op.kind, op.value) for op in bmc.ops if op.kind in ("command", "data")]
    assert writes[:4] == [("command", 0x61), ("data", 0x18), ("command", 0x62), ("data", 0x01)]
    assert writes[4:] == [("data", 0x68)] * len(ANSWER)
    assert (bmc.state, bmc.flags & OBF) == (IDLE, 0)


@pytest.mark.parametrize("length", [2, 3, 40, 255])
def test_requests_of_any_length(length: int) -> None:
    bmc = Bmc(lambda request: bytes([request[0] | 4, request[1], 0]))
    request = bytes(range(length))
    assert exchange(bmc, request)[1] == request[1]
    assert bmc.seen == [request]


def test_one_after_the_other() -> None:
    bmc = Bmc()
    assert [exchange(bmc) for _ in range(3)] == [ANSWER] * 3


def test_a_bmc_that_takes_nothing() -> None:
    bmc = Bmc()
    bmc.deaf = True
    with pytest.raises(KcsTimeout, match=r"does not take a byte within 0\.5 s"):
        exchange(bmc)


def test_a_byte_from_before_is_put_there_again() -> None:
    """As when the BMC begins to listen with a byte in the register: only a new byte raises the interrupt."""
    bmc = Bmc()
    bmc.deaf = True
    with pytest.raises(KcsTimeout):
        exchange(bmc)

    def hook(op: Op) -> None:
        bmc.deaf = bmc.deaf and op.kind != "again"

    bmc.hook = hook
    assert exchange(bmc) == ANSWER
    assert bmc.seen == [GET_DEVICE_ID]


def test_no_answer_aborts_and_the_next_request_works() -> None:
    bmc = Bmc(lambda _: None)
    with pytest.raises(KcsTimeout, match=r"in state READ, gives nothing within 1 s"):
        exchange(bmc)
    assert bmc.state == IDLE
    bmc.answer = lambda _: ANSWER
    assert exchange(bmc) == ANSWER


@pytest.mark.parametrize("after", [1, 2, 3, 4, 8])
def test_the_bmc_falls_out_of_step(after: int) -> None:
    """It goes to its error state at the `after`-th byte, and is brought back."""
    bmc = Bmc()
    count = 0

    def hook(op: Op) -> None:
        nonlocal count
        count += op.kind in ("command", "data")
        if count == after and op.kind == "status" and not bmc.flags & IBF:
            count += 1000
            bmc.force_abort()
            bmc.error = 0xFF

    bmc.hook = hook
    with pytest.raises(KcsAborted, match=r"in state ERROR.*unspecified error") as caught:
        exchange(bmc)
    assert caught.value.code == 0xFF
    assert exchange(bmc) == ANSWER


def test_a_half_message_from_before() -> None:
    """The host lost power in the middle of a request, and in the middle of a response."""
    bmc = Bmc()
    for length in (3, 9, 15):
        talk = Transfer(Clock(), LIMITS).exchange(GET_DEVICE_ID)
        op = next(talk)
        while sum(op.kind == "data" for op in bmc.ops) < length:
            op = talk.send(bmc.do(op))
        talk.close()
        bmc.ops.clear()
        assert exchange(bmc) == ANSWER


@pytest.mark.parametrize("after", [2, 3, 4, 10])
def test_the_bmc_is_reset_on_the_way(after: int) -> None:
    bmc = Bmc()

    def hook(_: Op) -> None:
        if sum(op.kind in ("command", "data") for op in bmc.ops) == after:
            bmc.ops.clear()
            bmc.reset()
            bmc.hook = lambda _: None

    bmc.hook = hook
    with pytest.raises(KcsError):
        exchange(bmc)
    assert exchange(bmc) == ANSWER


def test_an_answer_without_end() -> None:
    bmc = Bmc(lambda _: bytes(2000))
    with pytest.raises(KcsAborted, match="longer than 1024 bytes"):
        exchange(bmc)


def test_a_bmc_that_stays_broken() -> None:
    bmc = Bmc()

    def hook(op: Op) -> None:
        if op.kind == "status" and not bmc.flags & IBF:
            bmc.state = ERROR

    bmc.hook = hook
    with pytest.raises(KcsTimeout, match="does not come back to idle"):
        exchange(bmc)


# --- KcsHost ---


class AsyncBmc:
    """The same BMC as a port."""

    def __init__(self, bmc: Bmc) -> None:
        self.bmc = bmc
        self.closed = False

    async def do(self, op: Op) -> int:
        if self.closed:
            raise QmpClosed("QEMU ended")
        await asyncio.sleep(0)
        return self.bmc.do(op)


def test_transactions_do_not_mix() -> None:
    async def run() -> None:
        bmc = Bmc(lambda request: bytes([request[0] | 4, request[1], 0, *request[2:]]))
        kcs = KcsHost()
        kcs.connect(AsyncBmc(bmc))
        requests = [bytes([0x18, 1, number]) for number in range(5)]
        answers = await asyncio.gather(*(kcs.transact(request) for request in requests))
        assert [answer[-1] for answer, _ in answers] == list(range(5))
        assert bmc.seen == requests
        assert all(0 < seconds < 30 for _, seconds in answers)

    asyncio.run(run())


def test_no_bmc() -> None:
    async def run() -> None:
        kcs = KcsHost()
        with pytest.raises(KcsAbsent, match="no power"):
            await kcs.transact(GET_DEVICE_ID)
        port = AsyncBmc(Bmc())
        port.closed = True
        kcs.connect(port)
        with pytest.raises(KcsAbsent, match="is gone"):
            await kcs.transact(GET_DEVICE_ID)

    asyncio.run(run())


def test_the_bmc_loses_power_on_the_way() -> None:
    async def run() -> None:
        kcs = KcsHost()
        bmc = Bmc(lambda _: None)
        kcs.connect(AsyncBmc(bmc))
        task = asyncio.create_task(kcs.transact(GET_DEVICE_ID))
        while not bmc.seen:
            await asyncio.sleep(0)
        kcs.connect(None)
        with pytest.raises(KcsAbsent):
            await task

    asyncio.run(run())


def test_somebody_elses_response() -> None:
    async def run() -> None:
        for answer in (b"\x1c\x02\x00", b"\x18\x01\x00", b"\x1c\x01"):
            kcs = KcsHost()
            kcs.connect(AsyncBmc(Bmc(lambda _, answer=answer: answer)))  # type: ignore[misc]
            with pytest.raises(KcsError, match="is no response to 18 01"):
                await kcs.transact(GET_DEVICE_ID)

    asyncio.run(run())


@pytest.mark.parametrize("length", [0, 256])
def test_what_is_no_request(length: int) -> None:
    with pytest.raises(ValueError, match="a request has 1 to 255 bytes"):
        asyncio.run(KcsHost().transact(bytes(length)))


def test_half_a_request() -> None:
    async def run() -> None:
        kcs = KcsHost()
        kcs.connect(AsyncBmc(Bmc(lambda request: bytes([request[0] | 4, 0, 0xC7]))))
        assert (await kcs.transact(b"\x18"))[0] == b"\x1c\x00\xc7"

    asyncio.run(run())


# --- LpcPort ---


class FakeQemu:
    """The LPC registers by QMP and by qtest, with all traffic on record."""

    def __init__(self) -> None:
        self.status = 0
        self.log: list[tuple[object, ...]] = []

    async def readl(self, address: int) -> int:
        self.log.append(("readl", address))
        return self.status

    async def writel(self, address: int, value: int) -> None:
        self.log.append(("writel", address, value))

    async def execute(self, command: str, *, path: str, property: str, value: int | None = None) -> int:
        assert path == "/machine/soc/lpc"
        self.log.append((command, property) if value is None else (command, property, value))
        return 0x55


@pytest.mark.parametrize(("channel", "address"), [(2, 0x1E789040), (3, 0x1E789044), (4, 0x1E78911C)])
def test_registers_of_the_emulated_soc(channel: int, address: int) -> None:
    async def run() -> None:
        qemu = FakeQemu()
        port = LpcPort(cast(Qmp, qemu), cast(Qtest, qemu), channel)
        qemu.status = 0x41  # READ, OBF
        assert await port.do(Op("status")) == 0x41
        assert await port.do(Op("read")) == 0x55
        await port.do(Op("command", 0x61))  # with OBF as it is now, not as it was
        await port.do(Op("command", 0x62))
        await port.do(Op("data", 7))
        await port.do(Op("again"))
        n = channel
        assert qemu.log == [
            ("readl", address),
            ("qom-get", f"odr{n}"),
            ("writel", address, 0x48),
            ("qom-set", f"idr{n}", 0x61),
            ("qom-set", f"idr{n}", 0x62),  # the bit is right already
            ("writel", address, 0x40),
            ("qom-set", f"idr{n}", 7),
            ("qom-get", f"idr{n}"),
            ("qom-set", f"idr{n}", 0x55),
        ]

    asyncio.run(run())
