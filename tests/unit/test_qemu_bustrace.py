# SPDX-License-Identifier: Apache-2.0
import asyncio
import itertools
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fleetboard
from fleet_qemu import Board, QemuError, bustrace
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.bustrace import Access, BusTrace, Parser, Ring, Tracer, Transaction, Window
from fleet_qemu.process import LOG_BYTES, LogPipe
from fleet_qemu.qmp import QmpClosed

DEFINITION = fleetboard.load(DEFAULT_BOARD_FILE)
SECONDS = 60.0  # bound of every wait

# Recorded from QEMU 7.2 and Linux 6.12: bus 0 is set up, temp1_input of a tmp105 at 0x18 is read, then a
# write to 0x1f, where nobody is. The three lines of bus 1 were put in by hand.
RECORDED = b"""\
22021@1795566619.393783:aspeed_i2c_bus_write bus[0]: To 0xc of size 4: 0x0
22021@1795566619.393828:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0xffffffff
22021@1795566619.393852:aspeed_i2c_bus_write bus[0]: To 0x0 of size 4: 0x0
22021@1795566619.393921:aspeed_i2c_bus_write bus[0]: To 0x4 of size 4: 0xff005
22021@1795566619.393924:aspeed_i2c_bus_write bus[0]: To 0x8 of size 4: 0x0
22021@1795566619.393943:aspeed_i2c_bus_write bus[0]: To 0x0 of size 4: 0x8001
22021@1795566619.393945:aspeed_i2c_bus_write bus[0]: To 0xc of size 4: 0x607f
22022@1795566658.434771:aspeed_i2c_bus_write bus[0]: To 0x20 of size 4: 0x30
22022@1795566658.434774:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x3
22021@1795566658.440325:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x1
22021@1795566658.440330:aspeed_i2c_bus_write bus[1]: To 0x20 of size 4: 0xa5
22021@1795566658.440331:aspeed_i2c_bus_write bus[1]: To 0x14 of size 4: 0x1b
22021@1795566658.440337:aspeed_i2c_bus_write bus[0]: To 0x20 of size 4: 0x0
22021@1795566658.440339:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x2
22021@1795566658.440384:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x1
22021@1795566658.440390:aspeed_i2c_bus_write bus[0]: To 0x20 of size 4: 0x31
22021@1795566658.440391:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0xb
22021@1795566658.440404:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x1
22021@1795566658.440411:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x18
22021@1795566658.440416:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x4
22021@1795566658.440427:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x0
22021@1795566658.440433:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x20
22021@1795566658.440450:aspeed_i2c_bus_write bus[1]: To 0x14 of size 4: 0x20
22021@1795566658.440453:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x4
22021@1795566658.440460:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x10
22021@1795566658.489899:aspeed_i2c_bus_write bus[0]: To 0x20 of size 4: 0x3e
22021@1795566658.489902:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x3
22021@1795566658.489952:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x2
22021@1795566658.490748:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x20
22021@1795566658.490780:aspeed_i2c_bus_write bus[0]: To 0x10 of size 4: 0x10
"""
POINTER = Transaction(1795566658.434774, 0, 0x18, False, 1, 0.005617, False)
READING = Transaction(1795566658.440391, 0, 0x18, True, 2, 0.000042, False)
OTHER_BUS = Transaction(1795566658.440331, 1, 0x52, True, 1, 0.000119, False)
ABSENT = Transaction(1795566658.489902, 0, 0x1F, False, 0, 0.000846, True)


def line(register: int, value: int, bus: int = 0, at: float = 100.0) -> bytes:
    """One register write as QEMU logs it."""
    return f"7@{at:.6f}:aspeed_i2c_bus_write bus[{bus}]: To {register:#x} of size 4: {value:#x}\n".encode()


def access(address: int, *, read: bool = False, bus: int = 0, at: float = 100.0, nak: bool = False) -> bytes:
    """A transaction of one byte as the driver does it."""
    more = line(0x10, 2, bus, at) if nak else line(0x14, 0x18 if read else 0x2, bus, at)
    start = line(0x20, address << 1 | read, bus, at) + line(0x14, 0x3, bus, at)
    return start + more + line(0x14, 0x20, bus, at)


# --- parser ---


def test_recorded_lines() -> None:
    parser = Parser([0, 1])
    assert parser.feed(RECORDED) == [POINTER, READING, OTHER_BUS, ABSENT]
    assert parser.end() == []
    assert (parser.ignored, parser.undecoded) == (0, 0)


