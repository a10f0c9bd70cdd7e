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
from collections.abc import Callable, Iterator
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

NIGHTLY = os.environ.get("FLEET_NIGHTLY") == "1"
SEED = int(os.environ.get("FLEET_SEED") or 1)
# Of each kind; on each board.
CYCLES, BMC_CUTS = (40, 15) if NIGHTLY else (3, 1)
# Two boards share the work: one alone does not keep two processors busy. With each, where a cut of the BMC's
# power finds the host, and the most seconds after it got there; POST takes 4.
SHARES = {"first": ("os", 1.0), "second": ("post", 3.5)}
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


def plan_cycles() -> Plan:
    """Cycles of all kinds, a third of them asked for by the host's own software where that can be."""
    cycles: Plan = []
    for kind in KINDS.values():
        in_band = kind.steps[0].do in IN_BAND
        cycles += [Cycle(kind.name, IPMITOOL if in_band and i % 3 == 0 else DBUS) for i in range(CYCLES)]
    random.Random(SEED).shuffle(cycles)
    return cycles


def plan_cuts(share: str) -> Plan:
    """One board's cuts, a cycle after each."""
    chance = random.Random(f"{SEED} {share}")
    where, seconds = SHARES[share]
    cuts = [BmcCut(where, round(chance.uniform(0, seconds), 3)) for _ in range(BMC_CUTS)]
    return [one for cut in cuts for one in (cut, Cycle(chance.choice(list(KINDS)), DBUS))]


class Share:
    """One board, and what it goes through."""

    def __init__(self, name: str, board: Board, artefacts: Path) -> None:
        self.name = name
        self.board = board
        self.failed: list[str] = []
        self._artefacts = artefacts
        self._log = artefacts / f"host-cycles-{name}.jsonl"
        self._number = 0
        self._host: Host | None = None

    def start(self) -> None:
        """Boot, and power the host on for the first time."""
        self._host = power.start(self.board)
        self._keep("first power-on", power.timed(self._host, POWER_ON, DBUS))

    def run(self, plan: Plan) -> None:
        """Go through a plan to its end, whatever fails."""
        for one in plan:
            assert self._host
            self._host, line = one.run(self._host)
            if not self._keep(one, line):
                self._host = recover(self._host)

    def close(self) -> None:
        if self._host:
            self._host.close()

    def _keep(self, what: object, line: dict[str, Any]) -> bool:
        record = {"board": self.board.name, "seed": SEED, "number": self._number, **line}
        with self._log.open("a") as log:
            log.write(json.dumps(record) + "\n")
        passed = bool(line["verdict"] == "pass")
        if not passed:
            self.failed.append(f"{self.name} board, {self._number}, {what}: {line['verdict']}")
            evidence.save(self.board, self._artefacts / f"host-cycle-{self.name}-{self._number}")
        self._number += 1
        return passed


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


def in_parallel(shares: list[Share], work: Callable[[Share], None]) -> None:
    """Do it with all boards at once; AssertionError with all that failed, once all are done."""
    for share in shares:
        share.failed.clear()
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(work, share) for share in shares]
    for run in runs:
        run.result()
    failed = [line for share in shares for line in share.failed]
    assert not failed, "\n".join(failed)


@pytest.fixture(scope="module")
def shares(boards: Boards, artefacts: Path) -> Iterator[list[Share]]:
    shares = [Share(name, boards.start(), artefacts) for name in SHARES]
    try:
        in_parallel(shares, Share.start)
        yield shares
    finally:
        for share in shares:
            share.close()
            boards.end(share.board)


def test_power_cycles(shares: list[Share]) -> None:
    cycles = plan_cycles()
    plans = {share.name: cycles[number :: len(shares)] for number, share in enumerate(shares)}
    in_parallel(shares, lambda share: share.run(plans[share.name]))


def test_power_cuts_of_the_bmc(shares: list[Share]) -> None:
    in_parallel(shares, lambda share: share.run(plan_cuts(share.name)))
