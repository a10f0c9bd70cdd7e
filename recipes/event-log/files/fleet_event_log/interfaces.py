# SPDX-License-Identifier: Apache-2.0
"""The log on D-Bus.

OpenBMC's names (phosphor-dbus-interfaces, xyz/openbmc_project/Logging): Create and DeleteAll on the log,
and the newest entries as objects with Entry and Delete. What those cannot do is in an interface of our own,
io.metafleet.EventLog: SEL records, reading many entries at once, and who wants to know of each new one.

A method that writes answers when what it wrote is in flash.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbus_fast import DBusError, ErrorType, Variant

from fleet_bmc_common import log as journal
from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree
from fleet_event_log import record, sel
from fleet_event_log.record import Draft, Entry, RecordError
from fleet_event_log.ring import KEPT, EventLog, LogError

BUS_NAME = "xyz.openbmc_project.Logging"
ROOT = "/xyz/openbmc_project/logging"
ENTRIES = ROOT + "/entry"

CREATE = "xyz.openbmc_project.Logging.Create"
DELETE_ALL = "xyz.openbmc_project.Collection.DeleteAll"
ENTRY = "xyz.openbmc_project.Logging.Entry"
DELETE = "xyz.openbmc_project.Object.Delete"
EVENT_LOG = "io.metafleet.EventLog"

WRITE_ERROR = "xyz.openbmc_project.Common.File.Error.Write"
NO_SUCH_ENTRY = "io.metafleet.EventLog.Error.NoSuchEntry"

OBJECTS = 200  # as phosphor-logging keeps; Read shows the others
MOST_READ = 256  # entries in one answer of Read
FIRST_RECORD, LAST_RECORD = 0x0000, 0xFFFF  # record ids with a meaning (IPMI 2.0, 31.5)

# An entry as Read and Added tell it: id, milliseconds since the epoch, severity without its prefix, message,
# data, SEL record (empty for none).
_ENTRY = "utssa{ss}ay"

_LEVEL = ENTRY + ".Level."


def now() -> int:
    """Return the time by the board's clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class LogObjects:
    """Shows a log and does what clients ask of it."""

    def __init__(self, log: EventLog, objects: ObjectTree, clock: Callable[[], int] = now) -> None:
        self._log = log
        self._objects = objects
        self._clock = clock
        self._waiting: list[tuple[Draft, asyncio.Future[int]]] = []
        self._is_broken = False
        self._events = Interface(
            EVENT_LOG,
            {name: Variant(*value) for name, value in self._properties().items()},
            methods={
                "Append": Method("ssa{ss}ay", "u", self._append),
                "Read": Method("uu", f"a({_ENTRY})", self._read),
                "Delete": Method("u", "", self._delete),
                "AddSelRecord": Method("ay", "q", self._add_sel),
                "GetSelRecord": Method("q", "qay", self._get_sel),
                "DeleteSelRecord": Method("q", "q", self._delete_sel),
            },
            signals={"Added": _ENTRY, "Deleted": "u", "Cleared": ""},
        )
        objects.manage(ROOT)
        objects.add(
            ROOT,
            Interface(CREATE, methods={"Create": Method("ssa{ss}", "o", self._create)}),
            Interface(DELETE_ALL, methods={"DeleteAll": Method("", "", self._clear)}),
            self._events,
        )
        objects.add_members(ENTRIES, self)

    # --- Entries as objects ---

    def names(self) -> Sequence[str]:
        """Return the ids of the newest entries."""
        return [str(number) for number in self._log.newest(OBJECTS)]

    def interfaces(self, name: str) -> Sequence[Interface]:
        """Return what an entry looks like."""
        entry = self._log[int(name)]
        properties = {
            "Id": Variant("u", entry.id),
            "Timestamp": Variant("t", entry.time),
            "UpdateTimestamp": Variant("t", entry.time),
            "Severity": Variant("s", _LEVEL + entry.severity),
            "Message": Variant("s", entry.message),
            "AdditionalData": Variant("a{ss}", dict(entry.data)),
            "EventId": Variant("s", ""),
            "Resolution": Variant("s", ""),
            "Resolved": Variant("b", False),
            "ServiceProviderNotify": Variant("s", ENTRY + ".Notify.NotSupported"),
        }
        delete = Method("", "", lambda sender: self._delete(sender, entry.id))
        return [Interface(ENTRY, properties), Interface(DELETE, methods={"Delete": delete})]

    # --- Adding ---

    async def _create(self, _sender: str, message: str, severity: str, data: Mapping[str, str]) -> Body:
        if not severity.startswith(_LEVEL):
            raise DBusError(ErrorType.INVALID_ARGS, f"severity '{severity}' does not begin with {_LEVEL}")
        number = await self._add(Draft(self._clock(), severity.removeprefix(_LEVEL), message, data))
        return [f"{ENTRIES}/{number}"]

    async def _append(
        self, _sender: str, message: str, severity: str, data: Mapping[str, str], sel_record: bytes
    ) -> Body:
        return [await self._add(Draft(self._clock(), severity, message, data, bytes(sel_record)))]

    async def _add_sel(self, _sender: str, sel_record: bytes) -> Body:
        if len(sel_record) != sel.RECORD_BYTES:
            raise DBusError(ErrorType.INVALID_ARGS, f"a SEL record has 16 bytes, not {len(sel_record)}")
        draft = Draft(
            self._clock(), "Informational", sel.MESSAGE, sel.describe(sel_record), bytes(sel_record)
        )
        return [sel.record_id(await self._add(draft))]

    async def _add(self, draft: Draft) -> int:
        """Put an event into the log, together with the others that wait; its id."""
        try:
            record.encode(Entry(record.LAST_ID, *draft))
        except RecordError as error:
            raise DBusError(ErrorType.INVALID_ARGS, str(error)) from None
        loop = asyncio.get_running_loop()
        if not self._waiting:
            # One write to flash takes as long for many events as for one: take those, too, that have arrived.
            loop.call_soon(self._write)
        added: asyncio.Future[int] = loop.create_future()
        self._waiting.append((draft, added))
        return await added

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        before = set(self._log.newest(OBJECTS))
        try:
            entries = self._log.add([draft for draft, _ in waiting])
        except LogError as error:
            self._broken(error)
            for _, added in waiting:
                added.set_exception(DBusError(WRITE_ERROR, str(error)))
            return
        self._works()
        self._announce_changes(before)
        for entry, (_, added) in zip(entries, waiting, strict=True):
            self._events.emit("Added", *_told(entry))
            added.set_result(entry.id)

    # --- Reading ---

    def _read(self, _sender: str, first: int, count: int) -> Body:
        return [[list(_told(entry)) for entry in self._log.since(first, min(count, MOST_READ))]]

    def _get_sel(self, _sender: str, number: int) -> Body:
        place = self._sel_place(number)
        ids = self._log.sel_ids
        following = sel.record_id(ids[place + 1]) if place + 1 < len(ids) else LAST_RECORD
        return [following, self._log[ids[place]].sel]

    def _sel_place(self, number: int) -> int:
        """Return where in the list of SEL records the one with this record id is."""
        ids = self._log.sel_ids
        if ids and number == FIRST_RECORD:
            return 0
        if ids and number == LAST_RECORD:
            return len(ids) - 1
        wanted = sel.entry_id(number, self._log.last_id)
        place = bisect_right(ids, wanted) - 1
        if place < 0 or ids[place] != wanted:
            raise DBusError(NO_SUCH_ENTRY, f"there is no SEL record {number:#06x}")
        return place

    # --- Removing ---

    def _delete(self, _sender: str, number: int) -> Body:
        before = set(self._log.newest(OBJECTS))
        try:
            self._log.delete(number, self._clock())
        except KeyError:
            raise DBusError(NO_SUCH_ENTRY, f"there is no entry {number}") from None
        except LogError as error:
            self._broken(error)
            raise DBusError(WRITE_ERROR, str(error)) from None
        self._works()
        self._announce_changes(before)
        self._events.emit("Deleted", number)
        return ()

    def _delete_sel(self, sender: str, number: int) -> Body:
        entry = self._log.sel_ids[self._sel_place(number)]
        self._delete(sender, entry)
        return [sel.record_id(entry)]

    def _clear(self, _sender: str) -> Body:
        before = set(self._log.newest(OBJECTS))
        try:
            self._log.clear(self._clock())
        except LogError as error:
            self._broken(error)
            raise DBusError(WRITE_ERROR, str(error)) from None
        self._works()
        self._announce_changes(before)
        self._events.emit("Cleared")
        return ()

    # --- Telling ---

    def _properties(self) -> dict[str, tuple[str, Any]]:
        return {
            "Entries": ("u", len(self._log)),
            "SelRecords": ("u", len(self._log.sel_ids)),
            "Capacity": ("u", KEPT),
            "LastId": ("u", self._log.last_id),
            "LastAdded": ("t", self._log.last_added),
            "LastCleared": ("t", self._log.last_cleared),
        }

    def _announce_changes(self, before: set[int]) -> None:
        """Tell which objects came and went, where `before` are the ids of those that were there."""
        self._events.update(**{name: value for name, (_, value) in self._properties().items()})
        after = set(self._log.newest(OBJECTS))
        for number in sorted(before - after):
            self._objects.removed(f"{ENTRIES}/{number}", [ENTRY, DELETE])
        for number in sorted(after - before):
            self._objects.added(f"{ENTRIES}/{number}")

    def _broken(self, error: LogError) -> None:
        if not self._is_broken:
            journal.error(f"{error}; events are refused until it can be written again")
        self._is_broken = True

    def _works(self) -> None:
        if self._is_broken:
            journal.info("the log can be written again")
        self._is_broken = False
        while self._log.problems:
            journal.warning(self._log.problems.pop(0))


def _told(entry: Entry) -> tuple[Any, ...]:
    return (entry.id, entry.time, entry.severity, entry.message, dict(entry.data), entry.sel)
