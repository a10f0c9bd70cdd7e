# SPDX-License-Identifier: Apache-2.0
"""From requests to functions: which one, who may, what comes back when something is wrong."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_ipmi.codec import U8, U16, Rest
from fleet_ipmi.dispatch import (
    KCS,
    Channel,
    Commands,
    CompletionError,
    Context,
    Dispatcher,
    Privilege,
    Reservation,
)
from fleet_ipmi.outside import (
    AwayError,
    BadValueError,
    BmcError,
    NoSuchRecordError,
    NotNowError,
    StorageError,
)
from ipmi_fake import AREAS, FakeBmc

command = Commands()
LAN = Channel(1, 4, 1, Privilege.USER, in_band=False)


@command(0x06, 0x01, "Double", Privilege.USER)
def double(_context: Context, number: U8) -> U16:
    return 2 * number


@command(0x06, 0x02, "Slowly", Privilege.OPERATOR)
async def slowly(context: Context, data: Rest) -> Rest:
    await asyncio.sleep(0)
    return data + bytes((context.channel.in_band,))


@command(0x06, 0x03, "Fail", Privilege.USER)
def fail(_context: Context, code: U8) -> None:
    raise CompletionError(code)


@command(0x06, 0x04, "Break", Privilege.USER)
def broken(_context: Context, is_broken: U8) -> None:
    assert not is_broken, "a bug"


@command(0x06, 0x05, "Hang", Privilege.USER)
async def hang(_context: Context) -> None:
    await asyncio.Event().wait()


@command(0x06, 0x06, "Lie", Privilege.USER)
def lie(_context: Context) -> U8:
    return 256


@command(0x06, 0x07, "Ask", Privilege.USER)
async def ask(context: Context) -> None:
    await context.bmc.power()


def message(request: str, channel: Channel = KCS, **options: Any) -> str:
    dispatcher = Dispatcher(FakeBmc(), command, **options)
    return asyncio.run(dispatcher.message(channel, bytes.fromhex(request))).hex(" ")


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        ("18 01 81", "1c 01 00 02 01"),
        ("1a 01 81", "1e 01 00 02 01"),  # the LUN is kept
        ("18 02 07 08", "1c 02 00 07 08 01"),
        ("18 7f", "1c 7f c1"),
        ("fc 01", "fc 01 c1"),
        ("18 01", "1c 01 c7"),
        ("18 01 00 00", "1c 01 c7"),
        ("18 03 cb", "1c 03 cb"),
        ("18 06", "1c 06 ff"),
    ],
)
def test_requests(request_: str, response: str) -> None:
    assert message(request_) == response


def test_the_lowest_privilege_counts() -> None:
    assert message("18 01 01", LAN) == "1c 01 00 02 00"
    assert message("18 02", LAN) == "1c 02 d4"
    assert message("18 02", LAN._replace(privilege=Privilege.ADMIN)) == "1c 02 00 00"


def test_a_command_that_hangs_is_given_up() -> None:
    assert message("18 05", seconds=0.01) == "1c 05 c3"


def test_a_bug_is_logged_once_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    dispatcher = Dispatcher(FakeBmc(), command)

    def run(number: int) -> int:
        return asyncio.run(dispatcher.answer(KCS, 0x06, 0x04, bytes((number,))))[0]

    assert [run(1), run(1)] == [0xFF, 0xFF]
    errors = capsys.readouterr().err
    assert errors.count("Break failed:") == 1
    assert errors.count("AssertionError: a bug") == 1
    assert [run(0), run(1)] == [0x00, 0xFF]
    assert capsys.readouterr().err.count("Break failed:") == 1, "it has worked in between"


@pytest.mark.parametrize(
    ("error", "code", "is_logged"),
    [
        (AwayError, 0xCE, True),
        (NotNowError, 0xD5, False),
        (BadValueError, 0xC9, False),
        (NoSuchRecordError, 0xCB, False),
        (StorageError, 0xFF, True),
    ],
)
def test_errors_of_the_bmc(
    error: type[BmcError], code: int, is_logged: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    bmc = FakeBmc()
    bmc.error = error("the reason")
    dispatcher = Dispatcher(bmc, command)
    for _ in range(2):
        assert asyncio.run(dispatcher.answer(KCS, 0x06, 0x07, b"")) == (code, b"")
    assert capsys.readouterr().err == ("Ask: the reason\n" if is_logged else "")


def test_requests_are_counted() -> None:
    told: list[tuple[int, int]] = []
    dispatcher = Dispatcher(FakeBmc(), command, counted=lambda one: told.append((one.requests, one.refused)))
    assert dispatcher.last_request == 0
    for number, data in ((0x01, b"\1"), (0x01, b""), (0x7F, b""), (0x03, b"\xcb")):
        asyncio.run(dispatcher.answer(KCS, 0x06, number, data))
    dispatcher.refuse()
    assert told == [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3)]
    assert dispatcher.last_request > 1_700_000_000_000


def test_reservations() -> None:
    reservation = Reservation()
    for number in (0, 1):
        with pytest.raises(CompletionError):
            reservation.check(number)
    first, second = reservation.reserve(), reservation.reserve()
    assert first != second
    reservation.check(second)
    with pytest.raises(CompletionError):
        reservation.check(first)
    reservation.cancel()
    with pytest.raises(CompletionError):
        reservation.check(second)
    assert 0 not in {reservation.reserve() for _ in range(0x10001)}


def test_what_is_no_command() -> None:
    def no_context(number: U8) -> None: ...

    with pytest.raises(TypeError, match="must be a Context"):
        Commands()(0, 0, "", Privilege.USER)(no_context)

    def no_field(_context: Context, number: int) -> None: ...

    with pytest.raises(TypeError, match="no field"):
        Commands()(0, 0, "", Privilege.USER)(no_field)
    with pytest.raises(ValueError, match="two commands 06h/01h"):
        command(0x06, 0x01, "", Privilege.USER)(double)


@given(st.sampled_from([key for area in AREAS for key in area.table]), st.binary(max_size=24), st.booleans())
def test_any_data_gets_an_answer_and_breaks_nothing(key: tuple[int, int], data: bytes, in_band: bool) -> None:
    bmc = FakeBmc()
    bmc.records = {1: bytes(16), 3: bytes(16)}
    dispatcher = Dispatcher(bmc, *AREAS)
    channel = KCS if in_band else LAN._replace(privilege=Privilege.ADMIN)
    code, _ = asyncio.run(dispatcher.answer(channel, *key, data))
    assert code != 0xFF
