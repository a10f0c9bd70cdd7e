# SPDX-License-Identifier: Apache-2.0
"""Host and chassis on D-Bus.

OpenBMC's names (phosphor-dbus-interfaces, xyz/openbmc_project/State); what those cannot say is in an
interface of our own, io.metafleet.HostPower. A request is judged at once and carried out afterwards; State
and Fault tell what became of it.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from dbus_fast import DBusError, ErrorType, Variant

from fleet_bmc_common import ServiceError, log
from fleet_bmc_common.client import Follower
from fleet_bmc_common.events import append
from fleet_bmc_common.objects import Interface, ObjectTree
from fleet_host_power import machine, progress
from fleet_host_power.gpio import Lines
from fleet_host_power.machine import Event, Machine, NotInThisState
from fleet_host_power.progress import Progress

HOST = "xyz.openbmc_project.State.Host"
CHASSIS = "xyz.openbmc_project.State.Chassis"
BOOT = "xyz.openbmc_project.State.Boot.Progress"
HOST_POWER = "io.metafleet.HostPower"
BUS_NAMES = (HOST, CHASSIS)

ROOT = "/xyz/openbmc_project/state"
HOST_PATH = ROOT + "/host0"
CHASSIS_PATH = ROOT + "/chassis0"

NOT_IN_THIS_STATE = HOST_POWER + ".Error.NotInThisState"

ACPI = "xyz.openbmc_project.Control.Power.ACPIPowerState"
ACPI_PATH = "/xyz/openbmc_project/control/host0/acpi_power_state"
ACPI_DETAILS = "io.metafleet.AcpiState"
WORKING = ACPI + ".ACPI.S0_G0_D0"
# Sources of an ACPI state: who said it, and what an earlier run had heard. Others infer it from our lines.
TOLD = ("Host", "Operator")
RESTORED = "Restored"

SEVERITIES = {
    machine.POWER_LOST: "Warning",
    machine.POWER_ON_FAILED: "Error",
    machine.POWER_OFF_FAILED: "Error",
}

# Values of Requested…Transition and what they ask of the machine.
HOST_REQUESTS = {
    "Off": machine.DO_OFF,
    "On": machine.DO_ON,
    "Reboot": machine.DO_CYCLE,
    "GracefulWarmReboot": machine.DO_GRACEFUL_CYCLE,
    "ForceWarmReboot": machine.DO_RESET,
}
CHASSIS_REQUESTS = {
    "Off": machine.DO_FORCE_OFF,
    "On": machine.DO_ON,
    "PowerCycle": machine.DO_CYCLE,
}
_TRANSITION = ".Transition."
_STAGE = BOOT + ".ProgressStages."


class HostPower:
    """Brings machine, lines and D-Bus together."""

    def __init__(self, objects: ObjectTree, lines: Lines, state: Machine) -> None:
        """Show the objects; nothing is done before `run`."""
        self._bus = objects.bus
        self._lines = lines
        self._machine = state
        self._progress = Progress()
        self._boots = state.boots
        self._driven = dict.fromkeys(machine.OUTPUTS, False)
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The ACPI state, since when, who said so. The state is kept while acpi-state is away.
        self._acpi: tuple[str, int | None, str] = ("", None, "")
        self._details = Follower(self._bus, ACPI, ACPI_PATH, ACPI_DETAILS, self._on_acpi)
        self._states = Follower(self._bus, ACPI, ACPI_PATH, ACPI, self._on_acpi)

        start = "On" if state.is_powered else "Off"
        if state.is_posted:
            self._progress.reach(progress.SYSTEM_INIT_COMPLETE, _microseconds())
        self._power = Interface(HOST_POWER, _variants(self._power_values()))
        self._chassis = Interface(
            CHASSIS,
            {
                "RequestedPowerTransition": Variant("s", CHASSIS + _TRANSITION + start),
                "LastStateChangeTime": Variant("t", _milliseconds()),
                **_variants(self._chassis_values()),
            },
            setters={"RequestedPowerTransition": self._request_chassis},
        )
        self._host = Interface(
            HOST,
            {
                "RequestedHostTransition": Variant("s", HOST + _TRANSITION + start),
                **_variants(self._host_values()),
            },
            setters={"RequestedHostTransition": self._request_host},
        )
        self._boot = Interface(
            BOOT,
            {
                "BootProgress": Variant("s", _STAGE + self._progress.stage),
                "BootProgressLastUpdate": Variant("t", self._progress.last_update),
            },
            setters={"BootProgress": self._write_progress},
        )
        objects.manage(ROOT)
        objects.add(CHASSIS_PATH, self._chassis, self._power)
        objects.add(HOST_PATH, self._host, self._boot)

    async def run(self) -> None:
        """Follow lines, timers and acpi-state, until cancelled; then no output stays asserted.

        Raises ServiceError when a line cannot be driven.
        """
        try:
            self._lines.listen(self._on_edge)
            self._settle()
            await self._details.start()
            await self._states.start()
            await self._broken
        finally:
            self._lines.close()

    # --- What comes in ---

    def _on_edge(self, line: str, level: bool) -> None:
        self._machine.edge(line, level, _now())
        if line == machine.POST_COMPLETE and self._machine.is_posted:
            self._progress.infer(progress.SYSTEM_INIT_COMPLETE, _microseconds())
        self._settle()

    def _on_timer(self) -> None:
        self._timer = None
        self._lines.poll()
        self._machine.expire(_now())
        self._settle()

    def _on_acpi(self, _: Mapping[str, Any] | None) -> None:
        """acpi-state has news, or has come or gone.

        It tells details before the state. That it says S0 still after a restart is no news: it may not have
        heard of a reset meanwhile.
        """
        states, details = self._states.values, self._details.values
        if states is None:
            self._acpi = (self._acpi[0], None, "")
            return
        if details is None:  # another daemon under OpenBMC's name: it knows only what it was told
            details = {"Source": TOLD[0], "Since": 0}
        was, acpi = self._acpi, (states["SysACPIStatus"], details["Since"], details["Source"])
        if acpi == was or (acpi[0] == was[0] and was[1] not in (None, acpi[1])):
            return  # in the second case the new state follows
        self._acpi = acpi
        is_told = acpi[2] in TOLD or (acpi[2] == RESTORED and not was[0])
        if acpi[0] != WORKING:
            self._machine.tell(False)
        elif is_told and self._machine.is_powered:
            self._machine.tell(True)
            self._progress.infer(progress.OS_RUNNING, _microseconds())
        self._settle()

    def _request_host(self, _sender: str, value: str) -> None:
        self._request(self._host, HOST, "RequestedHostTransition", HOST_REQUESTS, value)

    def _request_chassis(self, _sender: str, value: str) -> None:
        self._request(self._chassis, CHASSIS, "RequestedPowerTransition", CHASSIS_REQUESTS, value)

    def _request(
        self, shown: Interface, name: str, member: str, requests: Mapping[str, str], value: str
    ) -> None:
        prefix = name + _TRANSITION
        request = requests.get(value.removeprefix(prefix)) if value.startswith(prefix) else None
        if request is None:
            raise _not_allowed(member, value, prefix, requests)
        self._lines.poll()
        try:
            self._machine.request(request, _now())
        except NotInThisState as error:
            raise DBusError(NOT_IN_THIS_STATE, str(error)) from None
        finally:
            self._settle()
        shown.update(**{member: value})

    def _write_progress(self, _sender: str, value: str) -> None:
        stage = value.removeprefix(_STAGE)
        if not value.startswith(_STAGE) or stage not in progress.STAGES:
            raise _not_allowed("BootProgress", value, _STAGE, progress.STAGES)
        self._lines.poll()
        if stage != progress.UNSPECIFIED and not self._machine.is_powered:
            raise DBusError(NOT_IN_THIS_STATE, "the host has no power, so its boot makes no progress")
        self._progress.reach(stage, _microseconds())
        self._settle()

    # --- What goes out ---

    def _settle(self) -> None:
        """Drive, show, log and wait for what the machine says now."""
        for line, was in self._driven.items():
            if self._machine.drives(line) != was:
                self._driven[line] = not was
                self._drive(line, not was)
        if self._machine.boots != self._boots:
            self._boots = self._machine.boots
            self._progress.restart(_microseconds())
        self._power.update(**self._power_values())
        chassis = self._chassis_values()
        if chassis["CurrentPowerState"] != self._chassis.properties["CurrentPowerState"].value:
            chassis["LastStateChangeTime"] = _milliseconds()
        self._chassis.update(**chassis)
        self._host.update(**self._host_values())
        self._boot.update(
            BootProgress=_STAGE + self._progress.stage, BootProgressLastUpdate=self._progress.last_update
        )
        while self._machine.events:
            self._spawn(self._log(self._machine.events.pop(0)))
        if self._timer:
            self._timer.cancel()
            self._timer = None
        deadline = self._machine.deadline
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline / 1000, self._on_timer)

    def _drive(self, line: str, asserted: bool) -> None:
        try:
            self._lines.drive(line, asserted)
        except OSError as error:
            if not self._broken.done():
                text = f"the GPIO line {line} cannot be driven: {error.strerror}"
                self._broken.set_exception(ServiceError(text))

    def _power_values(self) -> dict[str, Any]:
        levels = self._machine.levels
        return {
            "PowerGood": levels[machine.PS_PWROK],
            "PlatformReset": levels[machine.PLTRST],
            "PostComplete": levels[machine.POST_COMPLETE],
            "SoftOff": levels[machine.SLP_S5],
            "State": self._machine.state,
            "Fault": self._machine.fault,
        }

    def _chassis_values(self) -> dict[str, Any]:
        status = "Good" if self._machine.is_powered else "Undefined"
        return {
            "CurrentPowerState": f"{CHASSIS}.PowerState.{self._machine.chassis_state}",
            "CurrentPowerStatus": f"{CHASSIS}.PowerStatus.{status}",
        }

    def _host_values(self) -> dict[str, Any]:
        return {
            "CurrentHostState": f"{HOST}.HostState.{self._machine.host_state}",
            "RestartCause": f"{HOST}.RestartCause.{self._machine.cause}",
        }

    async def _log(self, event: Event) -> None:
        """Put an event into the event log; when that is away, the journal has to do."""
        message = f"{HOST_POWER}.{event.name}"
        data = {"STATE": event.state, **({"FAULT": event.fault} if event.fault else {})}
        try:
            await append(self._bus, message, SEVERITIES[event.name], data)
        except (DBusError, TimeoutError) as error:
            details = ", ".join(f"{key}={value}" for key, value in data.items())
            log.warning(f"event {message} ({details}) is not in the event log: {error or 'no answer'}")

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


def _not_allowed(member: str, value: str, prefix: str, allowed: Any) -> DBusError:
    names = ", ".join(allowed)
    return DBusError(
        ErrorType.INVALID_ARGS, f"{member} cannot be '{value}'; allowed: {prefix} followed by one of {names}"
    )


def _variants(values: Mapping[str, Any]) -> dict[str, Variant]:
    return {name: Variant("b" if isinstance(value, bool) else "s", value) for name, value in values.items()}


def _now() -> int:
    """Return the machine's time, that of the event loop."""
    return int(asyncio.get_running_loop().time() * 1000)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _microseconds() -> int:
    return time.time_ns() // 1000
