# SPDX-License-Identifier: Apache-2.0
"""Events from outside, and readings of discrete sensors."""

import pytest

from fleet_ipmi.dummy import CHANNEL as LAN
from fleet_ipmi.outside import StorageError
from ipmi_fake import FakeBmc, Host


@pytest.fixture
def bmc() -> FakeBmc:
    return FakeBmc()


@pytest.fixture
def host(bmc: FakeBmc) -> Host:
    return Host(bmc)


def test_an_event_of_the_host_is_kept(host: Host, bmc: FakeBmc) -> None:
    assert host.ask("04 02 21 04 07 30 6f 01 02 03") == "00"
    (record,) = bmc.records.values()
    assert record.hex(" ") == "01 00 02 00 00 00 00 21 00 04 07 30 6f 01 02 03"


def test_an_event_of_an_operator_is_kept(host: Host, bmc: FakeBmc) -> None:
    assert host.ask("04 02 04 01 30 01 09 ff ff", LAN) == "00"
    (record,) = bmc.records.values()
    assert record.hex(" ") == "01 00 02 00 00 00 00 81 10 04 01 30 01 09 ff ff"


def test_what_an_event_does_not_say_is_unspecified(host: Host, bmc: FakeBmc) -> None:
    assert host.ask("04 02 21 04 07 30 6f 01") == "00"
    assert host.ask("04 02 21 04 07 30 6f 01 02") == "00"
    assert [record[13:].hex() for record in bmc.records.values()] == ["01ffff", "0102ff"]


@pytest.mark.parametrize("data", ["", "21", "21 04 07 30 6f", "21 04 07 30 6f 01 02 03 04"])
def test_lengths(host: Host, bmc: FakeBmc, data: str) -> None:
    assert host.ask("04 02" + data) == "c7"
    assert bmc.asked == []


def test_an_unknown_revision(host: Host, bmc: FakeBmc) -> None:
    assert host.ask("04 02 21 05 07 30 6f 01 02 03") == "cc"
    assert bmc.asked == []


def test_progress_of_the_firmware_is_told_even_when_the_log_is_broken(host: Host, bmc: FakeBmc) -> None:
    bmc.error = StorageError("flash")
    assert host.ask("04 02 01 04 0f 51 6f c2 13 ff") == "ff"
    assert bmc.stages == ["OSStart"]


def test_an_event_ends_the_reservation(host: Host) -> None:
    assert host.ask("0a 42") == "00 01 00"
    assert host.ask("04 02 21 04 07 30 6f 01 02 03") == "00"
    assert host.ask("0a 47 01 00 43 4c 52 aa") == "c5"


@pytest.mark.parametrize(
    ("state", "bits"),
    [("S0_G0_D0", "01 80"), ("S5_G2", "20 80"), ("LEGACY_ON", "00 88"), ("Unknown", "00 c0"), ("?", "00 c0")],
)
def test_reading_of_the_acpi_state(host: Host, bmc: FakeBmc, state: str, bits: str) -> None:
    bmc.acpi = (state, "Unknown")
    assert host.ask("04 2d 50") == "00 00 c0 " + bits
    assert host.ask("04 2d 51") == "cb"
