# SPDX-License-Identifier: Apache-2.0
"""Cut the power at any moment: the next boot is clean, and what was written durably is there.

Each cycle leaves one line of JSON in power-cycles-*.jsonl among the artefacts. FLEET_SEED chooses other
instants, FLEET_NIGHTLY=1 runs hundreds of cycles.
"""

import io
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from fabric import Connection

from board_harness import boot, evidence, ssh
from board_harness.protocol import Board
from board_harness.shared import Boards

NIGHTLY = os.environ.get("FLEET_NIGHTLY") == "1"
SEED = int(os.environ.get("FLEET_SEED") or 1)

# Where in a board's life the power goes: the phase that has been reached, and the most seconds after it.
INSTANTS = {
    "SPL": 0.5,
    "U-Boot": 2.0,
    "FIT": 2.0,
    "kernel": 4.0,
    "systemd": 15.0,
    "running": 1.0,
    "writing": 5.0,
    "logging": 5.0,
}
# What a short run takes of them. Two boards share the work: one alone does not keep two processors busy.
SHARES = {
    "first": ("SPL", "systemd", "writing", "logging", "logging"),
    "second": ("kernel", "running", "logging", "logging", "logging"),
}
NIGHTLY_CYCLES = 100  # of each board


@dataclass(frozen=True)
class Writer:
    """Writes numbers durably on the board, one after the other, and says each when it is durable."""

    write: str  # shell; begins behind the number in $n
    read: str  # shell; every number that is there, in order; fails when one is there by halves


LOG = "xyz.openbmc_project.Logging /xyz/openbmc_project/logging io.metafleet.EventLog"
WRITERS = {
    # Write, make durable, give it its name, make that durable, say so.
    "writing": Writer(
        """
        cd /var/lib
        while n=$((n + 1)); do
            yes $n | head -n 2000 > numbers.new && sync && mv numbers.new numbers && sync && echo $n
        done
        """,
        """
        cd /var/lib
        if test -e numbers; then
            test "$(wc -l < numbers) $(uniq numbers | wc -l)" = "2000 1" && uniq numbers
        fi
        """,
    ),
    # An event is durable when the event log has answered.
    "logging": Writer(
        f"""
        while n=$((n + 1)); do
            busctl call {LOG} Append 'ssa{{ss}}ay' $n Debug 0 0 > /dev/null && echo $n
        done
        """,
        f"""
        first=0
        while entries=$(busctl --json=short call {LOG} Read uu $((first + 1)) 200 |
            grep -oE '[0-9]+,[0-9]+,"Debug","[0-9]+"' | tr -d '"'); test "$entries"
        do
            for entry in $entries; do echo ${{entry##*,}}; first=${{entry%%,*}}; done
        done
        """,
    ),
}


@dataclass(frozen=True)
class Cut:
    """When the power goes."""

    phase: str
    delay: float  # seconds after the phase was reached


def plan(share: str) -> list[Cut]:
    chance = random.Random(f"{SEED} {share}")
    phases = list(SHARES[share])
    if NIGHTLY:
        phases = [phase for _ in range(NIGHTLY_CYCLES) for phase in INSTANTS][:NIGHTLY_CYCLES]
        chance.shuffle(phases)
    return [Cut(phase, round(chance.uniform(0, INSTANTS[phase]), 3)) for phase in phases]


class Cycles:
    """One board and what happened to it."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.connection: Connection | None = None  # while it is up
        self.durable = dict.fromkeys(WRITERS, 0)  # the last number that must be there

    def run(self, cut: Cut) -> dict[str, object]:
        """Bring the board to the instant, cut its power, boot it; what is to be put on record."""
        self._reach(cut)
        at = time.time() - self.board.powered_on_at
        said = self.board.console_text()[-200:]
        self.board.power_off()
        self.connection = None
        record: dict[str, object] = {
            "cut": {**asdict(cut), "at": round(at, 2), "last_words": said},
            "durable": {**self.durable},
        }
        try:
            record |= self._boot(cut)
        except AssertionError as error:
            record |= {"verdict": str(error)}
        return record

    def boot(self) -> boot.Boot:
        """Power on and follow the boot to its end."""
        self.board.power_on()
        result, self.connection = boot.follow(self.board)
        return result

    def _boot(self, cut: Cut) -> dict[str, object]:
        result = self.boot()
        assert self.connection
        found = {name: read_numbers(self.connection, writer) for name, writer in WRITERS.items()}
        wrong = [] if result.clean else ["not clean"]
        for name, last in self.durable.items():
            # the writer may have got further than what was heard of it before the power went
            if found[name] < last or (found[name] > last and name != cut.phase):
                wrong.append(f"{name}: {last} was durable, {found[name]} is there")
        self.durable = found
        return {"boot": result.to_json(), "found": found, "verdict": ", ".join(wrong) or "pass"}

    def _reach(self, cut: Cut) -> None:
        """Wait for the instant, writing meanwhile when that is asked for."""
        if cut.phase != "running" and cut.phase not in WRITERS:
            self.board.power_off()
            self.board.power_on()
            boot.Watch(self.board).wait_for(cut.phase)
        elif self.connection is None:
            self.boot()
        if cut.phase in WRITERS:
            assert self.connection
            last = self.durable[cut.phase]
            self.durable[cut.phase] = write_for(self.connection, WRITERS[cut.phase], last, cut.delay)
        else:
            time.sleep(cut.delay)  # this is the test's stimulus, not a wait for something


def write_for(connection: Connection, writer: Writer, last: int, delay: float) -> int:
    """Write numbers after `last` for `delay` seconds from when the first is durable; the last that is.

    It goes on writing.
    """
    said = io.StringIO()
    command = f"n={last}\n{writer.write}"
    connection.run(command, asynchronous=True, in_stream=False, hide=True, out_stream=said, warn=True)
    boot.until(lambda: "\n" in said.getvalue(), "the first number is durable", ssh.SECONDS)
    time.sleep(delay)
    return int(said.getvalue().rpartition("\n")[0].rpartition("\n")[2])


def read_numbers(connection: Connection, writer: Writer) -> int:
    """The last number that is there, 0 for none; those before it may have gone, but none may be missing."""
    numbers = [int(line) for line in ssh.run(connection, writer.read).split()]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)) if numbers else True, (
        f"not in order: {numbers}"
    )
    return numbers[-1] if numbers else 0


def run_cycles(board: Board, share: str, artefacts: Path) -> list[str]:
    """Go through one board's plan; what failed."""
    cycles = Cycles(board)
    failed = []
    with (artefacts / f"power-cycles-{share}.jsonl").open("w") as log:
        for number, cut in enumerate(plan(share)):
            record = {"board": board.name, "seed": SEED, "cycle": number, **cycles.run(cut)}
            log.write(json.dumps(record) + "\n")
            log.flush()
            if record["verdict"] != "pass":
                failed.append(f"{share} board, cycle {number}, {cut}: {record['verdict']}")
                evidence.save(board, artefacts / f"power-cut-{share}-{number}")
    return failed


def test_power_cuts(boards: Boards, artefacts: Path) -> None:
    mine = {share: boards.start() for share in SHARES}
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run_cycles, board, share, artefacts) for share, board in mine.items()]
    failed = [line for run in runs for line in run.result()]
    for board in mine.values():
        boards.end(board)
    assert not failed, "\n".join(failed)