def test_only_the_wanted_buses() -> None:
    assert Parser([0]).feed(RECORDED) == [POINTER, READING, ABSENT]
    assert Parser([1]).feed(RECORDED) == [OTHER_BUS]
    assert Parser([2]).feed(RECORDED) == []


@given(st.lists(st.integers(0, len(RECORDED)), max_size=40))
def test_cut_anywhere(places: list[int]) -> None:
    parser = Parser([0, 1])
    edges = [0, *sorted(places), len(RECORDED)]
    found = [one for i, j in itertools.pairwise(edges) for one in parser.feed(RECORDED[i:j])]
    assert found == [POINTER, READING, OTHER_BUS, ABSENT]
    assert parser.ignored == 0


@given(st.lists(st.binary(max_size=100).map(lambda data: b"~" + data.replace(b"\n", b"")), max_size=30))
def test_garbage_is_ignored_and_counted(garbage: list[bytes]) -> None:
    recorded = RECORDED.splitlines(keepends=True)
    mixed = list(recorded)
    for place, junk in enumerate(garbage):
        mixed.insert(place * 7 % (len(mixed) + 1), junk + b"\n")
    parser = Parser([0, 1])
    assert parser.feed(b"".join(mixed)) == [POINTER, READING, OTHER_BUS, ABSENT]
    assert parser.ignored == len(garbage)


@given(st.lists(st.binary(max_size=300)))
def test_no_bytes_are_an_error(pieces: list[bytes]) -> None:
    parser = Parser([0])
    for piece in pieces:
        assert parser.feed(piece) == []
    parser.end()
    assert parser.ignored <= b"".join(pieces).count(b"\n")


@pytest.mark.parametrize(
    "wrong",
    [
        b"7@100.0:aspeed_i2c_bus_read bus[0]: To 0x14 of size 4: 0x3",  # QEMU 7.2 says "To" here as well
        b"7@100.0:aspeed_i2c_bus_cmd handling cmd=0x3 start|tx| count=1 intr=0x0",
        b"aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x3",  # without -msg timestamp=on
        b" 7@100.0:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x3",
        b"7@100.0:aspeed_i2c_bus_write bus[0]: To 0x14 of size 4: 0x3 ",
    ],
)
def test_what_is_no_write_is_no_transaction(wrong: bytes) -> None:
    parser = Parser([0])
    assert parser.feed(line(0x20, 0x30) + wrong + b"\n" + line(0x14, 0x20)) == []
    assert parser.end() == []
    assert parser.ignored == 1


def test_a_line_without_end_takes_no_room() -> None:
    parser = Parser([0])
    for _ in range(100):
        assert parser.feed(b"x" * 1000) == []
    assert len(parser._rest) < 10_000
    assert parser.feed(b"rest of it\n" + access(0x18))[0].address == 0x18
    assert parser.ignored == 1


def test_a_transaction_ends_at_the_stop_or_when_the_controller_is_switched_off_or_at_the_end() -> None:
    started = line(0x20, 0x31, at=100) + line(0x14, 0xB, at=101)
    for rest in (line(0x14, 0x20, at=103), line(0x14, 0x38, at=103), line(0x0, 0x8000, at=103)):
        parser = Parser([0])
        (one,) = parser.feed(started + rest)
        assert one[:4] == (101.0, 0, 0x18, True)
        assert one.duration == 2
        assert parser.end() == []
    parser = Parser([0, 1])
    assert parser.feed(started + line(0x20, 0, bus=1, at=104)) == []
    assert parser.end() == [(101.0, 0, 0x18, True, 1, 3.0, False)]
    assert parser.end() == []


def test_start_and_stop_in_one_command() -> None:
    assert Parser([0]).feed(line(0x20, 0x30) + line(0x14, 0x23)) == [(100.0, 0, 0x18, False, 0, 0.0, False)]


def test_nobody_answers_a_read() -> None:
    lines = line(0x20, 0x31) + line(0x14, 0x1B) + line(0x10, 2) + line(0x14, 0x20)
    assert Parser([0]).feed(lines) == [(100.0, 0, 0x18, True, 0, 0.0, True)]


