# SPDX-License-Identifier: Apache-2.0
"""Write a flash image to a board and give the board new credentials.

Each board has its own copy of the flash, which it keeps over 'down' and 'run'. This replaces it: settings,
logs and keys of the board are gone. The image is checked first.
"""

import argparse
import os
from pathlib import Path

import fleetboard
from fleet_cli import options, paths
from fleet_cli.output import Output
from fleet_qemu import checks
from fleet_qemu.board import write_flash
from fleet_qemu.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("image", nargs="?", type=Path, help="flash image (default: the one that was built)")
    parser.add_argument("--unverified", action="store_true", help="take any contents of the right size")
    options.board(parser)
    options.machine(parser)
    options.yes(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Flash and say so."""
    image = args.image or paths.flash_image(args.machine)
    flash(args.board, image, args.machine, verify=not args.unverified)
    out.say(f"board {args.board} has {image} in its flash, and new credentials")
    out.result({"board": args.board, "image": str(image)})
    return 0


def flash(number: int, image: Path, machine: str, *, verify: bool = True) -> None:
    """Copy and provision; the board must not be running."""
    board_file = paths.board_file_of(image, machine)
    definition = fleetboard.load(board_file)
    checks.check_image(definition, image, contents=verify)
    run_dir = RunDir.of(paths.boards(), number)
    lock = run_dir.claim()
    try:
        write_flash(run_dir, definition, board_file, image, provisioned=True)
    finally:
        os.close(lock)
