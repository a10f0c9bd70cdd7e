# SPDX-License-Identifier: Apache-2.0
"""Power cycles of the host: what each kind is, and whether one went as it has to. Pure.

A cycle begins and ends in S0. It is judged by three witnesses, which have to agree: the ACPI states on D-Bus,
the SEL records of the ACPI sensor, and the boot's progress.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from fleet_cli.bmc import ACPI, ACPI_DETAILS, PROGRESS, Change, last

S0, S2, S5 = "S0_G0_D0", "S2_D2", "S5_G2"

# Who says a state (io.metafleet.AcpiState, Source).
HOST, RAILS, INFERRED, RESTORED = "Host", "Rails", "Inferred", "Restored"

# Event offset of a SEL record of the ACPI sensor (IPMI 2.0, table 42-3, type 22h).
OFFSETS = {S0: 0x0, S2: 0x2, S5: 0x5}
_SENSOR_TYPE = 0x22
_TYPE_AT, _OFFSET_AT = 10, 13  # in a SEL record (table 32-1)

# Stages of a boot in their order. Those of the second line need not be seen, because others come at once.
STAGES = ("PrimaryProcInit", "MemoryInit", "SecondaryProcInit", "PCIInit", "OSStart", "OSRunning")
OPTIONAL = ("BusInit", "MotherboardInit", "SystemInitComplete", "SystemSetup")
NO_STAGE, LAST_STAGE = "Unspecified", STAGES[-1]
_ORDER = (
    *("PrimaryProcInit", "BusInit", "MemoryInit", "SecondaryProcInit", "PCIInit", "MotherboardInit"),
    *("SystemInitComplete", "SystemSetup", "OSStart", "OSRunning"),
)

# Events that tell nothing beside states and progress.
_CHANGED = "io.metafleet.AcpiState.Changed"
_SEL_ADDED = "xyz.openbmc_project.Logging.SEL.Error.Created"
POWER_LOST = "io.metafleet.HostPower.PowerLost"


class Expected(NamedTuple):
    """A state that has to come: who may say it first, and who has to say it in the end (empty: the same)."""

    state: str
    first: frozenset[str]
    finally_: str = ""


class Step(NamedTuple):
    """Something to do, and the ACPI state to wait for; empty for none.

    `do` is one of fleet_cli.timeline.REQUESTS, or for the operator one of fleet_qemu.host.ACTIONS.
    """

    do: str
    until: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of cycle."""

    name: str
    steps: tuple[Step, ...]
    states: tuple[Expected, ...]
    powered_on: int = 1  # by how much the number of power-ons grows
    events: tuple[str, ...] = ()  # beside states and progress

    @property
    def sel(self) -> tuple[int, ...]:
        """The offsets of the SEL records that have to come."""
        return tuple(OFFSETS[expected.state] for expected in self.states)


def _by(*names: str) -> frozenset[str]:
    return frozenset(names)


# The firmware says S2 too, after it was inferred; when the machine is slow its word may come first.
_BOOT = (Expected(S2, _by(INFERRED, HOST), HOST), Expected(S0, _by(HOST)))
_CUT = (Expected(S5, _by(RAILS)), *_BOOT)

KINDS = {
    kind.name: kind
    for kind in (
        Kind("soft", (Step("soft", S5), Step("on", S0)), (Expected(S5, _by(HOST)), *_BOOT)),
        Kind("force", (Step("off", S5), Step("on", S0)), _CUT),
        Kind("cycle", (Step("cycle", S0),), _CUT),
        Kind("reset", (Step("reset", S0),), _BOOT, powered_on=0),
        Kind(
            "lost",
            (Step("lose-power", S5), Step("restore"), Step("power-button", S0)),
            _CUT,
            events=(POWER_LOST,),
        ),
    )
}
POWER_ON = Kind("on", (Step("on", S0),), _BOOT)  # the first one, from S5


