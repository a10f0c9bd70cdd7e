# SPDX-License-Identifier: Apache-2.0
"""Power on a board with its flash as it is, and wait until it is up.

The board stays on in the background until './fleet down'. Without a flash of its own yet it gets the image
that was built.
"""

import argparse
from typing import Any

from fleet_cli import boot, options, paths
from fleet_cli.commands import flash
from fleet_cli.output import Output
from fleet_qemu import Board
from fleet_qemu.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.board(parser)
    options.machine(parser)
    options.ports(parser)
    options.boot(parser)
    options.yes(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Start, watch the boot, say the ways in."""
    run_dir = RunDir.of(paths.boards(), args.board)
    if not run_dir.flash.is_file():
        flash.flash(args.board, paths.flash_image(args.machine), args.machine)
    board, result = start(args, out)
    boot.say_ways_in(board, out)
    out.result(result)
    return 0


def start(args: argparse.Namespace, out: Output) -> tuple[Board, dict[str, Any]]:
    """Power on board `args.board` in the background; wait for its boot unless told not to.

    Returns the board and the result for machines.
    """
    run_dir = RunDir.of(paths.boards(), args.board)
    board_file = run_dir.board_file if run_dir.board_file.is_file() else paths.board_file(args.machine)
    board = Board.start(
        None, args.board, root=paths.boards(), board_file=board_file, detached=True, ports=dict(args.port)
    )
    times = {} if args.no_wait else boot.watch(board, args.boot_timeout, out)
    return board, {**board.state.to_json(), "boot_seconds": times}
