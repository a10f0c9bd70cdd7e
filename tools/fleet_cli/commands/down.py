# SPDX-License-Identifier: Apache-2.0
"""Power off a board and end its emulator; its flash and logs stay."""

import argparse

from fleet_cli import options, paths
from fleet_cli.output import Output
from fleet_qemu import Board
from fleet_qemu.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.board(parser)
    parser.add_argument("--all", action="store_true", help="all boards of this checkout")


def run(args: argparse.Namespace, out: Output) -> int:
    """End one board or all; one that does not run is no error."""
    root = paths.boards()
    ended = []
    for run_dir in RunDir.all(root) if args.all else [RunDir.of(root, args.board)]:
        if run_dir.in_use():
            Board.attach(run_dir.number, root=root).close()
            ended.append(run_dir.number)
            out.say(f"board {run_dir.number} is down; its logs are in {run_dir.path}")
    if not ended:
        out.say("no board is running" if args.all else f"board {args.board} was not running")
    out.result({"down": ended})
    return 0
