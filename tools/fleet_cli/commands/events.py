# SPDX-License-Identifier: Apache-2.0
"""Show the BMC's event log: SEL records and events, oldest first."""

import argparse
import json
import time
from typing import Any

from fleet_cli import options, paths
from fleet_cli.bmc import EVENT_LOG, Bmc
from fleet_cli.output import Output
from fleet_qemu import Board

_BATCH = 256  # as many as the log gives in one answer
_COLLECTION = "xyz.openbmc_project.Collection.DeleteAll"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-n", "--newest", type=int, metavar="N", help="only the newest N (default: all)")
    parser.add_argument("--clear", action="store_true", help="take all events out of the log")
    options.board(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Print or clear."""
    bmc = Bmc(Board.attach(args.board, root=paths.boards()))
    if args.clear:
        bmc.run(["call", EVENT_LOG.service, EVENT_LOG.path, _COLLECTION, "DeleteAll"])
        out.say("the event log is empty")
        out.result([])
        return 0
    events = read(bmc)
    if args.newest is not None:
        events = events[-args.newest :] if args.newest > 0 else []
    for event in events:
        out.say(describe(event))
    if not events:
        out.say("the event log is empty")
    out.result(events)
    return 0


def read(bmc: Bmc, after: int = 0) -> list[dict[str, Any]]:
    """All entries of the log behind the one with id `after`."""
    events: list[dict[str, Any]] = []
    while True:
        first = (events[-1]["id"] if events else after) + 1
        (line,) = bmc.run(["call", *EVENT_LOG, "Read", "uu", str(first), str(_BATCH)])
        (entries,) = json.loads(line)["data"]
        events += [_event(entry) for entry in entries]
        if len(entries) < _BATCH:
            return events


def _event(entry: list[Any]) -> dict[str, Any]:
    number, stamp, severity, message, data, sel = entry
    return {
        "id": number,
        "time": stamp / 1000,
        "severity": severity,
        "message": message,
        "data": data,
        "sel": bytes(sel).hex(),
    }


def describe(event: dict[str, Any]) -> str:
    """An event in one line for people."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event["time"]))
    data = " ".join(f"{name}={value}" for name, value in event["data"].items())
    return f"{event['id']:5}  {stamp}  {event['severity']:13}  {event['message']}  {data}".rstrip()
