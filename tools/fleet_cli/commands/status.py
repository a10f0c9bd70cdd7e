# SPDX-License-Identifier: Apache-2.0
"""Say which boards there are, whether they run, and on which ports their services are."""

import argparse
import time
from typing import Any

from fleet_cli import paths
from fleet_cli.output import Output
from fleet_qemu import Board
from fleet_qemu.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: none."""


def run(args: argparse.Namespace, out: Output) -> int:  # noqa: ARG001
    """List the boards of this checkout."""
    root = paths.boards()
    boards = [_board(run_dir) for run_dir in RunDir.all(root)]
    for board in boards:
        out.say(_line(board))
    if not boards:
        out.say("there is no board yet: './fleet up' makes one")
    out.result(boards)
    return 0


def _board(run_dir: RunDir) -> dict[str, Any]:
    running = run_dir.in_use()
    state = Board.attach(run_dir.number, root=run_dir.path.parent).state if running else run_dir.read_state()
    return {"running": running, "folder": str(run_dir.path), **state.to_json()}


def _line(board: dict[str, Any]) -> str:
    head = f"board {board['number']}  "
    if not board["running"]:
        return f"{head}down  {board['folder']}"
    ports = "  ".join(f"{name} {port}" for name, port in board["ports"].items())
    match board["power"]:
        case "on":
            minutes = (time.time() - board["powered_on_at"]) / 60
            return f"{head}on    for {minutes:.0f} min, ports: {ports}"
        case "lost":
            why = board["exit_text"] or f"exit code {board['exit_code']}"
            return f"{head}lost  QEMU ended by itself: {why}"
        case _:
            return f"{head}off   ports kept: {ports}"
