# SPDX-License-Identifier: Apache-2.0
"""The log itself: records in numbered files, oldest first, the oldest file removed when there are too many.

Files are only ever appended to and removed, so a power cut can harm nothing that was written before. What a
cut tore is passed over at the next start, and the file that holds it is not appended to again.
"""

import errno
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from fleet_event_log import record, sel
from fleet_event_log.record import Clearing, Deletion, Draft, Entry, Header, RecordError
from fleet_event_log.storage import Storage

KEPT = 4096  # entries that are kept at least, as long as their bytes allow
FILE_BYTES = 64 << 10
ALL_BYTES = 1 << 20
MOST_FILES = 64
LEAST_FILES = 4  # the newest files, which are not removed to make room on a full partition

_NAME = re.compile(r"(\d{8})\.log")
_GONE = ".gone"  # behind the name of a file that is being removed


class LogError(Exception):
    """A write did not succeed. Nothing of it counts, though some of it may turn up after a restart."""


class _File:
    """What is known of one file."""

    __slots__ = ("ids", "is_sound", "number", "size")

    def __init__(self, number: int, size: int = 0, *, is_sound: bool = True) -> None:
        self.number = number
        self.size = size  # bytes
        self.is_sound = is_sound  # whether it may be appended to
        self.ids: list[int] = []  # of its entries, deleted ones included

    @property
    def name(self) -> str:
        return f"{self.number:08}.log"


