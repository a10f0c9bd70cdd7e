# SPDX-License-Identifier: Apache-2.0
"""Power-cycle the host through the BMC; judge each cycle by ACPI states, SEL records and boot progress.

Then cut the BMC's power while the host is up: it finds the host as it is. Each cycle and each cut leaves one
line of JSON in host-cycles-*.jsonl among the artefacts. FLEET_SEED chooses other orders and instants,
FLEET_NIGHTLY=1 runs hundreds of cycles.
"""

import contextlib
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from board_harness import boot, evidence, power
from board_harness.bus import SECONDS
from board_harness.cycles import KINDS, POWER_ON, acpi_offsets, judge_cut
from board_harness.power import DBUS, IN_BAND, IPMITOOL, LOGIN, Host
from board_harness.protocol import Board
from board_harness.shared import Boards

pytestmark = pytest.mark.xdist_group("power-cycles")

NIGHTLY = os.environ.get("FLEET_NIGHTLY") == "1"
SEED = int(os.environ.get("FLEET_SEED") or 1)
# Of each kind; of each of the places in which a cut may find the host.
CYCLES, BMC_CUTS = (40, 15) if NIGHTLY else (3, 1)
# Two boards share the work: one alone does not keep two processors busy.
SHARES = ("first", "second")
POST_SECONDS = 3.5  # of the 4 s that POST takes
SETTLED_SECONDS = 60.0  # from the end of the BMC's boot


@dataclass(frozen=True)
class Cycle:
    """A power cycle of the host."""

    kind: str
    by: str

    def run(self, host: Host) -> tuple[Host, dict[str, Any]]:
        return host, power.timed(host, KINDS[self.kind], self.by)


@dataclass(frozen=True)
class BmcCut:
    """A power cut of the BMC, so many seconds after the host has got there."""

    where: str
    delay: float

    def run(self, host: Host) -> tuple[Host, dict[str, Any]]:
        """Cut, boot the BMC; the host as the new boot shows it."""
        started = time.monotonic()
        line: dict[str, Any] = {"kind": "bmc-cut", "where": self.where, "delay": self.delay}
        try:
            host, details = self._cut(host)
        except Exception as error:
            details = {"verdict": f"{type(error).__name__}: {error}"}
        return host, {**line, "seconds": round(time.monotonic() - started, 2), **details}

    def _cut(self, host: Host) -> tuple[Host, dict[str, Any]]:
        board = host.board
        before, last_entry = host.status(), host.last_entry()
        if self.where == "post":
            host.ask("reset")
            board.host_wait("post", SECONDS)
        time.sleep(self.delay)  # this is the test's stimulus, not a wait for something
        board.cut_bmc()
        done = len(board.host_events())
        host.close()
        host.connection.close()
        board.power_on()
        host = power.start(board)
        board.host_wait("os", SECONDS, LOGIN)
        found: dict[str, Any] = {}

        def judged() -> bool:
            after, entries = host.status(), host.entries(last_entry)
            wrong = judge_cut(self.where, before, after, entries, board.host_events()[done:])
            found.update(
                before=before, after=after, sel=acpi_offsets(entries), verdict="; ".join(wrong) or "pass"
            )
            return not wrong

        with contextlib.suppress(AssertionError):  # the verdict says what it is about
            boot.until(judged, "", SETTLED_SECONDS)
        return host, found


Plan = list[Cycle | BmcCut]


def plan() -> dict[str, Plan]:
    """What each board goes through."""
    chance = random.Random(SEED)
    cycles: list[Plan] = []
    for kind in KINDS.values():
        in_band = kind.steps[0].do in IN_BAND
        cycles += [[Cycle(kind.name, IPMITOOL if in_band and i % 3 == 0 else DBUS)] for i in range(CYCLES)]
    chance.shuffle(cycles)
    cuts: list[Plan] = []
    for _ in range(BMC_CUTS):
        for where, seconds in {"os": 1.0, "post": POST_SECONDS}.items():
            cut = BmcCut(where, round(chance.uniform(0, seconds), 3))
            cuts.append([cut, Cycle(chance.choice(list(KINDS)), DBUS)])
    if NIGHTLY:
        chance.shuffle(cuts)
    plans = {}
    for number, share in enumerate(SHARES):
        mine = cycles[number :: len(SHARES)] + cuts[number :: len(SHARES)]
        if NIGHTLY:
            chance.shuffle(mine)
        plans[share] = [one for group in mine for one in group]
    return plans


def recover(host: Host) -> Host:
    """After a failure: the host in S0 again, by whatever it takes."""
    try:
        host.up()
    except Exception:
        host.close()
        host.board.power_off()
        host.board.power_on()
        host = power.start(host.board)
        host.up()
    return host


def run_all(board: Board, share: str, plan: Plan, artefacts: Path) -> list[str]:
    """Go through one board's plan; what failed."""
    failed = []
    with (artefacts / f"host-cycles-{share}.jsonl").open("w") as log:

        def keep(number: int, what: object, line: dict[str, Any]) -> bool:
            log.write(json.dumps({"board": board.name, "seed": SEED, "number": number, **line}) + "\n")
            log.flush()
            passed = bool(line["verdict"] == "pass")
            if not passed:
                failed.append(f"{share} board, {number}, {what}: {line['verdict']}")
                evidence.save(board, artefacts / f"host-cycle-{share}-{number}")
            return passed

        host = power.start(board)
        try:
            keep(0, "first power-on", power.timed(host, POWER_ON, DBUS))
            for number, one in enumerate(plan, 1):
                host, line = one.run(host)
                if not keep(number, one, line):
                    host = recover(host)
        finally:
            host.close()
    return failed


def test_power_cycles(boards: Boards, artefacts: Path) -> None:
    plans = plan()
    mine = {share: boards.start() for share in SHARES}
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run_all, board, share, plans[share], artefacts) for share, board in mine.items()]
    failed = [line for run in runs for line in run.result()]
    for board in mine.values():
        boards.end(board)
    assert not failed, "\n".join(failed)
