# SPDX-License-Identifier: Apache-2.0
"""What the commands need of the rest of the BMC, in words without D-Bus. `bmc` does it, tests pretend it.

States and transitions have the last words of OpenBMC's enumerations, as "S0_G0_D0" or "ForceWarmReboot".
"""

from typing import NamedTuple, Protocol


class BmcError(Exception):
    """Something was not done; one line says why."""


class AwayError(BmcError):
    """Who should do it is not there."""


class NotNowError(BmcError):
    """It makes no sense in the state that the host is in."""


class BadValueError(BmcError):
    """Who should do it refuses the value."""


class NoSuchRecordError(BmcError):
    """There is no record with this id."""


class StorageError(BmcError):
    """The flash cannot be written."""


class Firmware(NamedTuple):
    """The version of the image: two numbers, and four bytes that tell builds apart."""

    major: int
    minor: int
    build: bytes


class Power(NamedTuple):
    """State.Chassis: CurrentPowerState, and whether the last request for power failed."""

    state: str
    failed: bool


class LogInfo(NamedTuple):
    """How full the event log is. Times are in milliseconds since the epoch, 0 for never."""

    records: int  # SEL records
    entries: int  # with events that are none
    capacity: int  # entries
    last_added: int
    last_erased: int


class Bmc(Protocol):
    """The BMC. Each method raises BmcError when it cannot be done."""

    def firmware(self) -> Firmware:
        """Return the version of what runs here."""

    def time(self) -> int:
        """Return the time by the board's clock, in seconds since the epoch."""

    async def set_time(self, seconds: int) -> None:
        """Set the board's clock."""

    async def acpi_state(self) -> tuple[str, str]:
        """Return the ACPI power states of system and devices."""

    async def set_acpi_state(self, system: str, device: str, source: str) -> None:
        """Set them, "" for no change; `source` is "Host" or "Operator". Returns when the host may go on."""

    async def power(self) -> Power:
        """Return the state of the power."""

    async def restart_cause(self) -> str:
        """Return why the host was last started."""

    async def request_host(self, transition: str) -> None:
        """Ask for a transition of the host (State.Host.Transition)."""

    async def request_chassis(self, transition: str) -> None:
        """Ask for a transition of the power (State.Chassis.Transition)."""

    def boot_progress(self, stage: str) -> None:
        """Tell how far the host's firmware is (ProgressStages); nobody waits for it and it cannot fail."""

    async def log_info(self) -> LogInfo:
        """Return how full the event log is."""

    async def sel_record(self, number: int) -> tuple[int, bytes]:
        """Return the record after this one and this one; 0 is the first, FFFFh the last."""

    async def add_sel_record(self, record: bytes) -> int:
        """Add a record of 16 bytes; returns its id when it is in flash."""

    async def delete_sel_record(self, number: int) -> int:
        """Delete a record; its id."""

    async def clear_log(self) -> None:
        """Delete all records and events."""