class EventLog:
    """Events by their id, from the oldest to the newest."""

    def __init__(
        self,
        storage: Storage,
        *,
        kept: int = KEPT,
        file_bytes: int = FILE_BYTES,
        all_bytes: int = ALL_BYTES,
    ) -> None:
        """Read the log. What is damaged is left out, and `problems` says what that was.

        Raises OSError when the folder cannot be listed.
        """
        self.problems: list[str] = []
        self.last_added = 0  # milliseconds since the epoch; 0: never, as far as the log knows
        self.last_cleared = 0
        self.last_id = 0  # the highest that was ever used
        self.sel_ids: list[int] = []  # of the entries that have a SEL record, ascending
        self._storage = storage
        self._kept = kept
        self._file_bytes = file_bytes
        self._all_bytes = all_bytes
        self._last_number = 0
        self._files: list[_File] = []
        self._lines: dict[int, bytes] = {}  # of the entries, by id; decoded when somebody asks
        self._load()

    # --- Reading ---

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._lines)

    def __contains__(self, number: object) -> bool:
        return number in self._lines

    def __iter__(self) -> Iterator[int]:
        """Ids of all entries, the oldest first."""
        return iter(self._lines)

    def __getitem__(self, number: int) -> Entry:
        """Return the entry with this id; KeyError when there is none."""
        entry = record.decode(self._lines[number])
        assert isinstance(entry, Entry)
        return entry

    def newest(self, count: int) -> list[int]:
        """Ids of the newest entries, the oldest of them first."""
        return list(islice(reversed(self._lines), count))[::-1]

    def since(self, first: int, count: int) -> list[Entry]:
        """Return the oldest `count` entries of those whose id is `first` or higher."""
        return [self[number] for number in islice((n for n in self._lines if n >= first), count)]

    # --- Writing ---

    def add(self, drafts: Sequence[Draft]) -> list[Entry]:
        """Put events into the log with one write; when this returns, they are durable.

        Raises RecordError when one of them cannot be an entry, and LogError; nothing is added then.
        """
        entries = []
        for number, draft in enumerate(drafts, self.last_id + 1):
            complete = sel.complete(draft.sel, number, draft.time) if draft.sel else b""
            entries.append(Entry(number, draft.time, draft.severity, draft.message, draft.data, complete))
        lines = [record.encode(entry) for entry in entries]
        if entries:
            self.last_id += len(entries)  # before the write: what fails may be in the file nevertheless
            file = self._write(b"".join(lines))
            for entry, line in zip(entries, lines, strict=True):
                self._take(file, entry, line[:-1])
            self._trim()
        return entries

    def delete(self, number: int, time: int) -> None:
        """Take one entry out of the log. Raises KeyError when there is none, and LogError."""
        if number not in self._lines:
            raise KeyError(number)
        self.last_id += 1
        self._write(record.encode(Deletion(self.last_id, time, number)))
        self._forget(number)
        self._trim()

    def clear(self, time: int) -> None:
        """Take all entries out of the log.

        After a power cut all or none of them are there. Raises LogError.
        """
        old = list(self._files)
        self.last_id += 1
        self._write(record.encode(Clearing(self.last_id, time)), own_file=True)
        self._forget_all(time)
        for file in old:
            self._remove(file)

    def _take(self, file: _File, entry: Entry, line: bytes) -> None:
        file.ids.append(entry.id)
        self._lines[entry.id] = line
        if entry.sel:
            self.sel_ids.append(entry.id)
        self.last_added = entry.time

    def _forget(self, number: int) -> None:
        if number in self._lines:
            del self._lines[number]
            place = bisect_left(self.sel_ids, number)
            if self.sel_ids[place : place + 1] == [number]:
                del self.sel_ids[place]

    def _forget_all(self, time: int) -> None:
        self._lines.clear()
        self.sel_ids.clear()
        self.last_cleared = time

    # --- Files ---

    def _write(self, data: bytes, *, own_file: bool = False) -> _File:
        """Append to the newest file, or to a new one; the file."""
        file = self._files[-1] if self._files else None
        if file and file.is_sound and not own_file and file.size + len(data) <= self._file_bytes:
            try:
                self._append(file, data)
            except OSError:
                pass  # whatever is the matter with that file: a new one may do
            else:
                return file
        try:
            return self._write_new(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or len(self._files) <= LEAST_FILES:
                raise LogError(f"the log cannot be written: {error.strerror or error}") from None
        self._remove(self._files[0])
        try:
            return self._write_new(data)
        except OSError as error:
            raise LogError(f"the log cannot be written: {error.strerror or error}") from None

    def _write_new(self, data: bytes) -> _File:
        self._last_number += 1
        file = _File(self._last_number)
        try:
            self._append(file, record.encode(Header(record.FORMAT, file.number)) + data)
        except OSError:
            self._remove(file)
            raise
        self._files.append(file)
        return file

    def _append(self, file: _File, data: bytes) -> None:
        file.size += len(data)  # before the write, which may get that far and fail
        try:
            self._storage.append(file.name, data)
        except OSError:
            file.is_sound = False
            raise

    def _trim(self) -> None:
        """Remove the oldest files while there are too many files, bytes or entries."""
        while len(self._files) > 1:
            oldest = self._files[0]
            size = sum(file.size for file in self._files)
            others = len(self._lines) - len(oldest.ids)  # at least: some of those may be deleted
            if len(self._files) <= MOST_FILES and size <= self._all_bytes and others < self._kept:
                break
            self._remove(oldest)

    def _remove(self, file: _File) -> None:
        """Remove a file and its entries. A file that cannot be removed is known again after a restart.

        It loses its name first: of a file that is half gone, an entry may be left and its deletion not.
        """
        try:
            self._storage.rename(file.name, file.name + _GONE)
            self._storage.remove(file.name + _GONE)
        except FileNotFoundError:
            pass  # it could not even be made
        except OSError as error:
            self.problems.append(f"{file.name} cannot be removed: {error.strerror or error}")
        if file in self._files:
            self._files.remove(file)
        for number in file.ids:
            self._forget(number)

    # --- Start ---

    def _load(self) -> None:
        names = self._storage.names()
        for name in names:
            if name.endswith(_GONE):
                with suppress(OSError):
                    self._storage.remove(name)
        numbers = sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)
        found = _Found()
        for number in numbers:
            self._last_number = number
            file = _File(number)
            try:
                data = self._storage.read(file.name)
            except OSError as error:
                # It stays for whoever can read it, and does not count.
                self.problems.append(f"{file.name} cannot be read: {error.strerror or error}")
                continue
            if self._read(file, data, found):
                self._files.append(file)
        for number in sorted(found.entries):
            entry, line, file = found.entries[number]
            if number > found.cleared.id and number not in found.deleted:
                self._take(file, entry, line)
        self.last_id = found.last_id
        self.last_cleared = found.cleared.time
        # What a clearing or the ring could not remove any more before the power went.
        while len(self._files) > 1 and not self._files[0].ids:
            self._remove(self._files[0])
        self._trim()

    def _read(self, file: _File, data: bytes, found: "_Found") -> bool:
        """Add what is in a file to what was found so far; False when it is not one of ours."""
        file.size = len(data)
        *lines, rest = data.split(b"\n")
        file.is_sound = not rest
        for line in lines:
            try:
                one = record.decode(line)
            except RecordError:
                file.is_sound = False
                continue
            if isinstance(one, Header) and one.format != record.FORMAT:
                self.problems.append(f"{file.name} has format {one.format}, not {record.FORMAT}")
                return False
            found.add(one, line, file)
        if not file.is_sound:
            self.problems.append(f"{file.name} is damaged; what is left of it was read")
        return True


class _Found:
    """All records of all files, in any order.

    An entry or a mark may be there twice: in a file that it seemed not to get into, and in the next one.
    """

    def __init__(self) -> None:
        self.last_id = 0
        self.entries: dict[int, tuple[Entry, bytes, _File]] = {}
        self.deleted: set[int] = set()
        self.cleared = Clearing(0, 0)

    def add(self, one: record.Record, line: bytes, file: _File) -> None:
        """Take one record; of two that are the same, the later one counts."""
        match one:
            case Header():
                return
            case Entry():
                self.entries[one.id] = (one, line, file)
            case Deletion():
                self.deleted.add(one.deleted)
            case Clearing():
                self.cleared = max(self.cleared, one)
        self.last_id = max(self.last_id, one.id)
