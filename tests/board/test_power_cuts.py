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
}
# What a short run takes of them. Two boards share the work: one alone does not keep two processors busy.
SHARES = {
    "first": ("SPL", "systemd", "writing"),
    "second": ("kernel", "running"),
}
NIGHTLY_CYCLES = 100  # of each board

# Write, make durable, give it its name, make that durable, say so.
WRITER = """
cd /var/lib
n=0
while n=$((n + 1)); do
    yes $n | head -n 2000 > numbers.new && sync && mv numbers.new numbers && sync && echo $n
done
"""


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

    def run(self, cut: Cut) -> dict[str, object]:
        """Bring the board to the instant, cut its power, boot it; what is to be put on record."""
        written = self._reach(cut)
        at = time.time() - self.board.powered_on_at
        said = self.board.console_text()[-200:]
        self.board.power_off()
        self.connection = None
        record = {"cut": {**asdict(cut), "at": round(at, 2), "last_words": said}, "written": written}
        try:
            record |= self._boot(written)
        except AssertionError as error:
            record |= {"verdict": str(error)}
        return record

    def boot(self) -> boot.Boot:
        """Power on and follow the boot to its end."""
        self.board.power_on()
        result, self.connection = boot.follow(self.board)
        return result

    def _boot(self, written: int) -> dict[str, object]:
        result = self.boot()
        assert self.connection
        found = read_numbers(self.connection)
        if not result.clean:
            verdict = "not clean"
        elif found < written:
            verdict = f"lost {written - found} of {written} durable writes"
        else:
            verdict = "pass"
        return {"boot": result.to_json(), "found": found, "verdict": verdict}

    def _reach(self, cut: Cut) -> int:
        """Wait for the instant; the last number that the writer called durable."""
        if cut.phase not in ("running", "writing"):
            self.board.power_off()
            self.board.power_on()
            boot.Watch(self.board).wait_for(cut.phase)
        elif self.connection is None:
            self.boot()
        if cut.phase == "writing":
            assert self.connection
            return write_for(self.connection, cut.delay)
        time.sleep(cut.delay)  # this is the test's stimulus, not a wait for something
        return 0


def write_for(connection: Connection, delay: float) -> int:
    """Write numbers for `delay` seconds after the first is durable; the last that is. It goes on writing."""
    said = io.StringIO()
    connection.run(WRITER, asynchronous=True, in_stream=False, hide=True, out_stream=said, warn=True)
    boot.until(lambda: "\n" in said.getvalue(), "the first number is durable", ssh.SECONDS)
    time.sleep(delay)
    return int(said.getvalue().rpartition("\n")[0].rpartition("\n")[2])


def read_numbers(connection: Connection) -> int:
    """The number that fills the writer's file, 0 when there is none."""
    lines = set(ssh.run(connection, "uniq /var/lib/numbers 2>/dev/null || true").split())
    assert len(lines) <= 1, f"a durable file is torn: {sorted(lines)}"
    return int(lines.pop()) if lines else 0


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