def test_a_refused_byte_was_sent() -> None:
    lines = line(0x20, 0x30) + line(0x14, 3) + line(0x10, 1) + line(0x20, 9) + line(0x14, 2)
    lines += line(0x10, 2) + line(0x14, 0x20)
    assert Parser([0]).feed(lines) == [(100.0, 0, 0x18, False, 1, 0.0, True)]


def test_a_trace_that_begins_within_a_transaction() -> None:
    parser = Parser([0])
    assert parser.feed(line(0x20, 7) + line(0x14, 2) + line(0x10, 2) + line(0x14, 0x20) + access(0x18)) == [
        (100.0, 0, 0x18, False, 1, 0.0, False)
    ]
    assert parser.undecoded == 0


def test_a_clock_that_is_set_back_gives_no_negative_duration() -> None:
    (one,) = Parser([0]).feed(line(0x20, 0x30) + line(0x14, 3, at=50) + line(0x14, 0x20, at=40))
    assert one.duration == 0


@pytest.mark.parametrize(
    "lines",
    [
        line(0x20, 0x30) + line(0x14, 0x43),  # buffer: the address is in the pool
        line(0x14, 0x103),  # DMA: the address is in memory
        line(0x14, 0x1),  # acknowledges an interrupt in the new mode, or a START that needs no new address
        line(0x18, 0x1801_0003),  # new mode, packet to 0x18
    ],
)
def test_modes_that_are_not_decoded_are_counted_on_their_bus(lines: bytes) -> None:
    for bus, count in ((0, 1), (1, 0)):
        parser = Parser([bus])
        parser.feed(lines)
        assert parser.undecoded == count


# --- ring ---


def transactions(count: int, first: int = 0) -> list[Transaction]:
    return [Transaction(float(n), 0, 0x18, True, 2, 0.0, False) for n in range(first, first + count)]


@given(st.lists(st.integers(0, 30)), st.integers(1, 20), st.integers(1, 10), st.integers(0, 3))
def test_a_reader_gets_all_or_knows_how_many_it_lost(
    adds: list[int], limit: int, batch: int, reads: int
) -> None:
    ring, since, got, lost = Ring(limit), 0, [], 0
    for add in adds:
        ring.add(transactions(add, ring.total))
        for _ in range(reads):
            part, since, missed = ring.read(since, batch)
            assert len(part) <= min(batch, limit)
            got += part
            lost += missed
    while since < ring.total:
        part, since, missed = ring.read(since, batch)
        got += part
        lost += missed
    assert lost + len(got) == ring.total == sum(adds)
    assert got == sorted(got)
    assert got[-limit:] == transactions(ring.total)[-limit:]


def test_reading_from_nowhere() -> None:
    ring = Ring(10)
    ring.add(transactions(3))
    assert ring.read(99, 5) == ([], 3, 0)
    assert ring.read(-5, 5) == (transactions(3), 3, 0)


# --- overlap ---

times = st.integers(0, 60).map(lambda n: n / 4)


@given(
    st.lists(st.tuples(times, st.integers(0, 1), st.integers(0, 20), times), max_size=12),
    st.lists(st.tuples(times, times, st.integers(0, 1)), max_size=12),
)
def test_overlaps_are_those_that_share_some_time(
    items: list[tuple[float, int, int, float]], spans: list[tuple[float, float, int]]
) -> None:
    done = [Transaction(at, bus, 0x18, True, n, length, False) for at, bus, n, length in items]
    windows = [Window(start, start + length, bus) for start, length, bus in spans]
    expected = []
    for one in done:
        end = one.time + max(one.duration, 9 * (1 + one.bytes) / 36)
        expected += [
            (one, window)
            for window in windows
            if window.bus == one.bus and max(one.time, window.start) < min(end, window.end)
        ]
    found = bustrace.overlaps(done, windows, hertz=36)
    assert sorted(found) == sorted(expected)
    assert [one for one, _ in found] == sorted(one for one, _ in found)


def test_an_instant_transaction_takes_the_time_of_a_real_bus() -> None:
    one = Transaction(10.0, 0, 0x50, True, 9, 0.0, False)  # 0.9 ms at 100 kHz
    assert bustrace.wire_seconds(9) == pytest.approx(0.0009)
    assert bustrace.overlaps([one], [Window(10.0008, 11.0, 0)])
    assert not bustrace.overlaps([one], [Window(10.001, 11.0, 0)])
    assert not bustrace.overlaps([one], [Window(10.0008, 11.0, 1)])
    assert not bustrace.overlaps([one], [Window(9.0, 10.0, 0)])


