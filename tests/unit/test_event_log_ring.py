# SPDX-License-Identifier: Apache-2.0
"""The log over a folder that loses power at any byte: nothing confirmed is lost, nothing is invented."""

import errno
import os
import random
import zlib

import pytest

from fleet_event_log import ring
from fleet_event_log.record import Draft, RecordError
from fleet_event_log.ring import EventLog, LogError
from fleet_event_log.storage import Storage

CUTS = 10_000 if os.environ.get("FLEET_NIGHTLY") == "1" else 1_500
PAGE = 64  # bytes that are written or lost together; small, so that records span several


class PowerCut(BaseException):
    """The machine is off; nobody handles that."""


class FlakyFolder:
    """A folder in memory that loses power in the middle of its `cut_at`th change, or fails at `full_at`."""

    def __init__(self, chance: random.Random) -> None:
        self.files: dict[str, bytes] = {}
        self.chance = chance
        self.cut_at = 0  # counts down; at 1 the power goes
        self.full_at = 0
        self.was_full = False
        self.sacrificed = b""  # the oldest file, removed when the folder was full

    def names(self) -> list[str]:
        names = list(self.files)
        self.chance.shuffle(names)
        return names

    def read(self, name: str) -> bytes:
        return self.files[name]

    def append(self, name: str, data: bytes) -> None:
        before = self.files.get(name, b"")
        if self._counts_to("cut_at"):
            if self.chance.random() < 0.9 or before:
                self.files[name] = before + self._torn(data)
            raise PowerCut
        if self._counts_to("full_at"):
            self.files[name] = before + data[: self.chance.randrange(len(data) + 1)]
            self.was_full = True
            raise OSError(errno.ENOSPC, "No space left on device")
        self.files[name] = before + data

    def rename(self, name: str, new_name: str) -> None:
        if self.was_full and name == min(self.files, default=""):
            self.sacrificed += self.files[name]
        if self._counts_to("cut_at"):
            if name in self.files and self.chance.random() < 0.5:
                self.files[new_name] = self.files.pop(name)
            raise PowerCut
        if name not in self.files:
            raise FileNotFoundError(name)
        self.files[new_name] = self.files.pop(name)

    def remove(self, name: str) -> None:
        if self._counts_to("cut_at"):
            content = self.files.pop(name, None)
            if content is not None and self.chance.random() < 0.7:
                self.files[name] = self._half_erased(content)
            raise PowerCut
        self.files.pop(name, None)

    def _counts_to(self, counter: str) -> bool:
        left = getattr(self, counter)
        setattr(self, counter, max(0, left - 1))
        return bool(left == 1)

    def _torn(self, data: bytes) -> bytes:
        """What may be there of a write: its pages, each whole, in part, as garbage, or not at all."""
        pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
        kinds = [self.chance.choice(("whole", "whole", "zero", "erased", "torn", "noise")) for _ in pages]
        torn = []
        for page, kind in zip(pages, kinds, strict=True):
            cut = self.chance.randrange(len(page) + 1)
            torn.append(
                {
                    "whole": page,
                    "zero": bytes(len(page)),
                    "erased": b"\xff" * len(page),
                    "torn": page[:cut] + b"\xff" * (len(page) - cut),
                    "noise": self.chance.randbytes(len(page)),
                }[kind]
            )
        return b"".join(torn)[: self.chance.randrange(len(data) + 1)]

    def _half_erased(self, content: bytes) -> bytes:
        """What may be there of a file whose removal was interrupted."""
        start = self.chance.randrange(len(content) + 1)
        end = self.chance.randrange(start, len(content) + 1)
        return self.chance.choice(
            (content, content[:end], content[:start] + b"\xff" * (end - start) + content[end:])
        )


