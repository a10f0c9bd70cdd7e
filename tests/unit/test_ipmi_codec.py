# SPDX-License-Identifier: Apache-2.0
"""Formats from annotations: bits from the lowest up, little-endian numbers, what may be missing."""

from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_ipmi.codec import (
    U1,
    U2,
    U3,
    U4,
    U5,
    U6,
    U7,
    U8,
    U16,
    U24,
    U32,
    U64,
    Bits,
    Bytes3,
    Bytes16,
    CodecError,
    Fixed,
    Flag,
    Layout,
    Rest,
    Results,
)


@pytest.mark.parametrize(
    ("types", "message", "values"),
    [
        ([], "", []),
        ([U8, U8], "01 fe", [1, 254]),
        ([U16, U24, U32], "34 12 56 34 12 78 56 34 12", [0x1234, 0x123456, 0x12345678]),
        ([U64], "08 07 06 05 04 03 02 01", [0x0102030405060708]),
        ([U4, U4], "a5", [5, 10]),
        ([U7, Flag, U6, U2], "85 83", [5, True, 3, 2]),
        ([U1, U2, U5], "ff", [1, 3, 31]),
        ([U3, U5, U8], "0f 10", [7, 1, 16]),
        ([Annotated[int, Bits(12)], U4], "34 52", [0x234, 5]),
        ([U8, Bytes3, U8], "01 43 4c 52 aa", [1, b"CLR", 0xAA]),
        ([U8, Rest], "01 02 03", [1, b"\x02\x03"]),
        ([U8, Rest], "01", [1, b""]),
        ([U8, U8 | None, U16 | None], "01", [1, None, None]),
        ([U8, U8 | None, U16 | None], "01 02", [1, 2, None]),
        ([U8, U8 | None, U16 | None], "01 02 03 04", [1, 2, 0x0403]),
        ([U8, U4 | None, U4 | None], "01", [1, None, None]),
        ([U8, U4 | None, U4 | None], "01 52", [1, 2, 5]),
        ([U8, U8 | None, Rest], "01", [1, None, b""]),
        ([U8, U8 | None, Rest], "01 02 03", [1, 2, b"\x03"]),
        ([Bytes3 | None], "", [None]),
    ],
)
def test_messages(types: list[Any], message: str, values: list[Any]) -> None:
    layout = Layout(types)
    assert layout.unpack(bytes.fromhex(message)) == values
    assert layout.pack(values) == bytes.fromhex(message)


@pytest.mark.parametrize(
    ("types", "message", "words"),
    [
        ([], "00", "1 bytes instead of 0"),
        ([U16], "00", "1 bytes instead of 2"),
        ([U16], "00 00 00", "3 bytes instead of 2"),
        ([U8, U16 | None], "00 00", "2 bytes instead of 1 or 3"),
        ([U8, U16, Rest], "00", "1 bytes instead of 3 or more"),
        ([U8, U16 | None, Rest], "00 00", "2 bytes instead of 1 or 3 or more"),
    ],
)
def test_another_length_is_refused(types: list[Any], message: str, words: str) -> None:
    with pytest.raises(CodecError, match=f"^{words}$"):
        Layout(types).unpack(bytes.fromhex(message))


@pytest.mark.parametrize(
    ("types", "values"),
    [
        ([U8], [256]),
        ([U8], [-1]),
        ([U8], ["1"]),
        ([U8], [None]),
        ([U8], []),
        ([U4, U4], [16, 0]),
        ([Bytes3], [b"12"]),
        ([Bytes3], ["abc"]),
        ([Rest], [1]),
        ([U8 | None, U8 | None], [None, 1]),
        ([U4 | None, U4 | None], [1, None]),
        ([U8 | None, Rest], [None, b"1"]),
    ],
)
def test_values_that_do_not_fit_are_refused(types: list[Any], values: list[Any]) -> None:
    with pytest.raises(CodecError):
        Layout(types).pack(values)


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ([U4], "4 bits"),
        ([U7, U8], "15 bits"),
        ([U4, Bytes3], "bytes begin inside a byte"),
        ([U4, U4 | None], "begins inside a byte"),
        ([Rest, U8], "nothing can follow"),
        ([U8 | None, U8], "only fields that may be missing"),
        ([int], "is no field"),
        ([U8 | U16], "is no field"),
        ([Rest | None], "is no field"),
        (["U8"], "is no field"),
        ([Annotated[int, 8]], "is no field"),
    ],
)
def test_what_is_no_format(types: list[Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Layout(types)


class Pair(NamedTuple):
    low: U4
    high: U4


@pytest.mark.parametrize(
    ("annotation", "result", "message"),
    [
        (None, None, ""),
        (None, (), ""),
        (U16, 0x1234, "34 12"),
        (Rest, b"\x01\x02", "01 02"),
        (tuple[U8, Rest], (1, b"\x02"), "01 02"),
        (Pair, Pair(1, 2), "21"),
    ],
)
def test_results(annotation: Any, result: Any, message: str) -> None:
    assert Results(annotation).pack(result) == bytes.fromhex(message)


@pytest.mark.parametrize(
    ("annotation", "result"), [(None, 1), (None, (1,)), (U8, None), (U8, (1,)), (Pair, [1, 2]), (Pair, (1,))]
)
def test_results_of_another_type_are_refused(annotation: Any, result: Any) -> None:
    with pytest.raises(CodecError):
        Results(annotation).pack(result)


# --- Any format, any message ---


def numbers(width: int) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.integers(0, 2**width - 1).map(lambda value: (Annotated[int, Bits(width)], value))


def group(widths: list[int]) -> st.SearchStrategy[list[tuple[Any, Any]]]:
    """Numbers of these widths, and one more that fills the last byte."""
    return st.tuples(*map(numbers, [*widths, 8 - sum(widths) % 8])).map(list)


fixed = st.binary(min_size=1, max_size=20).map(lambda data: [(Annotated[bytes, Fixed(len(data))], data)])
groups = st.lists(st.integers(1, 40), max_size=5).flatmap(group)
parts = st.lists(groups | fixed, max_size=5).map(lambda lists: [field for part in lists for field in part])


@given(parts, st.binary(max_size=20) | st.none())
def test_what_was_packed_is_unpacked(fields: list[tuple[Any, Any]], rest: bytes | None) -> None:
    if rest is not None:
        fields = [*fields, (Rest, rest)]
    layout = Layout([one for one, _ in fields])
    values = [value for _, value in fields]
    message = layout.pack(values)
    assert layout.unpack(message) == values
    if rest is None:
        with pytest.raises(CodecError):
            layout.unpack(message + b"\0")


@given(parts, st.integers(0, 5), st.binary(max_size=100))
def test_any_bytes_are_values_or_refused(fields: list[tuple[Any, Any]], optional: int, data: bytes) -> None:
    types = [one for one, _ in fields] + [U8 | None] * optional
    layout = Layout(types)
    try:
        values = layout.unpack(data)
    except CodecError:
        return
    assert layout.pack(values) == data


@given(
    parts, st.lists(st.none() | st.integers() | st.binary(max_size=20) | st.text() | st.floats(), max_size=6)
)
def test_any_values_are_bytes_or_refused(fields: list[tuple[Any, Any]], values: list[Any]) -> None:
    layout = Layout([one for one, _ in fields])
    try:
        message = layout.pack(values)
    except CodecError:
        return
    assert layout.unpack(message) == values


def test_sel_records_are_bytes() -> None:
    assert Layout([Bytes16]).unpack(bytes(range(16))) == [bytes(range(16))]
