# SPDX-License-Identifier: Apache-2.0
"""From a clean checkout to a server that works: setup, build, flash, run, power on.

Builds the image, writes it to the board's flash with new credentials, powers the board on, shows how it
boots, powers the host on, shows its ACPI states as the BMC's D-Bus tells them, and says the ways in.
'./fleet down' ends the board.
"""

import argparse

import fleetboard
from fleet_cli import boot, options, paths, timeline
from fleet_cli.bmc import Bmc
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
    parser.add_argument("--host-off", action="store_true", help="leave the host off")


def run(args: argparse.Namespace, out: Output) -> int:
    """Do all of it."""
    # What would stop us at the end is better said before a build of minutes.
    find_qemu(fleetboard.load(paths.board_file(args.machine)))
    check_pty()
    RunDir.of(paths.boards(), args.board).check_free()
    out.say("[1/5] setup")
    setup.set_up_engine()
    out.say("[2/5] build")
    image = build.build(args.machine, [], out)
    out.say(f"[3/5] flash {image.name} to board {args.board}")
    flash.flash(args.board, image, args.machine)
    out.say(f"[4/5] power on board {args.board}")
    board, result = run_command.start(args, out)
    if args.no_wait or args.host_off:
        out.say("[5/5] the host stays off")
    else:
        out.say("[5/5] power the host on")
        bmc = Bmc(board)
        bmc.wait_until_running(args.boot_timeout)
        seen = timeline.carry_out(bmc, "on", args.boot_timeout, out.say)
        result["host"] = [line._asdict() for line in seen]
    boot.say_ways_in(board, out)
    out.result(result)
    return 0
