# SPDX-License-Identifier: Apache-2.0
"""Run the test suite, area by area, each with its budget of minutes.

The last line of the output is the sum: N passed, N failed, N skipped. The areas are in tests/areas.toml.
Nothing is left running.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from fleet_cli import areas, child, leftovers, options, paths
from fleet_cli.areas import Area, Counts
from fleet_cli.output import Output

AREAS_FILE = paths.ROOT / "tests" / "areas.toml"
_GRACE_SECONDS = 10.0  # BitBake's server ends a moment after the build


@dataclass(frozen=True)
class Outcome:
    """What an area gave."""

    area: Area
    counts: Counts
    minutes: float
    left: list[str]

    @property
    def over(self) -> bool:
        """Whether it took longer than its budget."""
        return self.minutes > self.area.minutes

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        times = {"minutes": round(self.minutes, 2), "budget": self.area.minutes}
        return {"name": self.area.name, **times, **asdict(self.counts), "left_running": self.left}

    def __str__(self) -> str:
        line = f"{self.area.name:10} {self.minutes:5.1f} of {self.area.minutes:g} min  {self.counts}"
        return f"{line}  OVER BUDGET" if self.over else line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    options.yes(parser)
    add("--area", action="append", default=[], metavar="NAME", help="only this area; repeatable")
    add("--nightly", action="store_true", help="also what takes hours")
    add("--enforce-budget", action="store_true", help="a budget overrun is a failure")
    add("--list", action="store_true", help="list the areas and end")


def run(args: argparse.Namespace, out: Output) -> int:
    """Run the areas one after the other; 1 when anything failed."""
    chosen = areas.select(areas.load(AREAS_FILE), paths.ROOT, names=args.area, nightly=args.nightly)
    if args.list:
        for area in chosen:
            out.say(f"{area.name:10} {area.minutes:g} min  {' '.join(area.command)}")
        out.result([asdict(area) for area in chosen])
        return 0
    leftovers.adopt()
    outcomes = [_run(area, args.nightly, out) for area in chosen]
    total = sum((outcome.counts for outcome in outcomes), Counts())
    minutes, budget = sum(o.minutes for o in outcomes), sum(o.area.minutes for o in outcomes)
    overrun = [o for o in outcomes if o.over]
    out.say()
    for outcome in outcomes:
        out.say(str(outcome))
    out.say(f"{'all':10} {minutes:5.1f} of {budget:g} min")
    for o in overrun:
        out.say(f"WARNING: {o.area.name} took {o.minutes:.1f} min, its budget is {o.area.minutes:g} min")
    failed = total.failed > 0 or not outcomes or (args.enforce_budget and bool(overrun))
    out.say(str(total))
    out.result(
        {
            "areas": [o.to_json() for o in outcomes],
            **asdict(total),
            "over_budget": [o.area.name for o in overrun],
            "ok": not failed,
        }
    )
    return 1 if failed else 0


def _run(area: Area, nightly: bool, out: Output) -> Outcome:
    out.say(f"=== {area.name} (budget {area.minutes:g} min)")
    junit = paths.BUILD / "test" / f"{area.name}.xml"
    junit.parent.mkdir(parents=True, exist_ok=True)
    junit.unlink(missing_ok=True)
    started = time.monotonic()
    try:
        code = child.run(
            area.argv(sys.executable, junit),
            cwd=paths.ROOT,
            env={"FLEET_NIGHTLY": "1" if nightly else "", "FLEET_AREA": area.name},
            stdout=out.stream,
        )
    finally:
        left = leftovers.end(_GRACE_SECONDS)
        for process in left:
            out.say(f"ERROR: {area.name} left a process running (ended now): {process}")
    counts = areas.count_junit(junit, code) if area.gives_junit else areas.count_command(code)
    if left:
        counts += Counts(failed=1)
    return Outcome(area, counts, (time.monotonic() - started) / 60, left)
