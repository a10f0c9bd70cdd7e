# SPDX-License-Identifier: Apache-2.0
"""SEL records: what the log fills in, and how record ids and entries belong together."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_event_log import sel

TIME = 1_790_000_123_456


@pytest.mark.parametrize(
    ("kind", "stamped"), [(0x02, True), (0xC0, True), (0xDF, True), (0xE0, False), (0xFF, False)]
)
def test_id_and_timestamp_are_the_logs(kind: int, stamped: bool) -> None:
    given_record = bytes([0xAA, 0xBB, kind, *range(0x30, 0x3D)])
    found = sel.complete(given_record, 0x1234, TIME)
    assert len(found) == 16
    assert found[:2] == b"\x34\x12"
    assert found[2] == kind
    assert found[3:7] == (struct.pack("<I", TIME // 1000) if stamped else given_record[3:7])
    assert found[7:] == given_record[7:]


@pytest.mark.parametrize(("time", "stamp"), [(-5, 0), (2**62, 0xFFFF_FFFE)])
def test_times_that_do_not_fit_are_the_nearest_that_do(time: int, stamp: int) -> None:
    assert struct.unpack_from("<I", sel.complete(bytes((0, 0, 2)) + bytes(13), 1, time), 3)[0] == stamp


@given(st.binary(max_size=40).filter(lambda data: len(data) != 16))
def test_another_length_is_left_to_be_refused(data: bytes) -> None:
    assert sel.complete(data, 1, TIME) == data
    assert sel.describe(data) == {}


@given(st.integers(1, 2**32 - 1), st.integers(0, 4096))
def test_a_record_id_leads_back_to_its_entry(last: int, age: int) -> None:
    number = max(1, last - age)
    record = sel.record_id(number)
    assert 1 <= record <= 0xFFFE
    assert sel.entry_id(record, last) == number


def test_a_record_id_that_was_never_given_leads_nowhere() -> None:
    assert sel.entry_id(9, 3) == 0
    assert sel.entry_id(1, 0) == 0


def test_fields_of_a_system_event() -> None:
    record = bytes.fromhex("0000 02 00000000 2000 04 22 50 6f 05ffff")
    assert sel.describe(record) == {
        "RECORD_TYPE": "2",
        "GENERATOR_ID": "32",
        "SENSOR_TYPE": "34",
        "SENSOR_NUMBER": "80",
        "EVENT_DIR": "1",
        "EVENT_TYPE": "111",
        "SENSOR_DATA": "05FFFF",
    }
    oem = bytes((0, 0, 0xE1)) + bytes(range(13))
    assert sel.describe(oem) == {"RECORD_TYPE": "225", "SENSOR_DATA": "0405060708090A0B0C"}
