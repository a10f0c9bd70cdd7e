# SPDX-License-Identifier: Apache-2.0
"""The host's power as the BMC sees it: a request, and what follows from it until it is fulfilled."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fleet_cli.bmc import (
    ACPI,
    ACPI_DETAILS,
    CHASSIS,
    HOST,
    HOST_POWER,
    PROGRESS,
    Address,
    Bmc,
    Change,
    Monitor,
    last,
)
from fleet_cli.errors import Failed

S0, S2, S5 = "S0_G0_D0", "S2_D2", "S5_G2"
PATHS = (ACPI.path, HOST.path, CHASSIS.path)

# What is told of a change: interface, property -> word for it.
TOLD = {
    (CHASSIS.interface, "CurrentPowerState"): "chassis",
    (HOST.interface, "CurrentHostState"): "host",
    (PROGRESS.interface, "BootProgress"): "boot progress",
    (ACPI.interface, "SysACPIStatus"): "ACPI",
}


class Request(NamedTuple):
    """What can be asked of the host's power: the property, its value, and the ACPI states that follow."""

    address: Address
    value: str
    states: tuple[str, ...]

    @property
    def name(self) -> str:
        """The property that is set."""
        return "RequestedPowerTransition" if self.address == CHASSIS else "RequestedHostTransition"


def _request(address: Address, value: str, *states: str) -> Request:
    return Request(address, f"{address.interface}.Transition.{value}", states)


REQUESTS = {
    "on": _request(HOST, "On", S0),
    "off": _request(CHASSIS, "Off", S5),
    "soft": _request(HOST, "Off", S5),
    "cycle": _request(HOST, "Reboot", S5, S2, S0),
    "reset": _request(HOST, "ForceWarmReboot", S2, S0),
}


class Seen(NamedTuple):
    """A line of the timeline: `seconds` since the request."""

    seconds: float
    what: str
    value: str

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s  {self.what} {self.value}"


class Timeline:
    """What has been seen since a request, and what is still to come. Pure."""

    def __init__(self, states: tuple[str, ...]) -> None:
        self.seen: list[Seen] = []
        self.fault = ""
        self._missing = list(states)
        self._source = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The ACPI states that have not come yet."""
        return tuple(self._missing)

    def feed(self, change: Change, seconds: float) -> list[Seen]:
        """Take a change; the new lines."""
        lines = []
        if change.interface == ACPI_DETAILS.interface:
            self._source = change.values.get("Source", self._source)
        if change.interface == HOST_POWER.interface:
            self.fault = change.values.get("Fault", self.fault)
        for name, value in change.values.items():
            what = TOLD.get((change.interface, name))
            if what is None:
                continue
            text = last(str(value))
            if what == "ACPI":
                if self._missing[:1] == [text]:
                    self._missing.pop(0)
                text += f" ({self._source.lower()})" if self._source else ""
            lines.append(Seen(round(seconds, 2), what, text))
        self.seen += lines
        return lines


def status(bmc: Bmc) -> dict[str, Any]:
    """What the BMC knows of the host, for people and machines."""
    acpi, details, host, progress, chassis, power = bmc.values(
        ACPI, ACPI_DETAILS, HOST, PROGRESS, CHASSIS, HOST_POWER
    )
    return {
        "acpi": last(acpi["SysACPIStatus"]),
        "device": last(acpi["DevACPIStatus"]),
        "source": details["Source"],
        "since": details["Since"] / 1000,
        "previous": last(details["PreviousState"]),
        "boot_id": details["BootId"],
        "cycle": details["Cycle"],
        "contradicted": details["Contradicted"],
        "overdue": details["Overdue"],
        "chassis": last(chassis["CurrentPowerState"]),
        "host": last(host["CurrentHostState"]),
        "boot_progress": last(progress["BootProgress"]),
        "power_good": power["PowerGood"],
        "state": power["State"],
        "fault": power["Fault"],
    }


def carry_out(
    bmc: Bmc, action: str, limit: float, say: Callable[[str], None], *, wait: bool = True
) -> list[Seen]:
    """Ask for an action of REQUESTS and say what happens until it is fulfilled; the timeline.

    Raises Failed when the BMC refuses, when it reports a fault, or when the host is not there after `limit`
    seconds.
    """
    request = REQUESTS[action]
    if not wait:
        bmc.put(request.address, request.name, request.value)
        return []
    with bmc.monitor(*PATHS) as monitor:
        before = status(bmc)
        timeline = Timeline(() if request.states == (before["acpi"],) else request.states)
        started = time.monotonic()
        bmc.put(request.address, request.name, request.value)
        say(f"{0:6.1f} s  power {action} requested, ACPI {before['acpi']}")
        _follow(monitor, timeline, started, limit, say)
    return timeline.seen


def _follow(
    monitor: Monitor, timeline: Timeline, started: float, limit: float, say: Callable[[str], None]
) -> None:
    while timeline.missing:
        change = monitor.next(started + limit - time.monotonic())
        if change is None:
            raise Failed(
                f"ACPI {timeline.missing[0]} did not come within {limit:.0f} s",
                "'./fleet events' and './fleet host' tell more",
            )
        for line in timeline.feed(change, time.monotonic() - started):
            say(str(line))
        if timeline.fault:
            raise Failed(f"the BMC reports: {timeline.fault}", "'./fleet events' tells more")