@dataclass(frozen=True)
class Seen:
    """A state that was entered: when by the BMC's clock, and who has said it since."""

    state: str
    time: float
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """What a cycle left behind. `before` and `after` are what fleet_cli.timeline.status gives."""

    states: tuple[Seen, ...]
    sel: tuple[int, ...]
    progress: tuple[str, ...]
    events: tuple[str, ...]
    before: Mapping[str, Any] = field(repr=False)
    after: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(
        cls,
        changes: Iterable[Change],
        entries: Iterable[Mapping[str, Any]],
        before: Mapping[str, Any],
        after: Mapping[str, Any],
    ) -> "Record":
        """From changes on D-Bus and entries of the event log (fleet_cli.commands.events.read)."""
        changes, entries = list(changes), list(entries)
        states = states_of(changes, str(before["source"]))
        return cls(tuple(states), acpi_offsets(entries), progress_of(changes), other(entries), before, after)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def states_of(changes: Iterable[Change], source: str) -> list[Seen]:
    """The ACPI states that were entered; `source` said the one before.

    Who hears of a state has heard its details (docs/dbus.md); a word that repeats the state is details alone.
    """
    seen: list[Seen] = []
    for change in changes:
        if change.interface == ACPI_DETAILS.interface:
            source = change.values.get("Source", source)
            if seen and "Source" in change.values and "Since" not in change.values:
                seen[-1] = Seen(seen[-1].state, seen[-1].time, (*seen[-1].sources, source))
        elif change.interface == ACPI.interface and "SysACPIStatus" in change.values:
            seen.append(Seen(last(change.values["SysACPIStatus"]), change.time, (source,)))
    return seen


def progress_of(changes: Iterable[Change]) -> tuple[str, ...]:
    """The stages that BootProgress has shown."""
    return tuple(
        last(change.values["BootProgress"])
        for change in changes
        if change.interface == PROGRESS.interface and "BootProgress" in change.values
    )


def acpi_offsets(entries: Iterable[Mapping[str, Any]]) -> tuple[int, ...]:
    """The event offsets of the ACPI sensor's SEL records."""
    records = [bytes.fromhex(entry["sel"]) for entry in entries if entry["sel"]]
    return tuple(record[_OFFSET_AT] & 0x0F for record in records if record[_TYPE_AT] == _SENSOR_TYPE)


