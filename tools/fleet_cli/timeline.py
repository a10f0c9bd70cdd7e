# SPDX-License-Identifier: Apache-2.0
"""The host's power as the BMC sees it: a request, and what follows from it until it is fulfilled."""

import time
from collections.abc import Callable, Sequence
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


Step = tuple[str, str]  # what is told, and its value


class Request(NamedTuple):
    """What can be asked of the host's power: the property, its value, and what follows, in this order."""

    address: Address
    value: str
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """The property that is set."""
        return "RequestedPowerTransition" if self.address == CHASSIS else "RequestedHostTransition"


def _request(address: Address, value: str, *steps: Step) -> Request:
    return Request(address, f"{address.interface}.Transition.{value}", steps)


# The firmware says S5 while it still has power: off is when chassis and ACPI state both say so.
_OFF: Step = ("chassis", "Off")
_S0, _S2, _S5 = ("ACPI", S0), ("ACPI", S2), ("ACPI", S5)

REQUESTS = {
    "on": _request(HOST, "On", _S0),
    "off": _request(CHASSIS, "Off", _OFF, _S5),
    "soft": _request(HOST, "Off", _S5, _OFF),
    "cycle": _request(HOST, "Reboot", _S5, _S2, _S0),
    "reset": _request(HOST, "ForceWarmReboot", _S2, _S0),
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

    def __init__(self, steps: Sequence[Step]) -> None:
        self.seen: list[Seen] = []
        self.fault = ""
        self.missing = list(steps)
        self._source = ""

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
            self._reached(what, text)
            if what == "ACPI" and self._source:
                text += f" ({self._source.lower()})"
            lines.append(Seen(round(seconds, 2), what, text))
        self.seen += lines
        return lines

    def _reached(self, what: str, value: str) -> None:
        """Steps about the same thing come in their order; about different things, in any."""
        for step in self.missing:
            if step[0] == what:
                if step[1] == value:
                    self.missing.remove(step)
                return


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
        now = {"ACPI": before["acpi"], "chassis": before["chassis"]}
        is_so = dict(request.steps).items() <= now.items() and len(request.steps) == len(dict(request.steps))
        timeline = Timeline(() if is_so else request.steps)
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
                f"{' '.join(timeline.missing[0])} did not come within {limit:.0f} s",
                "'./fleet events' and './fleet host' tell more",
            )
        for line in timeline.feed(change, time.monotonic() - started):
            say(str(line))
        if timeline.fault:
            raise Failed(f"the BMC reports: {timeline.fault}", "'./fleet events' tells more")
