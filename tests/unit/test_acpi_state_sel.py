# SPDX-License-Identifier: Apache-2.0
"""The SEL record, field by field."""

import pytest

from fleet_acpi_state import sel
from fleet_acpi_state.states import STATES


@pytest.mark.parametrize("state", STATES)
def test_record(state: str) -> None:
    record = sel.record(state)
    assert len(record) == 16
    assert record[2] == 0x02  # system event
    assert record[7:10] == bytes([0x20, 0x00, 0x04])  # from the BMC, format of IPMI 1.5
    assert record[10:13] == bytes([0x22, sel.SENSOR_NUMBER, 0x6F])
    assert record[13:] == bytes([STATES[state].offset, 0xFF, 0xFF])