def other(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The events that are about something else."""
    return tuple(entry["message"] for entry in entries if entry["message"] not in (_CHANGED, _SEL_ADDED))


def judge(kind: Kind, record: Record) -> list[str]:
    """What was wrong; empty when nothing was."""
    return [
        *judge_bus(kind, record),
        *_wrong_sel(kind.sel, record),
        *_wrong_events(kind.events, record.events),
    ]


def judge_bus(kind: Kind, record: Record) -> list[str]:
    """What was wrong with a cycle whose events nobody could keep."""
    return [
        *_wrong_states(kind.states, record.states),
        *_wrong_progress(record.before["boot_progress"], record.progress),
        *_wrong_numbers(kind, record),
        *_wrong_end(record.after),
    ]


def _wrong_states(expected: Sequence[Expected], seen: Sequence[Seen]) -> list[str]:
    names, wanted = [one.state for one in seen], [one.state for one in expected]
    if names != wanted:
        return [f"states: {_list(names)} instead of {_list(wanted)}"]
    wrong = []
    for one, state in zip(expected, seen, strict=True):
        if state.sources[0] not in one.first:
            wrong.append(f"{one.state} said by {state.sources[0]}, not by {' or '.join(sorted(one.first))}")
        if one.finally_ and state.sources[-1] != one.finally_:
            wrong.append(f"{one.state} was never said by {one.finally_}")
    times = [state.time for state in seen]
    return wrong + ([] if times == sorted(times) else ["times of the states go backwards"])


def _wrong_sel(expected: Sequence[int], record: Record) -> list[str]:
    wrong = []
    if record.sel != tuple(expected):
        wrong.append(f"SEL: {_list(record.sel)} instead of {_list(expected)}")
    shown = tuple(OFFSETS.get(state.state, -1) for state in record.states)
    if record.sel != shown:
        wrong.append(f"SEL has {_list(record.sel)}, D-Bus has shown {_list(shown)}")
    return wrong


def _wrong_progress(before: str, progress: Sequence[str]) -> list[str]:
    wrong = []
    if NO_STAGE not in (before, *progress[:1]):
        wrong.append("progress does not begin anew")
    stages = [stage for stage in progress if stage != NO_STAGE]
    if NO_STAGE in progress[1:]:
        wrong.append("progress begins anew more than once")
    unknown = [stage for stage in stages if stage not in _ORDER]
    if unknown:
        return [*wrong, f"progress: {_list(unknown)} cannot be"]
    places = [_ORDER.index(stage) for stage in stages]
    if places != sorted(set(places)):
        wrong.append(f"progress goes backwards: {_list(stages)}")
    missing = [stage for stage in STAGES if stage not in stages]
    if missing:
        wrong.append(f"progress lacks {_list(missing)}")
    if stages[-1:] != [LAST_STAGE]:
        wrong.append(f"progress ends with {_list(stages[-1:])}")
    return wrong


def _wrong_events(expected: Sequence[str], events: Sequence[str]) -> list[str]:
    missing = [f"no event {name}" for name in expected if name not in events]
    counts = {name: events.count(name) - expected.count(name) for name in dict.fromkeys(events)}
    return missing + [f"event {name}, {count} too often" for name, count in counts.items() if count > 0]


def _wrong_numbers(kind: Kind, record: Record) -> list[str]:
    wrong = []
    grown = record.after["cycle"] - record.before["cycle"]
    if grown != kind.powered_on:
        wrong.append(f"the number of power-ons grew by {grown} instead of {kind.powered_on}")
    if record.after["boot_id"] in ("", record.before["boot_id"]):
        wrong.append("the boot has no id of its own")
    return wrong


# What has to be shown when the host is up.
UP = {
    "acpi": S0,
    "device": S0,
    "chassis": "On",
    "host": "Running",
    "boot_progress": LAST_STAGE,
    "power_good": True,
    "contradicted": False,
    "overdue": False,
    "fault": "",
}


def _wrong_end(after: Mapping[str, Any], but: Mapping[str, frozenset[Any]] | None = None) -> list[str]:
    allowed = {name: frozenset({value}) for name, value in UP.items()} | dict(but or {})
    return [
        f"{name} is {after[name]!r} in the end"
        for name, values in allowed.items()
        if after[name] not in values
    ]


# --- Power cuts of the BMC while the host stays up ---

# Where the host is when the BMC's power goes -> how BootProgress may stand after the BMC's boot. What the
# firmware said while nobody heard it is not made up.
CUTS = {
    "os": frozenset({LAST_STAGE}),
    "post": frozenset({"SystemInitComplete", LAST_STAGE}),
}


def judge_cut(
    where: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    entries: Iterable[Mapping[str, Any]],
    host: Iterable[Mapping[str, Any]],
) -> list[str]:
    """What was wrong with a power cut of the BMC.

    `before` and `after` are the status before the cut and in the end, `entries` is what the event log got in
    between, `host` what the host has put on record (docs/board.md).
    """
    wrong = _wrong_end(after, {"boot_progress": CUTS[where]})
    if after["source"] not in (RESTORED, HOST, INFERRED):
        wrong.append(f"S0 said by {after['source']}")
    if after["cycle"] != before["cycle"]:
        wrong.append(f"the number of power-ons went from {before['cycle']} to {after['cycle']}")
    entries = list(entries)
    offsets = acpi_offsets(entries)
    if OFFSETS[S5] in offsets:
        wrong.append(f"SEL says that the host was off: {_list(offsets)}")
    if where == "os":
        if offsets:
            wrong.append(f"SEL tells of states that were not: {_list(offsets)}")
        if after["boot_id"] != before["boot_id"]:
            wrong.append("the boot has another id")
    wrong += _wrong_events((), other(entries))
    went = [event["state"] for event in host if event.get("event") == "state"]
    if set(went) - {"os"}:
        wrong.append(f"the host did not stay up: {_list(went)}")
    return wrong


def _list(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "nothing"
