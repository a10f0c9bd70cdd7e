# SPDX-License-Identifier: Apache-2.0
"""The judge of power cycles: a good record of each kind passes, and each thing that is wrong is seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from board_harness import cycles
from board_harness.cycles import (
    KINDS,
    POWER_LOST,
    POWER_ON,
    S0,
    S2,
    S5,
    UP,
    Kind,
    Record,
    Seen,
    judge,
    judge_cut,
)
from fleet_cli.bmc import ACPI, ACPI_DETAILS, PROGRESS, Change
from fleet_cli.timeline import REQUESTS
from fleet_qemu.host import ACTIONS

STAGES = ("Unspecified", *cycles.STAGES)
BEFORE = {**UP, "source": "Host", "boot_id": "11", "cycle": 7}


def status(base: Mapping[str, Any] = BEFORE, **values: Any) -> dict[str, Any]:
    return {**base, **values}


def good(kind: Kind) -> Record:
    """What a cycle of this kind leaves behind when all is well."""
    states = [
        Seen(one.state, 100.0 + i, (sorted(one.first)[0], *([one.finally_] if one.finally_ else [])))
        for i, one in enumerate(kind.states)
    ]
    after = status(boot_id="22", cycle=7 + kind.powered_on)
    return Record(tuple(states), kind.sel, STAGES, kind.events, BEFORE, after)


RESET, CYCLE, LOST = good(KINDS["reset"]), good(KINDS["cycle"]), good(KINDS["lost"])
S5_SEEN, S2_SEEN, S0_SEEN = CYCLE.states


@pytest.mark.parametrize("kind", [*KINDS.values(), POWER_ON], ids=lambda kind: kind.name)
def test_a_good_cycle_passes(kind: Kind) -> None:
    assert judge(kind, good(kind)) == []


@pytest.mark.parametrize("kind", [*KINDS.values(), POWER_ON], ids=lambda kind: kind.name)
def test_a_kind_does_what_can_be_done_and_ends_in_s0(kind: Kind) -> None:
    assert {step.do for step in kind.steps} <= {*REQUESTS, *ACTIONS}
    assert kind.steps[-1].until == kind.states[-1].state == S0


def test_the_first_power_on_finds_no_progress() -> None:
    record = replace(good(POWER_ON), before=status(boot_progress="Unspecified"), progress=STAGES[1:])
    assert judge(POWER_ON, record) == []


def test_stages_that_may_be_seen() -> None:
    progress = (*STAGES[:5], "SystemInitComplete", *STAGES[5:])
    assert judge(KINDS["cycle"], replace(CYCLE, progress=progress)) == []


def end(record: Record, **values: Any) -> Record:
    return replace(record, after=status(record.after, **values))


# What is wrong, the kind, the record, and a reason that the judge must give.
WRONG: Sequence[tuple[str, str, Record, str]] = (
    ("S2 is missing", "cycle", replace(CYCLE, states=(S5_SEEN, S0_SEEN)), "states: S5_G2, S0_G0_D0 instead"),
    ("S5 is missing", "cycle", replace(CYCLE, states=(S2_SEEN, S0_SEEN)), "states: S2_D2, S0_G0_D0 instead"),
    (
        "S0 before S2",
        "cycle",
        replace(CYCLE, states=(S5_SEEN, S0_SEEN, S2_SEEN)),
        "states: S5_G2, S0_G0_D0, S2",
    ),
    ("S5 twice", "cycle", replace(CYCLE, states=(S5_SEEN, *CYCLE.states)), "states: S5_G2, S5_G2"),
    ("S5 in a reset", "reset", replace(RESET, states=(S5_SEEN, *RESET.states)), "states: S5_G2, S2_D2"),
    ("no state", "cycle", replace(CYCLE, states=()), "states: nothing instead"),
    (
        "times go backwards",
        "cycle",
        replace(CYCLE, states=(replace(S5_SEEN, time=200.0), S2_SEEN, S0_SEEN)),
        "times of the states go backwards",
    ),
    (
        "S0 was inferred",
        "cycle",
        replace(CYCLE, states=(S5_SEEN, S2_SEEN, replace(S0_SEEN, sources=("Inferred",)))),
        "S0_G0_D0 said by Inferred, not by Host",
    ),
    (
        "the host never said S2",
        "cycle",
        replace(CYCLE, states=(S5_SEEN, replace(S2_SEEN, sources=("Inferred",)), S0_SEEN)),
        "S2_D2 was never said by Host",
    ),
    (
        "the host was believed about a loss of power",
        "lost",
        replace(LOST, states=(replace(S5_SEEN, sources=("Host",)), *LOST.states[1:])),
        "S5_G2 said by Host, not by Rails",
    ),
    ("no SEL record", "cycle", replace(CYCLE, sel=()), "SEL: nothing instead of 5, 2, 0"),
    ("a SEL record is missing", "cycle", replace(CYCLE, sel=(5, 0)), "SEL: 5, 0 instead of 5, 2, 0"),
    ("a false SEL record", "reset", replace(RESET, sel=(5, 2, 0)), "SEL: 5, 2, 0 instead of 2, 0"),
    (
        "SEL in another order",
        "cycle",
        replace(CYCLE, sel=(5, 0, 2)),
        "SEL has 5, 0, 2, D-Bus has shown 5, 2, 0",
    ),
    (
        "states and SEL wrong alike",
        "cycle",
        replace(CYCLE, sel=(5, 0), states=(S5_SEEN, S0_SEEN)),
        "SEL: 5, 0 instead of 5, 2, 0",
    ),
    ("progress does not begin", "cycle", replace(CYCLE, progress=STAGES[1:]), "does not begin anew"),
    ("no progress", "cycle", replace(CYCLE, progress=()), "progress ends with nothing"),
    ("progress ends short", "cycle", replace(CYCLE, progress=STAGES[:-1]), "progress ends with OSStart"),
    (
        "a stage is missing",
        "cycle",
        replace(CYCLE, progress=tuple(stage for stage in STAGES if stage != "MemoryInit")),
        "progress lacks MemoryInit",
    ),
    (
        "progress goes backwards",
        "cycle",
        replace(CYCLE, progress=(*STAGES[:3], "PrimaryProcInit", *STAGES[3:])),
        "progress goes backwards",
    ),
    (
        "a stage twice",
        "cycle",
        replace(CYCLE, progress=(*STAGES[:3], *STAGES[2:])),
        "progress goes backwards",
    ),
    ("two boots", "cycle", replace(CYCLE, progress=(*STAGES[:3], *STAGES)), "begins anew more than once"),
    (
        "an invented stage",
        "cycle",
        replace(CYCLE, progress=(*STAGES, "Coffee")),
        "progress: Coffee cannot be",
    ),
    ("no PowerLost", "lost", replace(LOST, events=()), f"no event {POWER_LOST}"),
    ("PowerLost twice", "lost", replace(LOST, events=(POWER_LOST,) * 2), f"event {POWER_LOST}, 1 too often"),
    ("a false PowerLost", "cycle", replace(CYCLE, events=(POWER_LOST,)), f"event {POWER_LOST}, 1 too often"),
    ("power-ons not counted", "cycle", end(CYCLE, cycle=7), "power-ons grew by 0 instead of 1"),
    ("power-ons counted twice", "cycle", end(CYCLE, cycle=9), "power-ons grew by 2 instead of 1"),
    ("a reset counted", "reset", end(RESET, cycle=8), "power-ons grew by 1 instead of 0"),
    ("boot id unchanged", "cycle", end(CYCLE, boot_id="11"), "the boot has no id of its own"),
    ("boot id unchanged in a reset", "reset", end(RESET, boot_id="11"), "the boot has no id of its own"),
    ("no boot id", "cycle", end(CYCLE, boot_id=""), "the boot has no id of its own"),
    ("chassis off in the end", "cycle", end(CYCLE, chassis="Off"), "chassis is 'Off' in the end"),
    ("host not running", "cycle", end(CYCLE, host="TransitioningToRunning"), "host is 'Trans"),
    ("another state in the end", "cycle", end(CYCLE, acpi=S2), "acpi is 'S2_D2' in the end"),
    ("another device state", "cycle", end(CYCLE, device="S3_D3"), "device is 'S3_D3' in the end"),
    ("progress lost in the end", "cycle", end(CYCLE, boot_progress="OSStart"), "boot_progress is 'OSStart'"),
    ("contradicted", "cycle", end(CYCLE, contradicted=True), "contradicted is True in the end"),
    ("overdue", "cycle", end(CYCLE, overdue=True), "overdue is True in the end"),
    ("a fault", "cycle", end(CYCLE, fault="PS_PWROK did not come"), "fault is 'PS_PWROK did not come'"),
)


@pytest.mark.parametrize(
    ("kind", "record", "reason"), [case[1:] for case in WRONG], ids=[one[0] for one in WRONG]
)
def test_what_is_wrong_is_seen(kind: str, record: Record, reason: str) -> None:
    wrong = judge(KINDS[kind], record)
    assert any(reason in one for one in wrong), wrong


def test_one_thing_that_is_wrong_is_one_reason() -> None:
    for name, kind, record, _ in WRONG:
        if name in ("power-ons not counted", "no PowerLost", "a fault", "S0 was inferred"):
            assert len(judge(KINDS[kind], record)) == 1, name


# --- From the bus and the log to a record ---


def acpi(time: float, state: str) -> Change:
    return Change(time, ACPI.interface, {"SysACPIStatus": f"{ACPI.interface}.ACPI.{state}"})


def details(**values: Any) -> Change:
    return Change(0, ACPI_DETAILS.interface, values)


def test_who_said_a_state() -> None:
    changes = [
        details(Source="Rails", Since=1),
        acpi(1, S5),
        details(Source="Inferred", Since=2, BootId="22", Cycle=8),
        acpi(2, S2),
        details(Source="Host"),  # it says so, too
        details(Since=3),  # by the host again
        acpi(3, S0),
        Change(3, ACPI.interface, {"DevACPIStatus": "x"}),
    ]
    assert cycles.states_of(changes, "Host") == [
        Seen(S5, 1, ("Rails",)),
        Seen(S2, 2, ("Inferred", "Host")),
        Seen(S0, 3, ("Host",)),
    ]


def test_a_state_whose_source_stays() -> None:
    assert cycles.states_of([details(Since=1), acpi(1, S5)], "Host") == [Seen(S5, 1, ("Host",))]


def entry(message: str, sel: str = "") -> dict[str, Any]:
    return {"message": message, "sel": sel}


def acpi_entry(offset: int) -> dict[str, Any]:
    record = bytes((0, 0, 2, 0, 0, 0, 0, 0x20, 0, 4, 0x22, 0x50, 0x6F, offset, 0xFF, 0xFF))
    return entry("io.metafleet.AcpiState.Changed", record.hex())


FIRMWARE = entry(
    "xyz.openbmc_project.Logging.SEL.Error.Created",
    bytes((1, 0, 2, 0, 0, 0, 0, 1, 0, 4, 0x0F, 0x51, 0x6F, 0xC2, 0x19, 0xFF)).hex(),
)


def test_a_record_from_bus_and_log() -> None:
    stage = Change(2, PROGRESS.interface, {"BootProgress": "x.ProgressStages.MemoryInit"})
    entries = [acpi_entry(5), FIRMWARE, entry(POWER_LOST), acpi_entry(2)]
    record = Record.of([acpi(1, S5), stage], entries, BEFORE, BEFORE)
    assert record.sel == (5, 2)
    assert record.progress == ("MemoryInit",)
    assert record.events == (POWER_LOST,)
    assert record.states == (Seen(S5, 1, ("Host",)),)
    assert record.to_json()["states"] == ({"state": S5, "time": 1, "sources": ("Host",)},)


# --- Power cuts of the BMC ---

RESTORED = status(source="Restored")
INFERRED = status(source="Inferred", boot_id="22", boot_progress="SystemInitComplete")
STAYED_UP = [{"event": "state", "state": "os"}, {"event": "phase", "phase": "login"}]


def test_good_cuts_pass() -> None:
    assert judge_cut("os", BEFORE, RESTORED, [], []) == []
    assert judge_cut("post", BEFORE, INFERRED, [acpi_entry(2), acpi_entry(0), FIRMWARE], STAYED_UP) == []


Cut = Callable[[], list[str]]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda: judge_cut("os", BEFORE, RESTORED, [acpi_entry(5)], []), "SEL says that the host was off: 5"),
        (
            lambda: judge_cut("os", BEFORE, RESTORED, [acpi_entry(0)], []),
            "SEL tells of states that were not: 0",
        ),
        (lambda: judge_cut("post", BEFORE, INFERRED, [acpi_entry(5)], []), "SEL says that the host was off"),
        (lambda: judge_cut("os", BEFORE, status(RESTORED, cycle=8), [], []), "power-ons went from 7 to 8"),
        (lambda: judge_cut("os", BEFORE, status(RESTORED, boot_id="2"), [], []), "the boot has another id"),
        (lambda: judge_cut("os", BEFORE, status(RESTORED, source="Rails"), [], []), "S0 said by Rails"),
        (lambda: judge_cut("os", BEFORE, status(RESTORED, acpi=S5), [], []), "acpi is 'S5_G2' in the end"),
        (lambda: judge_cut("os", BEFORE, status(RESTORED, chassis="Off"), [], []), "chassis is 'Off'"),
        (lambda: judge_cut("os", BEFORE, status(RESTORED, host="Off"), [], []), "host is 'Off'"),
        (lambda: judge_cut("os", BEFORE, INFERRED, [], []), "boot_progress is 'SystemInitComplete'"),
        (
            lambda: judge_cut("post", BEFORE, status(INFERRED, boot_progress="Unspecified"), [], []),
            "boot_progress is 'Unspecified'",
        ),
        (lambda: judge_cut("os", BEFORE, RESTORED, [entry(POWER_LOST)], []), f"event {POWER_LOST}"),
        (
            lambda: judge_cut("os", BEFORE, RESTORED, [], [{"event": "state", "state": "off"}]),
            "the host did not stay up: off",
        ),
    ],
)
def test_a_wrong_cut_is_seen(wrong: Cut, reason: str) -> None:
    assert any(reason in one for one in wrong()), wrong()
