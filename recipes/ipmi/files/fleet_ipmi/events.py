# SPDX-License-Identifier: Apache-2.0
"""What an event record means to the BMC, beside being kept (IPMI 2.0, sections 32 and 42)."""

from fleet_ipmi.outside import Bmc
from fleet_ipmi.sdr import FIRMWARE_PROGRESS, SENSOR_SPECIFIC

SYSTEM_EVENT = 0x02  # record type

_PROGRESS = 0x02  # offset of "System Firmware Progress"; the others are errors and hangs
_OEM_CODE = 0x80  # event data 1, bits 7:6: event data 2 holds an OEM code
# Table 42-3, type 0Fh, event data 2, in the words of State.Boot.Progress.ProgressStages.
_STAGES = {
    0x01: "MemoryInit",
    0x03: "SecondaryProcInit",
    0x07: "PCIInit",
    0x13: "OSStart",
    0x14: "MotherboardInit",
    0x19: "PrimaryProcInit",
}


def follow(bmc: Bmc, record: bytes) -> None:
    """Tell the BMC of boot progress when a SEL record of 16 bytes reports any. It waits for nothing."""
    kind, sensor_type, event_type, data1, data2 = record[2], record[10], record[12], record[13], record[14]
    if (kind, sensor_type, event_type) != (SYSTEM_EVENT, FIRMWARE_PROGRESS, SENSOR_SPECIFIC):
        return  # bit 7 of the event type is set when a state ends
    if data1 & 0x0F == _PROGRESS and data1 & 0xC0 != _OEM_CODE and data2 in _STAGES:
        bmc.boot_progress(_STAGES[data2])
