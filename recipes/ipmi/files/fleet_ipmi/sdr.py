# SPDX-License-Identifier: Apache-2.0
"""Sensor data records (IPMI 2.0, section 43) of the sensors that report events, so that those have names.

Sensors that measure something are not among them yet.
"""

import struct
from typing import NamedTuple

from fleet_ipmi.app import SYSTEM_CODES

BMC_ADDRESS = 0x20
FIRMWARE_ID = 0x01  # software id 00h: the host's firmware (table 5-4)

SENSOR_SPECIFIC = 0x6F  # event type (table 42-1)
FIRMWARE_PROGRESS = 0x0F  # sensor types (table 42-3)
ACPI_POWER_STATE = 0x22

ACPI_STATUS = 0x50  # sensor numbers
FW_PROGRESS = 0x51

_VERSION = 0x51
_COMPACT, _EVENT_ONLY = 0x02, 0x03
_SYSTEM_BOARD, _SYSTEM_FIRMWARE = 0x07, 0x22  # entities (table 43-13)
_LATIN1 = 0xC0

# Table 42-3, type 22h: the offset of each state. Up to 0Ah it is the code of Set ACPI Power State.
ACPI_OFFSETS = {name: code for name, code in SYSTEM_CODES.items() if code <= 0x0A} | {
    "LEGACY_ON": 0x0B,
    "LEGACY_OFF": 0x0C,
    "Unknown": 0x0E,
}


class Sensor(NamedTuple):
    """A discrete sensor. `mask` has a bit for each offset that it reports."""

    record_type: int
    owner: int
    number: int
    entity: int
    sensor_type: int
    mask: int
    name: str


SENSORS = (
    Sensor(_COMPACT, BMC_ADDRESS, ACPI_STATUS, _SYSTEM_BOARD, ACPI_POWER_STATE, 0x5FFF, "ACPI_STATUS"),
    Sensor(_EVENT_ONLY, FIRMWARE_ID, FW_PROGRESS, _SYSTEM_FIRMWARE, FIRMWARE_PROGRESS, 0x07, "FW_PROGRESS"),
)


def record(number: int, sensor: Sensor) -> bytes:
    """Return a sensor's record (43.2, 43.3) with this record id."""
    name = sensor.name.encode("latin-1")
    body = struct.pack("<BBBBB", sensor.owner, 0, sensor.number, sensor.entity, 1)
    kind = struct.pack("<BB", sensor.sensor_type, SENSOR_SPECIFIC)
    if sensor.record_type == _COMPACT:
        initialisation = 0x67  # scanning and events on, now and at start
        capabilities = 0x40  # rearms by itself; events cannot be switched off
        body += bytes((initialisation, capabilities)) + kind
        body += struct.pack("<HHH", sensor.mask, 0, sensor.mask)
        body += bytes((0xC0, 0, 0))  # no analog reading
        body += bytes((1, 0, 0, 0, 0, 0, 0, 0))  # one sensor, no hysteresis
    else:
        body += kind + bytes((1, 0, 0, 0))
    body += bytes((_LATIN1 | len(name),)) + name
    return struct.pack("<HBBB", number, _VERSION, sensor.record_type, len(body)) + body


RECORDS = tuple(record(number, sensor) for number, sensor in enumerate(SENSORS, 1))