# --- tracer ---


class FakeQemu:
    """A QEMU whose trace event can be switched, and whose pipe holds `piped`."""

    def __init__(self, tracer: Tracer) -> None:
        self.qmp: Any = self  # its own
        self.tracer = tracer
        self.piped = b""
        self.enabled: list[bool] = []
        self.error: Exception | None = None

    def drain_log(self) -> None:
        piped, self.piped = self.piped, b""
        self.tracer.feed(piped)

    async def execute(self, command: str, *, name: str, enable: bool) -> None:
        assert (command, name) == ("trace-event-set-state", "aspeed_i2c_bus_write")
        if self.error:
            raise self.error
        self.enabled.append(enable)


@pytest.fixture
def tracer() -> Tracer:
    return Tracer()


@pytest.fixture
def qemu(tracer: Tracer) -> FakeQemu:
    return FakeQemu(tracer)


def addresses(answer: dict[str, Any]) -> list[int]:
    return [one.address for one in answer["transactions"]]


def test_what_is_in_the_pipe_is_read_and_what_comes_before_and_after_is_not(
    tracer: Tracer, qemu: FakeQemu
) -> None:
    async def scenario() -> None:
        await tracer.attach(qemu)
        tracer.feed(access(0x10))
        await tracer.start([0])
        qemu.piped = access(0x11)
        first = tracer.read(0)
        assert addresses(first) == [0x11]
        qemu.piped = access(0x12) + line(0x20, 0x26) + line(0x14, 3)
        assert (await tracer.stop())["next"] == 3
        tracer.feed(access(0x14))
        assert addresses(tracer.read(first["next"])) == [0x12, 0x13]
        assert qemu.enabled == [True, False]
        await tracer.stop()
        assert qemu.enabled == [True, False]

    asyncio.run(scenario())


def test_each_qemu_of_a_traced_board_is_traced_from_the_start(tracer: Tracer, qemu: FakeQemu) -> None:
    async def scenario() -> None:
        await tracer.start([0])
        for address in (0x11, 0x12):
            await tracer.attach(qemu)
            tracer.feed(line(0x20, address << 1) + line(0x14, 3) + b"cut off in the mid")
            tracer.detach()
        assert addresses(tracer.read(0)) == [0x11, 0x12]
        assert tracer.read(0)["ignored"] == 2
        await tracer.stop()
        await tracer.attach(qemu)
        assert qemu.enabled == [True, True]

    asyncio.run(scenario())


