# SPDX-License-Identifier: Apache-2.0
"""From changes on D-Bus to the lines of a timeline, and when a request is fulfilled."""

from fleet_cli.bmc import ACPI, ACPI_DETAILS, CHASSIS, HOST_POWER, PROGRESS, Change
from fleet_cli.timeline import REQUESTS, S0, S2, S5, Seen, Timeline

PREFIX = ACPI.interface + ".ACPI."


def acpi(state: str) -> Change:
    return Change(0, ACPI.interface, {"SysACPIStatus": PREFIX + state})


def source(name: str) -> Change:
    return Change(0, ACPI_DETAILS.interface, {"Source": name})


def test_a_boot() -> None:
    timeline = Timeline(REQUESTS["on"].steps)
    chassis = Change(0, CHASSIS.interface, {"CurrentPowerState": CHASSIS.interface + ".PowerState.On"})
    assert timeline.feed(chassis, 0.4) == [Seen(0.4, "chassis", "On")]
    timeline.feed(source("Inferred"), 0.5)
    assert str(timeline.feed(acpi(S2), 0.5)[0]) == "   0.5 s  ACPI S2_D2 (inferred)"
    stage = Change(0, PROGRESS.interface, {"BootProgress": "x.ProgressStages.MemoryInit", "Other": 1})
    assert timeline.feed(stage, 1.234) == [Seen(1.23, "boot progress", "MemoryInit")]
    assert timeline.missing == [("ACPI", S0)]
    timeline.feed(source("Host"), 4)
    timeline.feed(acpi(S0), 4)
    assert timeline.missing == []
    assert [line.what for line in timeline.seen] == ["chassis", "ACPI", "boot progress", "ACPI"]


def test_states_count_in_their_order() -> None:
    timeline = Timeline(REQUESTS["cycle"].steps)
    assert timeline.missing == [("ACPI", S5), ("ACPI", S2), ("ACPI", S0)]
    for state in (S0, S2, S5, S0, S2):
        timeline.feed(acpi(state), 0)
    assert timeline.missing == [("ACPI", S0)]


def test_off_is_when_chassis_and_acpi_state_say_so() -> None:
    off = Change(0, CHASSIS.interface, {"CurrentPowerState": CHASSIS.interface + ".PowerState.Off"})
    for action in ("off", "soft"):
        for first, second in ((off, acpi(S5)), (acpi(S5), off)):
            timeline = Timeline(REQUESTS[action].steps)
            timeline.feed(first, 0)
            assert len(timeline.missing) == 1
            timeline.feed(second, 0)
            assert timeline.missing == []


def test_a_fault_is_kept() -> None:
    timeline = Timeline(REQUESTS["on"].steps)
    timeline.feed(Change(0, HOST_POWER.interface, {"Fault": "PS_PWROK did not come"}), 8)
    assert timeline.fault == "PS_PWROK did not come"


def test_requests_have_openbmc_s_names() -> None:
    assert REQUESTS["on"].value == "xyz.openbmc_project.State.Host.Transition.On"
    assert REQUESTS["on"].name == "RequestedHostTransition"
    assert REQUESTS["off"].value == "xyz.openbmc_project.State.Chassis.Transition.Off"
    assert REQUESTS["off"].name == "RequestedPowerTransition"
