# SPDX-License-Identifier: Apache-2.0
"""Power, as it is and as it is asked for."""

import pytest

from fleet_ipmi.outside import AwayError, NotNowError, Power
from ipmi_fake import FakeBmc, Host


@pytest.fixture
def bmc() -> FakeBmc:
    return FakeBmc()


@pytest.fixture
def host(bmc: FakeBmc) -> Host:
    return Host(bmc)


def test_capabilities(host: Host) -> None:
    assert host.ask("00 00") == "00 00 00 20 20 20"


@pytest.mark.parametrize(
    ("state", "failed", "cause", "answer"),
    [
        ("On", False, "PowerButton", "00 61 00 00"),
        ("On", False, "RemoteCommand", "00 61 10 00"),
        ("TransitioningToOff", False, "", "00 61 00 00"),
        ("TransitioningToOn", False, "", "00 60 00 00"),
        ("Off", False, "", "00 60 00 00"),
        ("Off", True, "", "00 70 00 00"),
    ],
)
def test_status(host: Host, bmc: FakeBmc, state: str, failed: bool, cause: str, answer: str) -> None:
    bmc.state, bmc.cause = Power(state, failed), cause
    assert host.ask("00 01") == answer


def test_status_needs_no_restart_cause(host: Host, bmc: FakeBmc, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> str:
        raise AwayError("gone")

    monkeypatch.setattr(bmc, "restart_cause", away)
    assert host.ask("00 01") == "00 61 00 00"
    bmc.error = AwayError("all gone")
    assert host.ask("00 01") == "ce"


@pytest.mark.parametrize(
    ("control", "asked"),
    [
        ("00", ("chassis", "Off")),
        ("01", ("host", "On")),
        ("02", ("host", "Reboot")),
        ("03", ("host", "ForceWarmReboot")),
        ("05", ("host", "Off")),
    ],
)
def test_control(host: Host, bmc: FakeBmc, control: str, asked: tuple[str, str]) -> None:
    assert host.ask("00 02" + control) == "00"
    assert bmc.asked == [asked]


@pytest.mark.parametrize("control", ["04", "06", "0f"])
def test_controls_that_there_are_not(host: Host, bmc: FakeBmc, control: str) -> None:
    assert host.ask("00 02" + control) == "cc"
    assert bmc.asked == []


def test_what_makes_no_sense_now(host: Host, bmc: FakeBmc) -> None:
    bmc.state = Power("Off", failed=False)
    assert host.ask("00 02 02") == "d5"
    assert bmc.asked == []
    bmc.error = NotNowError("the host is off")
    assert host.ask("00 02 03") == "d5"


@pytest.mark.parametrize(
    ("cause", "answer"),
    [("RemoteCommand", "00 01 00"), ("SoftReset", "00 0a 00"), ("HostCrash", "00 00 00"), ("", "00 00 00")],
)
def test_restart_cause(host: Host, bmc: FakeBmc, cause: str, answer: str) -> None:
    bmc.cause = cause
    assert host.ask("00 07") == answer