class Model:
    """What must be in the log, and what may be, as somebody outside sees it."""

    def __init__(self) -> None:
        self.next = 0  # number in the next draft's message
        self.confirmed: dict[int, str] = {}  # id -> message of entries that were confirmed and not taken out
        self.gone: set[str] = set()  # messages that were confirmed to be taken out
        self.maybe: set[str] = set()  # messages whose fate the power cut decided

    def drafts(self, chance: random.Random) -> list[Draft]:
        drafts = []
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            data = {"text": "x" * chance.randrange(80)}
            sel = bytes((0, 0, 2)) + chance.randbytes(13) if chance.random() < 0.5 else b""
            drafts.append(Draft(1000 + self.next, "Notice", f"event {self.next}", data, sel))
            self.next += 1
        return drafts

    def check(self, log: EventLog, *, taken_out: set[int], kept: int, sacrificed: bytes) -> None:
        """Compare; `taken_out` are ids that an interrupted clearing or deletion may have taken out."""
        entries = {number: log[number] for number in log}
        found = {number: entry.message for number, entry in entries.items()}
        assert list(found) == sorted(found)
        assert len(set(found.values())) == len(found), "an event is there twice"
        for number, message in found.items():
            assert message not in self.gone, f"{message} is back"
            if number in self.confirmed:
                assert self.confirmed[number] == message
            else:
                assert message in self.maybe, f"{message} was invented"
            assert entries[number].time == 1000 + int(message.split()[1])
        newest = sorted(self.confirmed.keys() | found)[-kept:]
        must = self.confirmed.keys() & set(newest) - taken_out
        # The oldest file may have been on its way out to make room.
        must = {number for number in must if f'"{self.confirmed[number]}"'.encode() not in sacrificed}
        assert must <= set(found), "something that was confirmed is lost"
        still = taken_out & set(found)
        assert not still or still >= taken_out & must, "a clearing was done by halves"
        assert log.sel_ids == [number for number, entry in entries.items() if entry.sel]
        self.confirmed = found
        self.maybe.clear()


KEPT = 20


def open_log(folder: Storage) -> EventLog:
    return EventLog(folder, kept=KEPT, file_bytes=1500, all_bytes=40_000)


def live(folder: FlakyFolder, model: Model, chance: random.Random) -> set[int]:
    """Use the log until the power goes; ids of what the interrupted action would have taken out."""
    folder.cut_at = chance.randrange(1, 40)
    taken_out: set[int] = set()
    try:
        log = open_log(folder)
        model.check(log, taken_out=set(), kept=KEPT, sacrificed=b"")
        folder.sacrificed = b""
        while True:
            folder.was_full = False
            folder.full_at = chance.choice((0, 0, 0, 1, 2))
            action = chance.choice(("add",) * 12 + ("delete", "clear"))
            try:
                if action == "add":
                    drafts = model.drafts(chance)
                    model.maybe |= {draft.message for draft in drafts}
                    entries = log.add(drafts)
                    model.confirmed |= {entry.id: entry.message for entry in entries}
                    model.maybe -= {entry.message for entry in entries}
                elif action == "delete" and len(log):
                    number = chance.choice(list(log))
                    taken_out = {number}
                    log.delete(number, 5)
                    model.gone.add(model.confirmed.pop(number))
                elif action == "clear":
                    taken_out = set(log)
                    log.clear(6)
                    model.gone |= set(model.confirmed.values())
                    model.confirmed.clear()
            except LogError:
                # It may come into force after a restart: let that be now.
                return taken_out
            taken_out = set()
            # the ring has forgotten some
            model.confirmed = {n: text for n, text in model.confirmed.items() if n in log}
            assert set(model.confirmed) == set(log)
            assert len(log) <= 4 * KEPT
    except PowerCut:
        return taken_out


def test_nothing_confirmed_is_lost_and_nothing_invented() -> None:
    seed = int(os.environ.get("FLEET_SEED") or 1)
    cuts = 0
    while cuts < CUTS:
        chance = random.Random(f"{seed} {cuts}")
        folder, model = FlakyFolder(chance), Model()
        for _ in range(20):
            taken_out = live(folder, model, chance)
            cuts += 1
            # sometimes the power goes while what the last cut left is read
            folder.cut_at = chance.choice((0, 0, 1, 2))
            try:
                log = open_log(folder)
            except PowerCut:
                folder.cut_at = 0
                log = open_log(folder)
            folder.cut_at = 0
            model.check(log, taken_out=taken_out, kept=KEPT, sacrificed=folder.sacrificed)


# --- The ring ---


def drafts(count: int, *, size: int = 0) -> list[Draft]:
    return [Draft(time, "Notice", "event", {"text": "x" * size}) for time in range(count)]


@pytest.fixture
def folder() -> FlakyFolder:
    return FlakyFolder(random.Random(1))


def test_millions_of_events_would_not_fill_the_partition(folder: FlakyFolder) -> None:
    log = EventLog(folder, kept=100, file_bytes=4000, all_bytes=20_000)
    for _ in range(300):
        log.add(drafts(7, size=30))
        assert sum(map(len, folder.files.values())) <= 24_000
        assert len(folder.files) <= 6
    assert list(log) == list(range(2101 - len(log), 2101))
    assert len(log) >= 100


