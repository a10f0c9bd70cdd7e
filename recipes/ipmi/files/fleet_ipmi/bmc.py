# SPDX-License-Identifier: Apache-2.0
"""The rest of the BMC, on D-Bus.

Everything is asked for when a command needs it: nothing here can be out of date, and a service that is away
is noticed at once. How long a command may take is the dispatcher's to say.
"""

import asyncio
import time
from typing import Any

from dbus_fast import DBusError, ErrorType, Variant
from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common import log
from fleet_bmc_common.client import PROPERTIES, call
from fleet_ipmi import release
from fleet_ipmi.outside import (
    AwayError,
    BadValueError,
    BmcError,
    Firmware,
    LogInfo,
    NoSuchRecordError,
    NotNowError,
    Power,
    StorageError,
)

ACPI = "xyz.openbmc_project.Control.Power.ACPIPowerState"
ACPI_PATH = "/xyz/openbmc_project/control/host0/acpi_power_state"
ACPI_STATE = "io.metafleet.AcpiState"
HOST = "xyz.openbmc_project.State.Host"
HOST_PATH = "/xyz/openbmc_project/state/host0"
CHASSIS = "xyz.openbmc_project.State.Chassis"
CHASSIS_PATH = "/xyz/openbmc_project/state/chassis0"
PROGRESS = "xyz.openbmc_project.State.Boot.Progress"
LOG = "xyz.openbmc_project.Logging"
LOG_PATH = "/xyz/openbmc_project/logging"
EVENT_LOG = "io.metafleet.EventLog"
DELETE_ALL = "xyz.openbmc_project.Collection.DeleteAll"
TIME = "xyz.openbmc_project.Time.Manager"
TIME_PATH = "/xyz/openbmc_project/time/bmc"
EPOCH_TIME = "xyz.openbmc_project.Time.EpochTime"

MOST_UNDER_WAY = 16  # words of boot progress that nobody has taken yet

_ERRORS: dict[str, type[BmcError]] = {
    ErrorType.SERVICE_UNKNOWN.value: AwayError,
    ErrorType.NAME_HAS_NO_OWNER.value: AwayError,
    ErrorType.UNKNOWN_OBJECT.value: AwayError,
    ErrorType.NO_REPLY.value: AwayError,  # it ended while it had the request
    ErrorType.INVALID_ARGS.value: BadValueError,
    "io.metafleet.HostPower.Error.NotInThisState": NotNowError,
    "io.metafleet.EventLog.Error.NoSuchEntry": NoSuchRecordError,
    "xyz.openbmc_project.Common.File.Error.Write": StorageError,
}


