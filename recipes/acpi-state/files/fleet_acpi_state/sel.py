# SPDX-License-Identifier: Apache-2.0
"""The SEL record of a change of state (IPMI 2.0, table 32-1 and table 42-3, sensor type 22h)."""

from fleet_acpi_state.states import STATES

SENSOR_NUMBER = 0x50  # ACPI_STATUS in the SDR repository
_SYSTEM_EVENT = 0x02
_BMC = (0x20, 0x00)  # generator: the BMC's own IPMB address
_EVENT_FORMAT = 0x04  # of IPMI 1.5 and later
_SENSOR_TYPE = 0x22  # System ACPI Power State
_SENSOR_SPECIFIC = 0x6F  # event type; direction: assertion
_UNSPECIFIED = 0xFF


def record(state: str) -> bytes:
    """Return 16 bytes; id and timestamp are the event log's to fill in."""
    event = (_EVENT_FORMAT, _SENSOR_TYPE, SENSOR_NUMBER, _SENSOR_SPECIFIC)
    data = (STATES[state].offset, _UNSPECIFIED, _UNSPECIFIED)
    return bytes((0, 0, _SYSTEM_EVENT, 0, 0, 0, 0, *_BMC, *event, *data))
