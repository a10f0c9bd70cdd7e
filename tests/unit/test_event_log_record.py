# SPDX-License-Identifier: Apache-2.0
"""Lines of the log: what is encoded comes back, and nothing else is taken for a record."""

import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_event_log import record
from fleet_event_log.record import Clearing, Deletion, Entry, Header, RecordError

# D-Bus strings: no NUL, no lone surrogates.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
NUMBER = st.integers(1, record.LAST_ID)
TIME = st.integers(0, 2**63)
ENTRIES = st.builds(
    Entry,
    NUMBER,
    TIME,
    st.sampled_from(record.SEVERITIES),
    TEXT.filter(bool),
    st.dictionaries(TEXT, TEXT, max_size=4),
    st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)),
)
RECORDS = st.one_of(
    ENTRIES,
    st.builds(Deletion, NUMBER, TIME, NUMBER),
    st.builds(Clearing, NUMBER, TIME),
    st.builds(Header, st.integers(1, 9), NUMBER),
)


@given(RECORDS)
@settings(deadline=None)
def test_there_and_back(one: record.Record) -> None:
    line = record.encode(one)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert record.decode(line[:-1]) == one


@given(RECORDS, st.data())
@settings(deadline=None)
def test_damage_is_noticed(one: record.Record, data: st.DataObject) -> None:
    line = bytearray(record.encode(one)[:-1])
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RecordError):
        record.decode(bytes(line))


@given(RECORDS, st.data())
@settings(deadline=None)
def test_a_part_is_no_record(one: record.Record, data: st.DataObject) -> None:
    line = record.encode(one)[:-1]
    with pytest.raises(RecordError):
        record.decode(line[: data.draw(st.integers(0, len(line) - 1))])


@given(st.binary(max_size=60))
def test_noise_is_no_record(noise: bytes) -> None:
    with pytest.raises(RecordError):
        record.decode(noise)


@pytest.mark.parametrize(
    "content",
    [
        *([], 7, None, "text", {}, {"id": 1}, {"id": "x", "time": 1}),
        {"id": 1, "time": 1, "severity": "Loud", "message": "m", "data": {}},
        {"id": 1, "time": 1, "severity": "Error", "message": "m", "data": []},
        {"id": 1, "time": 1, "severity": "Error", "message": "m", "data": {}, "sel": "0"},
        {"id": 1, "time": 1, "severity": "Error", "message": "m", "data": {}, "sel": "00"},
    ],
)
def test_a_sound_line_of_somebody_else_is_no_record(content: object) -> None:
    body = json.dumps(content).encode()
    with pytest.raises(RecordError):
        record.decode(b"%08x %s" % (zlib.crc32(body), body))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry(1, 1, "error", "m", {}, b""), "severity 'error' is not known; allowed: Emergency, Alert"),
        (Entry(1, 1, "Error", "", {}, b""), "needs a message"),
        (Entry(1, 1, "Error", "m", {}, b"123"), "16 bytes, not 3"),
        (Entry(1, 1, "Error", "m", {"a": "x" * 2000}, b""), "too long; at most 2048"),
    ],
)
def test_what_no_line_can_hold(entry: Entry, words: str) -> None:
    with pytest.raises(RecordError, match=words):
        record.encode(entry)


def test_the_format_is_what_the_documentation_says() -> None:
    """A log of today must be readable for ever: change this test together with record.FORMAT only."""
    assert record.encode(Header(1, 7)) == b'b1c6949e {"format":1,"segment":7}\n'
    entry = Entry(12, 1_790_000_000_000, "Notice", "hé", {"a": "b"}, bytes(range(16)))
    assert record.encode(entry).decode() == (
        'cc51f8e0 {"id":12,"time":1790000000000,"severity":"Notice","message":"hé","data":{"a":"b"},'
        '"sel":"000102030405060708090a0b0c0d0e0f"}\n'
    )