class DBusBmc:
    """Implements `outside.Bmc`. Errors that are nobody's fault but ours stay DBusErrors."""

    def __init__(self, bus: MessageBus, firmware: Firmware | None = None) -> None:
        self._bus = bus
        self._firmware = firmware or release.read()
        self._telling: set[asyncio.Task[None]] = set()
        self._is_told = True  # whether the last word of boot progress arrived

    def firmware(self) -> Firmware:
        """Return the version of what runs here."""
        return self._firmware

    # --- Time ---

    def time(self) -> int:
        """Return the time by the board's clock."""
        return int(time.time())

    async def set_time(self, seconds: int) -> None:
        """Set the clock, by OpenBMC's time manager: an image without one keeps its time."""
        await self._put(TIME, TIME_PATH, EPOCH_TIME, "Elapsed", Variant("t", seconds * 1_000_000))

    # --- ACPI state ---

    async def acpi_state(self) -> tuple[str, str]:
        """Return the states of system and devices."""
        values = await self._all(ACPI, ACPI_PATH, ACPI)
        return _word(values["SysACPIStatus"].value), _word(values["DevACPIStatus"].value)

    async def set_acpi_state(self, system: str, device: str, source: str) -> None:
        """Set them, "" for no change; returns when the host may go on."""
        states = [f"{ACPI}.ACPI.{state}" if state else "" for state in (system, device)]
        await self._call(ACPI, ACPI_PATH, ACPI_STATE, "Set", "sss", *states, source)

    # --- Power ---

    async def power(self) -> Power:
        """Return the state of the power."""
        values = await self._all(CHASSIS, CHASSIS_PATH, "")  # of all interfaces
        fault = values.get("Fault")
        return Power(_word(values["CurrentPowerState"].value), bool(fault and fault.value))

    async def restart_cause(self) -> str:
        """Return why the host was last started."""
        return _word((await self._all(HOST, HOST_PATH, HOST))["RestartCause"].value)

    async def request_host(self, transition: str) -> None:
        """Ask for a transition of the host."""
        value = Variant("s", f"{HOST}.Transition.{transition}")
        await self._put(HOST, HOST_PATH, HOST, "RequestedHostTransition", value)

    async def request_chassis(self, transition: str) -> None:
        """Ask for a transition of the power."""
        value = Variant("s", f"{CHASSIS}.Transition.{transition}")
        await self._put(CHASSIS, CHASSIS_PATH, CHASSIS, "RequestedPowerTransition", value)

    def boot_progress(self, stage: str) -> None:
        """Tell how far the host's firmware is; when nobody takes it, the journal says so once."""
        if len(self._telling) >= MOST_UNDER_WAY:
            return
        task = asyncio.create_task(self._tell(stage))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, stage: str) -> None:
        value = Variant("s", f"{PROGRESS}.ProgressStages.{stage}")
        try:
            await self._put(HOST, HOST_PATH, PROGRESS, "BootProgress", value)
        except (BmcError, DBusError, TimeoutError) as error:
            if self._is_told:
                log.warning(f"boot progress {stage} could not be told: {error or 'no answer'}")
            self._is_told = False
        else:
            self._is_told = True

    # --- Event log ---

    async def log_info(self) -> LogInfo:
        """Return how full the event log is."""
        values = await self._all(LOG, LOG_PATH, EVENT_LOG)
        names = ("SelRecords", "Entries", "Capacity", "LastAdded", "LastCleared")
        return LogInfo(*(values[name].value for name in names))

    async def sel_record(self, number: int) -> tuple[int, bytes]:
        """Return the record after this one and this one."""
        following, record = await self._call(LOG, LOG_PATH, EVENT_LOG, "GetSelRecord", "q", number)
        return following, bytes(record)

    async def add_sel_record(self, record: bytes) -> int:
        """Add a record; returns its id when it is in flash."""
        return int((await self._call(LOG, LOG_PATH, EVENT_LOG, "AddSelRecord", "ay", record))[0])

    async def delete_sel_record(self, number: int) -> int:
        """Delete a record; its id."""
        return int((await self._call(LOG, LOG_PATH, EVENT_LOG, "DeleteSelRecord", "q", number))[0])

    async def clear_log(self) -> None:
        """Delete all records and events."""
        await self._call(LOG, LOG_PATH, DELETE_ALL, "DeleteAll")

    # --- D-Bus ---

    async def _all(self, destination: str, path: str, interface: str) -> dict[str, Variant]:
        values: dict[str, Variant] = (
            await self._call(destination, path, PROPERTIES, "GetAll", "s", interface)
        )[0]
        return values

    async def _put(self, destination: str, path: str, interface: str, name: str, value: Variant) -> None:
        await self._call(destination, path, PROPERTIES, "Set", "ssv", interface, name, value)

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        try:
            return await call(self._bus, destination, path, interface, member, signature, *body)
        except DBusError as error:
            known = _ERRORS.get(str(error.type))
            if known is None:
                raise
            raise known(f"{destination}: {error.text}") from None


def _word(value: str) -> str:
    """Return the last word of a value of one of OpenBMC's enumerations."""
    return value.rpartition(".")[2]