def test_a_reset_ends_transactions(tracer: Tracer, qemu: FakeQemu) -> None:
    async def scenario() -> None:
        await tracer.attach(qemu)
        await tracer.start([0])
        qemu.piped = line(0x20, 0x22, at=100) + line(0x14, 3, at=100)
        tracer.reset()
        tracer.feed(line(0x0, 0, at=110))
        (one,) = tracer.read(0)["transactions"]
        assert (one.address, one.duration) == (0x11, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("buses", [[], [16], [-1], ["0"], [0, None]])
def test_what_is_no_bus(tracer: Tracer, buses: Sequence[Any]) -> None:
    with pytest.raises(QemuError, match="numbers from 0 to 15"):
        asyncio.run(tracer.start(buses))


def test_one_trace_at_a_time(tracer: Tracer) -> None:
    asyncio.run(tracer.start([0]))
    with pytest.raises(QemuError, match="traced already"):
        asyncio.run(tracer.start([1]))
    asyncio.run(tracer.stop())
    asyncio.run(tracer.start([1]))


def test_a_trace_that_qemu_refuses_has_not_begun(tracer: Tracer, qemu: FakeQemu) -> None:
    async def scenario() -> None:
        await tracer.attach(qemu)
        qemu.error = RuntimeError("unknown event")
        with pytest.raises(RuntimeError):
            await tracer.start([0])
        qemu.error = None
        await tracer.start([0])

    asyncio.run(scenario())


def test_stop_while_qemu_ends(tracer: Tracer, qemu: FakeQemu) -> None:
    async def scenario() -> None:
        await tracer.attach(qemu)
        await tracer.start([0])
        qemu.error = QmpClosed("gone")
        qemu.piped = access(0x11)
        assert (await tracer.stop())["next"] == 1

    asyncio.run(scenario())


# --- what tests hold ---


def test_batches_are_joined(tracer: Tracer) -> None:
    count = 2 * bustrace.BATCH + 7
    trace = BusTrace(tracer.read)
    asyncio.run(tracer.start([0]))
    tracer.feed(access(0x11) * count)
    assert len(trace.update()) == count
    tracer.feed(access(0x12))
    assert [one.address for one in trace.update()] == [0x12]
    assert len(trace.transactions) == count + 1
    assert trace.update() == []


def test_a_trace_with_holes_proves_nothing(tracer: Tracer) -> None:
    trace = BusTrace(tracer.read)
    asyncio.run(tracer.start([0]))
    tracer.feed(access(0x11) * (bustrace.RETAINED + 1))
    with pytest.raises(QemuError, match="1 transactions were lost"):
        trace.update()


def test_a_trace_that_is_not_understood_proves_nothing(tracer: Tracer) -> None:
    trace = BusTrace(tracer.read)
    asyncio.run(tracer.start([0]))
    tracer.feed(line(0x18, 0x1801_0003))
    with pytest.raises(QemuError, match="not decoded"):
        trace.update()


# --- self-test ---

ACCESSES, ELSEWHERE = bustrace.self_test_accesses(DEFINITION, "dimm")
SEEN = [Transaction(1.0, a.bus, a.address, a.read, int(a.answered), 0.0, not a.answered) for a in ACCESSES]


def test_self_test_touches_a_present_and_an_absent_address_both_ways_and_another_bus() -> None:
    bus = DEFINITION.bus("dimm")
    taken = {device.address for device in bus.devices}
    assert {(a.read, a.answered) for a in ACCESSES} == {(r, a) for r in (True, False) for a in (True, False)}
    assert all(a.bus == bus.number and (a.address in taken) == a.answered for a in ACCESSES)
    assert [a.bus != bus.number for a in ELSEWHERE] == [True]
    compile(bustrace.guest_script(ACCESSES + ELSEWHERE), "guest", "exec")


def test_self_test_accepts_what_was_done_and_more() -> None:
    assert bustrace.self_test_problems(ACCESSES, SEEN) == []
    assert bustrace.self_test_problems(ACCESSES, [*SEEN, SEEN[0]._replace(address=0x50)]) == []


@pytest.mark.parametrize("position", range(len(SEEN)))
@pytest.mark.parametrize("field", ["bus", "address", "read", "nak"])
def test_self_test_misses_what_is_told_wrongly(position: int, field: str) -> None:
    right = SEEN[position]
    wrong = {
        "bus": right._replace(bus=5),
        "address": right._replace(address=0x77),
        "read": right._replace(read=not right.read),
        "nak": right._replace(nak=not right.nak),
    }[field]
    problems = bustrace.self_test_problems(ACCESSES, [*SEEN[:position], wrong, *SEEN[position + 1 :]])
    assert f"not seen: {ACCESSES[position]}" in problems
    assert any("another bus" in problem for problem in problems) == (field == "bus")


def test_self_test_wants_each_access() -> None:
    twice = [Access(0, 0x18, True, True)] * 2
    assert len(bustrace.self_test_problems(twice, [Transaction(1.0, 0, 0x18, True, 1, 0.0, False)])) == 1


# --- QEMU's log ---


def test_the_log_is_delivered_to_the_end() -> None:
    async def scenario() -> bytes:
        heard = bytearray()
        pipe = LogPipe(heard.extend)
        script = f"import os; os.write({pipe.far}, bytes(3 * {LOG_BYTES}) + b'end')"
        child = subprocess.Popen([sys.executable, "-c", script], pass_fds=[pipe.far])
        os.close(pipe.far)
        async with asyncio.timeout(SECONDS):
            while child.poll() is None:
                await asyncio.sleep(0.01)
        pipe.drain()
        pipe.drain()
        pipe.close()
        pipe.close()
        return bytes(heard)

    assert asyncio.run(scenario()) == bytes(3 * LOG_BYTES) + b"end"


def test_what_is_in_the_log_when_qemu_has_ended_is_delivered() -> None:
    async def scenario() -> bytes:
        heard = bytearray()
        pipe = LogPipe(heard.extend)
        os.write(pipe.far, b"last words")
        os.close(pipe.far)
        pipe.close()
        return bytes(heard)

    assert asyncio.run(scenario()) == b"last words"


# --- a real QEMU ---


class StartBoard(Protocol):
    """Makes a board, without power, whose firmware writes to registers."""

    def __call__(self, writes: Sequence[tuple[int, int]], *, forever: bool = ...) -> Board: ...


def guest(writes: Sequence[tuple[int, int]], *, forever: bool) -> bytes:
    """ARM code for the reset vector: the first CPU writes values to addresses, once or for ever."""
    code = [
        0xEE100FB0,  # 00        mrc   p15, 0, r0, c0, c0, 5   which CPU is this?
        0xE2100003,  # 04        ands  r0, r0, #3
        0x1A000006,  # 08        bne   sleep
        0xE28F001C,  # 0c again: adr   r0, table
        0xE4901004,  # 10 next:  ldr   r1, [r0], #4
        0xE3510000,  # 14        cmp   r1, #0
        0x0AFFFFFB if forever else 0x0A000002,  # 18  beq again, or beq sleep
        0xE4902004,  # 1c        ldr   r2, [r0], #4
        0xE5812000,  # 20        str   r2, [r1]
        0xEAFFFFF9,  # 24        b     next
        0xE320F003,  # 28 sleep: wfi
        0xEAFFFFFD,  # 2c        b     sleep
    ]  #               30 table: .word
    words = [*code, *(word for write in writes for word in write), 0]
    return struct.pack(f"<{len(words)}I", *words)


def register_writes(log: bytes) -> list[tuple[int, int]]:
    """What firmware must write so that QEMU logs these lines. AST2600: bus N is at 0x1e78a080 + N * 0x80."""
    found = [bustrace._LINE.fullmatch(one) for one in log.splitlines()]
    return [(0x1E78A080 + 0x80 * int(m[2]) + int(m[3], 16), int(m[4], 16)) for m in found if m]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartBoard]:
    boards: list[Board] = []

    def start_board(writes: Sequence[tuple[int, int]], *, forever: bool = False) -> Board:
        image = tmp_path / "image.bin"
        image.write_bytes(guest(writes, forever=forever))
        with image.open("r+b") as file:
            file.truncate(DEFINITION.flash.size)
        board = Board.start(image, root=tmp_path / "boards", verify=False, provisioned=False)
        boards.append(board)
        board.power_off()
        return board

    yield start_board
    for board in boards:
        board.close()


