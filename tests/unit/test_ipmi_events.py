# SPDX-License-Identifier: Apache-2.0
"""Which event records report boot progress."""

import pytest

from fleet_ipmi.events import follow
from ipmi_fake import FakeBmc


def stages(kind: int, sensor: int, event: int, data1: int, data2: int) -> list[str]:
    bmc = FakeBmc()
    follow(bmc, bytes((0, 0, kind, 0, 0, 0, 0, 1, 0, 4, sensor, 0x51, event, data1, data2, 0xFF)))
    return bmc.stages


@pytest.mark.parametrize(
    ("code", "stage"),
    [
        (0x01, "MemoryInit"),
        (0x03, "SecondaryProcInit"),
        (0x07, "PCIInit"),
        (0x13, "OSStart"),
        (0x14, "MotherboardInit"),
        (0x19, "PrimaryProcInit"),
    ],
)
def test_stages(code: int, stage: str) -> None:
    assert stages(0x02, 0x0F, 0x6F, 0xC2, code) == [stage]
    assert stages(0x02, 0x0F, 0x6F, 0x02, code) == [stage]


@pytest.mark.parametrize(
    "fields",
    [
        (0xC0, 0x0F, 0x6F, 0xC2, 0x01),  # a record of another type
        (0x02, 0x22, 0x6F, 0xC2, 0x01),  # another sensor
        (0x02, 0x0F, 0xEF, 0xC2, 0x01),  # the state ends
        (0x02, 0x0F, 0x01, 0xC2, 0x01),  # a threshold
        (0x02, 0x0F, 0x6F, 0xC0, 0x01),  # an error: "no system memory"
        (0x02, 0x0F, 0x6F, 0xC1, 0x01),  # a hang
        (0x02, 0x0F, 0x6F, 0x82, 0x01),  # an OEM code
        (0x02, 0x0F, 0x6F, 0xC2, 0x02),  # a stage that the BMC has no word for
        (0x02, 0x0F, 0x6F, 0xC2, 0xFF),
    ],
)
def test_others(fields: tuple[int, int, int, int, int]) -> None:
    assert stages(*fields) == []
