# SPDX-License-Identifier: Apache-2.0
"""Device id, self test, ACPI power state, channels."""

import pytest

from fleet_ipmi.dispatch import KCS
from fleet_ipmi.dummy import CHANNEL as LAN
from fleet_ipmi.outside import AwayError, BadValueError
from ipmi_fake import FakeBmc, Host


@pytest.fixture
def bmc() -> FakeBmc:
    return FakeBmc()


@pytest.fixture
def host(bmc: FakeBmc) -> Host:
    return Host(bmc)


def test_device_id(host: Host) -> None:
    # id, revision, firmware 1.23 in BCD, IPMI 2.0, support, manufacturer, product, build
    assert host.ask("06 01") == "00 20 01 01 23 02 87 00 00 00 00 00 01 02 03 04"


def test_self_test(host: Host, bmc: FakeBmc) -> None:
    assert host.ask("06 04") == "00 55 00"
    bmc.error = AwayError("gone")
    assert host.ask("06 04") == "00 57 80"


@pytest.mark.parametrize(
    ("data", "system", "device"),
    [
        ("80 80", "S0_G0_D0", "S0_G0_D0"),
        ("82 82", "S2_D2", "S2_D2"),
        ("85 83", "S5_G2", "S3_D3"),
        ("87 7f", "G3", ""),
        ("a1 aa", "LEGACY_OFF", "Unknown"),
        ("8a ff", "OVERRIDE", ""),
        ("ff 81", "", "S1_D1"),
        ("30 82", "", "S2_D2"),  # a byte whose bit 7 is clear says nothing, whatever it is
        ("82 30", "S2_D2", ""),
    ],
)
def test_set_acpi_power_state(host: Host, bmc: FakeBmc, data: str, system: str, device: str) -> None:
    assert host.ask("06 06" + data) == "00"
    assert host.ask("06 06" + data, LAN) == "00"
    assert bmc.asked == [("acpi", system, device, "Host"), ("acpi", system, device, "Operator")]


@pytest.mark.parametrize("data", ["00 00", "02 02", "ff ff", "ff 02", "30 30"])
def test_no_change_asks_nobody(host: Host, bmc: FakeBmc, data: str) -> None:
    assert host.ask("06 06" + data) == "00"
    assert bmc.asked == []


@pytest.mark.parametrize("data", ["8b 80", "80 84", "80 85", "80 a0", "80 b0", "b0 80", "fe 80", "a2 ff"])
def test_nothing_is_set_when_one_byte_is_wrong(host: Host, bmc: FakeBmc, data: str) -> None:
    assert host.ask("06 06" + data) == "c9"
    assert bmc.asked == []


@pytest.mark.parametrize("data", ["", "80", "80 80 80"])
def test_set_acpi_power_state_has_two_bytes(host: Host, data: str) -> None:
    assert host.ask("06 06" + data) == "c7"


def test_a_state_that_is_refused_elsewhere(host: Host, bmc: FakeBmc) -> None:
    bmc.error = BadValueError("no")
    assert host.ask("06 06 82 82") == "c9"
    bmc.error = AwayError("gone")
    assert host.ask("06 06 82 82") == "ce"
    assert host.ask("06 07") == "ce"


@pytest.mark.parametrize(
    ("states", "answer"),
    [
        (("S5_G2", "S3_D3"), "00 05 03"),
        (("S2_D2", "S2_D2"), "00 02 02"),
        (("Unknown", "Unknown"), "00 2a 2a"),
        (("LEGACY_ON", "S5_G2"), "00 20 2a"),  # devices know no such state
        (("Nonsense", ""), "00 2a 2a"),
    ],
)
def test_get_acpi_power_state(host: Host, bmc: FakeBmc, states: tuple[str, str], answer: str) -> None:
    bmc.acpi = states
    assert host.ask("06 07") == answer


def test_channel_info(host: Host) -> None:
    for number in ("0e", "0f"):
        assert host.ask("06 42" + number, KCS) == "00 0f 0c 05 00 f2 1b 00 ff ff"
    for number in ("0e", "01"):
        assert host.ask("06 42" + number, LAN) == "00 01 04 01 00 f2 1b 00 00 00"
    assert host.ask("06 42 02") == "cc"


def test_a_cold_reset_is_not_among_them(host: Host) -> None:
    assert host.ask("06 02") == "c1"
