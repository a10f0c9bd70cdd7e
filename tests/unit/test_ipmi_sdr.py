# SPDX-License-Identifier: Apache-2.0
"""Sensor data records, byte by byte; ipmitool reads them in test_ipmi_service."""

from fleet_ipmi import sdr


def test_compact_record() -> None:
    fixed = "0100 51 02 26 20 00 50 07 01 67 40 22 6f ff5f 0000 ff5f c00000 01 00 00 00 000000 00 cb"
    assert sdr.RECORDS[0] == bytes.fromhex(fixed) + b"ACPI_STATUS"


def test_event_only_record() -> None:
    fixed = "0200 51 03 17 01 00 51 22 01 0f 6f 01 00 00 00 cb"
    assert sdr.RECORDS[1] == bytes.fromhex(fixed) + b"FW_PROGRESS"


def test_lengths_and_numbers() -> None:
    for number, record in enumerate(sdr.RECORDS, 1):
        assert int.from_bytes(record[:2], "little") == number
        assert len(record) == 5 + record[4]


def test_every_state_has_an_offset_of_the_sensor() -> None:
    assert {bit for bit in range(16) if sdr.SENSORS[0].mask >> bit & 1} == set(sdr.ACPI_OFFSETS.values())
    assert sdr.ACPI_OFFSETS["S5_G2"] == 5
    assert "" not in sdr.ACPI_OFFSETS