def test_many_torn_files_are_trimmed_too(folder: FlakyFolder) -> None:
    for number in range(200):
        log = EventLog(folder)
        log.add([Draft(number, "Notice", "event")])
        folder.files[max(folder.files)] += b"torn"
    log = EventLog(folder)
    log.add([Draft(0, "Notice", "event")])
    assert len(folder.files) == ring.MOST_FILES
    assert list(log)[-1] == 201


def test_ids_are_never_used_twice_even_after_clearing(folder: FlakyFolder) -> None:
    log = EventLog(folder)
    log.add(drafts(3))
    log.delete(2, 7)
    log.clear(9)
    assert (len(log), log.last_cleared, len(folder.files)) == (0, 9, 1)
    log = EventLog(folder)
    assert (len(log), log.last_cleared, log.last_id) == (0, 9, 5)
    assert log.add(drafts(1))[0].id == 6


def test_reading(folder: FlakyFolder) -> None:
    log = EventLog(folder)
    log.add(drafts(10))
    log.delete(4, 7)
    assert [entry.id for entry in log.since(3, 3)] == [3, 5, 6]
    assert log.since(11, 5) == []
    assert log.newest(3) == [8, 9, 10]
    assert 4 not in log
    with pytest.raises(KeyError):
        log.delete(4, 8)


def test_a_bad_draft_adds_nothing_of_its_batch(folder: FlakyFolder) -> None:
    log = EventLog(folder)
    with pytest.raises(RecordError):
        log.add([*drafts(1), Draft(1, "loud", "event")])
    assert len(log) == 0
    assert folder.files == {}


def test_damage_is_told_and_the_rest_is_read(folder: FlakyFolder) -> None:
    log = EventLog(folder)
    log.add(drafts(5))
    content = bytearray(folder.files["00000001.log"])
    content[content.index(b'"id":3')] ^= 1
    folder.files["00000001.log"] = bytes(content)
    log = EventLog(folder)
    assert list(log) == [1, 2, 4, 5]
    assert log.problems == ["00000001.log is damaged; what is left of it was read"]
    log.add(drafts(1))
    assert sorted(folder.files) == ["00000001.log", "00000002.log"]


def test_a_log_of_a_later_version_is_left_alone(folder: FlakyFolder) -> None:
    EventLog(folder).add(drafts(2))
    line = b'{"format":2,"segment":1}'
    folder.files["00000001.log"] = later = b"%08x %s\n" % (zlib.crc32(line), line)
    log = EventLog(folder)
    assert log.problems == ["00000001.log has format 2, not 1"]
    log.add(drafts(1))
    log.clear(1)
    assert folder.files["00000001.log"] == later
    assert sorted(folder.files) == ["00000001.log", "00000003.log"]


def test_a_file_that_cannot_be_read_is_left_alone(
    folder: FlakyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    EventLog(folder).add(drafts(2))

    def read(name: str) -> bytes:
        raise OSError(errno.EIO, "Input/output error", name)

    monkeypatch.setattr(folder, "read", read)
    log = EventLog(folder)
    assert log.problems == ["00000001.log cannot be read: Input/output error"]
    log.add(drafts(1))
    assert sorted(folder.files) == ["00000001.log", "00000002.log"]


def test_a_full_partition_costs_the_oldest_file_but_never_the_newest_ones(folder: FlakyFolder) -> None:
    log = EventLog(folder, file_bytes=200)
    while len(folder.files) < ring.LEAST_FILES + 2:
        log.add(drafts(1, size=50))
    before = list(log)
    folder.full_at = 1
    log.add(drafts(1, size=50))
    assert list(log) == [*before[1:], before[-1] + 1]

    class Full(FlakyFolder):
        def append(self, name: str, data: bytes) -> None:
            raise OSError(errno.ENOSPC, f"No space left on device for {len(data)} bytes", name)

    full = Full(random.Random(1))
    full.files = folder.files
    log = EventLog(full, file_bytes=200)
    for _ in range(10):
        with pytest.raises(LogError, match="No space left"):
            log.add(drafts(1, size=50))
    assert len(full.files) == ring.LEAST_FILES
    assert len(log) >= ring.LEAST_FILES
