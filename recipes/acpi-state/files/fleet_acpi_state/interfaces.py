# SPDX-License-Identifier: Apache-2.0
"""The host's ACPI state on D-Bus, and what happens when it changes.

OpenBMC's interface has the two states; what it cannot tell is in one of our own, io.metafleet.AcpiState. A
change is visible at once. Then, in this order: its SEL record is in flash, its target is started, it is
saved. A host that says S2 is answered when those who hold delay locks are quiet and what hung on the state
before has stopped, at the latest after `acknowledge` seconds.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from dbus_fast import DBusError, ErrorType, Message, Variant

from fleet_acpi_state import sel
from fleet_acpi_state.locks import Locks
from fleet_acpi_state.states import INTERFACE, PREFIX, S2, STATES, TARGETS, device, short
from fleet_acpi_state.store import StoreError
from fleet_acpi_state.targets import Targets
from fleet_acpi_state.tracker import OPERATOR, SPEAKERS, Known, Rails, Tracker
from fleet_bmc_common import log as journal
from fleet_bmc_common.client import DBUS, Follower, on_signal
from fleet_bmc_common.events import append
from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree

BUS_NAME = INTERFACE
PATH = "/xyz/openbmc_project/control/host0/acpi_power_state"
ROOT = "/xyz/openbmc_project/control/host0"
ACPI_STATE = "io.metafleet.AcpiState"

CHANGED = ACPI_STATE + ".Changed"
CONTRADICTED = ACPI_STATE + ".Contradicted"
OVERDUE = ACPI_STATE + ".Overdue"
LATE_CLIENT = ACPI_STATE + ".LateClient"

_CHASSIS = "xyz.openbmc_project.State.Chassis"
_CHASSIS_PATH = "/xyz/openbmc_project/state/chassis0"
_HOST_POWER = "io.metafleet.HostPower"

_LOG_SECONDS = 5.0  # a write to flash takes a fraction of a second


class Event(NamedTuple):
    """What goes into the event log."""

    message: str
    severity: str
    data: Mapping[str, str]
    record: bytes = b""


class Saver(Protocol):
    """Where the state is kept."""

    def save(self, known: Known) -> None:
        """Keep it; raises StoreError. May block."""


class StateObject:
    """Shows what a tracker knows, tells it the news, and does what a change asks for."""

    def __init__(
        self, objects: ObjectTree, tracker: Tracker, store: Saver, targets: Targets, *, acknowledge: float
    ) -> None:
        """`acknowledge` is the longest that S2 waits for others, in seconds."""
        self._bus = objects.bus
        self._tracker = tracker
        self._store = store
        self._targets = targets
        self._acknowledge = acknowledge
        self._shown = self._saved = tracker.known
        self._saving = threading.Lock()
        self._target = ""  # the one that was started last
        self._work: asyncio.Queue[tuple[Known, list[Event]]] = asyncio.Queue()
        self._unfinished = 0  # changes whose targets have not been reached
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._locks = Locks(self._settle)
        self._timer: asyncio.TimerHandle | None = None
        self._refused: set[str] = set()  # what the journal has been told of already
        self._states = Interface(
            INTERFACE,
            {"SysACPIStatus": Variant("s", ""), "DevACPIStatus": Variant("s", "")},
            setters={
                "SysACPIStatus": lambda _, value: self._told(_some(value), "", OPERATOR),
                "DevACPIStatus": lambda _, value: self._told("", _some(value), OPERATOR),
            },
        )
        self._details = Interface(
            ACPI_STATE,
            {name: Variant(*value) for name, value in _details(tracker.known).items()},
            methods={
                "Set": Method("sss", "", self._set),
                "Delay": Method("ss", "", self._delay),
                "Release": Method("s", "", self._release),
                "Drop": Method("s", "", self._drop),
            },
            signals={"PrepareForState": "s"},
        )
        self._show(tracker.known)
        objects.manage(ROOT)
        objects.add(PATH, self._states, self._details)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to follow the rails; the tasks do what changes ask for."""
        tasks.create_task(self._do_work())
        await on_signal(self._bus, self._on_owner, DBUS, "NameOwnerChanged")
        follower = Follower(self._bus, _CHASSIS, _CHASSIS_PATH, _HOST_POWER, self._on_rails)
        await follower.start()

    # --- News ---

    def _on_rails(self, values: Mapping[str, Any] | None) -> None:
        if values is None:
            return  # host-power restarts: what was last seen holds until it tells again
        first = self._tracker.rails is None
        self._tracker.saw(
            Rails(values["PowerGood"], bool(values.get("PlatformReset")), bool(values.get("PostComplete")))
        )
        self._show_change()
        if first and not self._target and not self._unfinished:
            self._begin([])  # the state that was saved is the right one: reach its target

    def _told(self, system: str, devices: str, source: str) -> None:
        """Take a state, validated as a whole before anything changes; DBusError says what is wrong."""
        try:
            states = short(system) if system else "", device(devices) if devices else ""
        except ValueError as error:
            raise DBusError(ErrorType.INVALID_ARGS, str(error)) from None
        self._tracker.told(*states, source)
        self._show_change()

    async def _set(self, _sender: str, system: str, devices: str, source: str) -> Body:
        if source not in SPEAKERS:
            raise DBusError(ErrorType.INVALID_ARGS, f"source '{source}' is not one of {', '.join(SPEAKERS)}")
        self._told(system, devices, source)
        if system == PREFIX + S2:
            try:
                async with asyncio.timeout(self._acknowledge):
                    await self._quiet.wait()
            except TimeoutError:
                self._name_late()
        return ()

    def _on_time(self) -> None:
        self._tracker.passed()
        self._show_change()

    # --- Delay locks ---

    def _delay(self, sender: str, state: str, who: str) -> Body:
        self._locks.delay(sender, _short(state), who)
        return ()

    def _release(self, sender: str, state: str) -> Body:
        if not self._locks.release(sender, _short(state)):
            raise DBusError(ErrorType.INVALID_ARGS, f"you do not delay {state}; call Delay first")
        return ()

    def _drop(self, sender: str, state: str) -> Body:
        if not self._locks.drop(sender, _short(state)):
            raise DBusError(ErrorType.INVALID_ARGS, f"you do not delay {state}")
        return ()

    def _on_owner(self, signal: Message) -> None:
        name, _, owner = signal.body
        if not owner and name.startswith(":"):
            self._locks.gone(name)

    def _settle(self) -> None:
        """Those that hold locks are quiet."""
        if not self._unfinished:
            self._quiet.set()

    def _name_late(self) -> None:
        for who in self._locks.late():
            data = {"CLIENT": who, "STATE": self._shown.system}
            self._work.put_nowait((self._shown, [Event(LATE_CLIENT, "Warning", data)]))
            self._unfinished += 1

    # --- Changes ---

    def _show_change(self) -> None:
        """Show what the tracker knows now, and have done what follows from it."""
        if self._timer:
            self._timer.cancel()
        seconds = self._tracker.wake_in()
        self._timer = (
            None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._on_time)
        )
        before, known = self._shown, self._tracker.known
        if known == before:
            return
        self._shown = known
        self._show(known)
        events = []
        if known.contradicted and not before.contradicted:
            events.append(Event(CONTRADICTED, "Warning", _data(known)))
        if known.overdue and not before.overdue:
            events.append(Event(OVERDUE, "Warning", _data(known)))
        if known.system != before.system:
            record = sel.record(known.system)
            events.insert(0, Event(CHANGED, "Informational", _data(known), record))
            if self._locks.begin(known.system):
                self._quiet.clear()
            self._details.emit("PrepareForState", PREFIX + known.system)
        self._begin(events)

    def _begin(self, events: list[Event]) -> None:
        self._unfinished += 1
        self._quiet.clear()
        self._work.put_nowait((self._shown, events))

    def _show(self, known: Known) -> None:
        # Who hears of a new state finds its details.
        self._details.update(**{name: value for name, (_, value) in _details(known).items()})
        self._states.update(SysACPIStatus=PREFIX + known.system, DevACPIStatus=PREFIX + known.device)

    async def _do_work(self) -> None:
        try:
            while True:
                await self._finish(*await self._work.get())
        finally:
            self._save_now()  # what a stop cuts short

    async def _finish(self, known: Known, events: list[Event]) -> None:
        for event in events:
            await self._append(event)
        await self._reach(TARGETS.get(STATES[known.system].like, ""))
        self._unfinished -= 1
        if not self._unfinished:
            if not self._locks.waiting:
                self._quiet.set()
            await asyncio.to_thread(self._save_now)

    async def _append(self, event: Event) -> None:
        try:
            await append(self._bus, *event, seconds=_LOG_SECONDS)
        except (DBusError, TimeoutError) as error:
            why = str(error) or "no answer"
            self._say_once("log", f"the event log takes nothing ({why}); states change without records")
        else:
            self._works_again("log", "the event log takes records again")

    async def _reach(self, target: str) -> None:
        if target == self._target:
            return
        before, self._target = self._target, target
        if target:
            await self._targets.reach(target)
        else:
            await self._targets.leave(before)

    def _save_now(self) -> None:
        with self._saving:  # a stop may come while a thread saves
            known = self._tracker.known
            if known == self._saved:
                return
            try:
                self._store.save(known)
            except StoreError as error:
                self._say_once("store", f"{error}; the state is lost when the BMC restarts")
            else:
                self._saved = known
                self._works_again("store", "the state can be saved again")

    def _say_once(self, what: str, text: str) -> None:
        if what not in self._refused:
            journal.error(text)
        self._refused.add(what)

    def _works_again(self, what: str, text: str) -> None:
        if what in self._refused:
            journal.info(text)
        self._refused.discard(what)


def milliseconds() -> int:
    """Return the time by the board's clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _some(state: str) -> str:
    """Return a state that must not be empty: a property has no way to say nothing."""
    return state or _short(state)


def _short(state: str) -> str:
    try:
        return short(state)
    except ValueError as error:
        raise DBusError(ErrorType.INVALID_ARGS, str(error)) from None


def _details(known: Known) -> dict[str, tuple[str, Any]]:
    return {
        "Source": ("s", known.source),
        "Since": ("t", known.since),
        "PreviousState": ("s", PREFIX + known.previous),
        "BootId": ("s", known.boot_id),
        "Cycle": ("t", known.cycle),
        "Contradicted": ("b", known.contradicted),
        "Overdue": ("b", known.overdue),
    }


def _data(known: Known) -> dict[str, str]:
    return {
        "STATE": known.system,
        "PREVIOUS": known.previous,
        "SOURCE": known.source,
        "BOOT_ID": known.boot_id,
        "CYCLE": str(known.cycle),
    }