def fetch(trace: BusTrace, count: int) -> None:
    """Wait for transactions."""
    end = time.monotonic() + SECONDS
    while len(trace.transactions) < count:
        assert time.monotonic() < end, f"{trace.transactions} within {SECONDS} s"
        trace.update()
        time.sleep(0.01)


def test_a_board_is_traced_from_its_first_instruction_over_power_cycles_and_resets(start: StartBoard) -> None:
    board = start(register_writes(RECORDED))
    begin = time.time()
    with board.bus_trace([0, 1]) as trace:
        for count, again in enumerate((board.power_on, board.reset, board.power_off, board.power_on), 1):
            again()
            fetch(trace, 4 * (count - (count > 2)))
    kinds = [one[1:5] for one in (POINTER, READING, OTHER_BUS, ABSENT)]
    assert [one[1:5] for one in trace.transactions] == 3 * kinds
    assert all(begin <= one.time <= time.time() for one in trace.transactions)
    board.reset()
    with board.bus_trace([0]) as trace:
        pass
    assert trace.transactions == []


def test_a_trace_ends_with_its_block_also_when_that_fails(start: StartBoard) -> None:
    board = start(register_writes(RECORDED))
    board.power_on()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), board.bus_trace([0]):
            _ = 1 / 0
    with board.bus_trace([0]), pytest.raises(QemuError, match="traced already"), board.bus_trace([0]):
        pass


def test_a_busy_guest_whose_trace_nobody_reads_runs_on_and_loses_the_oldest(start: StartBoard) -> None:
    board = start(register_writes(RECORDED), forever=True)

    def keep_busy() -> None:
        with board.bus_trace([0, 1]):
            board.power_on()
            end = time.monotonic() + SECONDS
            while board._call("bus-trace-read", since=1 << 40)["next"] <= bustrace.RETAINED:
                assert time.monotonic() < end
                time.sleep(0.1)
            assert board.qmp("query-status")["running"]

    with pytest.raises(QemuError, match="transactions were lost"):
        keep_busy()
    status = Path(f"/proc/{board.state.supervisor}/status").read_text()
    assert int(status.partition("VmRSS:")[2].split()[0]) < 150_000  # KiB
    assert board.qmp("query-status")["running"]
