# SPDX-License-Identifier: Apache-2.0
"""From a clean checkout to a board that answers: setup, build, flash, run.

Builds the image, writes it to the board's flash with new credentials, powers the board on, shows how it
boots, waits until SSH answers, and says the ways in. './fleet down' ends the board.
"""

import argparse

import fleetboard
from fleet_cli import options, paths
from fleet_cli.commands import build, flash, setup
from fleet_cli.commands import run as run_command
from fleet_cli.output import Output
from fleet_qemu.checks import check_pty, find_qemu
from fleet_qemu.rundir import RunDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.yes(parser)
    options.board(parser)
    options.machine(parser)
    options.ports(parser)
    options.boot(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Do all of it."""
    # What would stop us at the end is better said before a build of minutes.
    find_qemu(fleetboard.load(paths.board_file(args.machine)))
    check_pty()
    RunDir.of(paths.boards(), args.board).check_free()
    out.say("[1/4] setup")
    setup.set_up_engine()
    out.say("[2/4] build")
    image = build.build(args.machine, [], out)
    out.say(f"[3/4] flash {image.name} to board {args.board}")
    flash.flash(args.board, image, args.machine)
    out.say(f"[4/4] power on board {args.board}")
    run_command.start(args, out)
    return 0
