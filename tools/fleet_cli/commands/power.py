# SPDX-License-Identifier: Apache-2.0
"""Switch the host on and off through the BMC, and see its ACPI state.

on       power on, until the operating system works (S0)
off      power off at once
soft     let the operating system shut down
cycle    power off and on again
reset    restart the host without loss of power
status   what the BMC knows of the host

Each prints what the BMC's D-Bus shows until the host is where it should be.
"""

import argparse
import time
from typing import Any

from fleet_cli import options, paths, timeline
from fleet_cli.bmc import Bmc
from fleet_cli.output import Output
from fleet_qemu import Board


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=[*timeline.REQUESTS, "status"],
        default="status",
        help="what to do (default: status)",
    )
    parser.add_argument("--no-wait", action="store_true", help="ask and do not wait for what follows")
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="give up waiting after so long (default: 300)",
    )
    options.board(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Do it, and say where the host is."""
    bmc = Bmc(Board.attach(args.board, root=paths.boards()))
    if args.action == "status":
        found = timeline.status(bmc)
        for line in describe(found):
            out.say(line)
        out.result(found)
        return 0
    seen = timeline.carry_out(bmc, args.action, args.timeout, out.say, wait=not args.no_wait)
    out.result({"requested": args.action, "timeline": [line._asdict() for line in seen]})
    return 0


def describe(found: dict[str, Any]) -> list[str]:
    """The status in lines for people."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(found["since"]))
    remarks = [name for name in ("contradicted", "overdue") if found[name]]
    lines = [
        f"ACPI state     {found['acpi']}" + "".join(f", {remark}" for remark in remarks),
        f"               said by {found['source'].lower()}, since {since} UTC; before: {found['previous']}",
        f"chassis        {found['chassis']}",
        f"host           {found['host']}",
        f"boot progress  {found['boot_progress']}",
        f"boot           {found['boot_id'] or 'none yet'}, power-on {found['cycle']}",
    ]
    return lines + ([f"fault          {found['fault']}"] if found["fault"] else [])
