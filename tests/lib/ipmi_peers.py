# SPDX-License-Identifier: Apache-2.0
"""The services that IPMI talks to, in a few lines each: acpi-state, host-power; a service manager."""

import asyncio

from dbus_fast import DBusError, ErrorType, Variant

from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree
from fleet_ipmi.bmc import (
    ACPI,
    ACPI_PATH,
    ACPI_STATE,
    CHASSIS,
    CHASSIS_PATH,
    HOST,
    HOST_PATH,
    PROGRESS,
)

HOST_POWER = "io.metafleet.HostPower"
SYSTEMD = "org.freedesktop.systemd1"


class Systemd:
    """A service manager that has done everything already, for the real acpi-state."""

    def __init__(self, tree: ObjectTree) -> None:
        self.bus = tree.bus
        self._jobs = 0
        manager = f"{SYSTEMD}.Manager"
        methods = {
            "Subscribe": Method("", "", lambda _: ()),
            "StartUnit": Method("ss", "o", self._start),
            "StopUnit": Method("ss", "o", self._start),
            "ListJobs": Method("", "a(usssoo)", lambda _: [[]]),
        }
        self.manager = Interface(manager, methods=methods, signals={"JobRemoved": "uoss"})
        tree.add("/org/freedesktop/systemd1", self.manager)

    async def start(self) -> None:
        await self.bus.request_name(SYSTEMD)

    def _start(self, _sender: str, unit: str, _mode: str) -> Body:
        self._jobs += 1
        job = f"/org/freedesktop/systemd1/job/{self._jobs}"
        asyncio.get_running_loop().call_soon(self.manager.emit, "JobRemoved", self._jobs, job, unit, "done")
        return [job]


class AcpiState:
    """Keeps the states that it is told; with `hangs` it never answers."""

    def __init__(self, tree: ObjectTree) -> None:
        self.bus = tree.bus
        self.told: list[tuple[str, str, str]] = []
        self.hangs = False
        values = {name: Variant("s", f"{ACPI}.ACPI.S5_G2") for name in ("SysACPIStatus", "DevACPIStatus")}
        self.states = Interface(ACPI, values)
        tree.add(ACPI_PATH, self.states, Interface(ACPI_STATE, methods={"Set": Method("sss", "", self._set)}))

    async def start(self) -> None:
        await self.bus.request_name(ACPI)

    async def _set(self, _sender: str, system: str, device: str, source: str) -> Body:
        self.told.append((system, device, source))
        if self.hangs:
            await asyncio.Event().wait()
        for name, value in (("SysACPIStatus", system), ("DevACPIStatus", device)):
            if value.endswith(".LEGACY_ON"):
                raise DBusError(ErrorType.INVALID_ARGS, "no such state here")
            if value:
                self.states.update(**{name: value})
        return ()


class HostPower:
    """Does what it is asked, at once; refuses with NotInThisState what is so already."""

    def __init__(self, tree: ObjectTree) -> None:
        self.bus = tree.bus
        self.asked: list[str] = []
        self.fault = ""
        self.host = Interface(
            HOST,
            {
                "RequestedHostTransition": Variant("s", f"{HOST}.Transition.Off"),
                "RestartCause": Variant("s", f"{HOST}.RestartCause.Unknown"),
            },
            setters={"RequestedHostTransition": self._host},
        )
        self.progress = Interface(
            PROGRESS,
            {"BootProgress": Variant("s", f"{PROGRESS}.ProgressStages.Unspecified")},
            setters={"BootProgress": self._keep},
        )
        self.chassis = Interface(
            CHASSIS,
            {
                "RequestedPowerTransition": Variant("s", f"{CHASSIS}.Transition.Off"),
                "CurrentPowerState": Variant("s", f"{CHASSIS}.PowerState.Off"),
            },
            setters={"RequestedPowerTransition": self._chassis},
        )
        self.power = Interface(HOST_POWER, {"Fault": Variant("s", ""), "PowerGood": Variant("b", False)})
        tree.add(HOST_PATH, self.host, self.progress)
        tree.add(CHASSIS_PATH, self.chassis, self.power)

    async def start(self) -> None:
        for name in (HOST, CHASSIS):
            await self.bus.request_name(name)

    def switch(self, is_on: bool) -> None:
        self.chassis.update(CurrentPowerState=f"{CHASSIS}.PowerState.{'On' if is_on else 'Off'}")

    @property
    def is_on(self) -> bool:
        return bool(self.chassis.properties["CurrentPowerState"].value.endswith(".On"))

    def _host(self, _sender: str, value: str) -> None:
        self._ask(value, needs=value.endswith(".On"), becomes=not value.endswith(".Off"))
        if value.endswith(".On"):
            self.host.update(RestartCause=f"{HOST}.RestartCause.RemoteCommand")

    def _chassis(self, _sender: str, value: str) -> None:
        self._ask(value, needs=False, becomes=False)

    def _ask(self, value: str, *, needs: bool, becomes: bool) -> None:
        if self.is_on == needs:
            raise DBusError(f"{HOST_POWER}.Error.NotInThisState", f"{value} makes no sense now")
        self.asked.append(value)
        self.switch(becomes)

    def _keep(self, _sender: str, value: str) -> None:
        self.progress.update(BootProgress=value)
