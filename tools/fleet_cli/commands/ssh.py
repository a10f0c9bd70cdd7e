# SPDX-License-Identifier: Apache-2.0
"""Log in on the board, or run a command there.

A command follows --, as in './fleet ssh -- uptime'. Its exit code is the exit code.
"""

import argparse
import os
import sys

from fleet_cli import options, paths
from fleet_cli.errors import UserError
from fleet_cli.output import Output
from fleet_qemu import Board


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.board(parser)
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="command to run on the board, after --")


def run(args: argparse.Namespace, out: Output) -> int:  # noqa: ARG001
    """Become ssh."""
    with_terminal = not args.words and sys.stdin.isatty()
    argv = Board.attach(args.board, root=paths.boards()).ssh_command()
    sys.stdout.flush()
    try:
        os.execvp(argv[0], [*argv, *(["-t"] if with_terminal else []), *args.words])
    except OSError as error:
        raise UserError(
            f"ssh cannot be run ({error.strerror})", "install Debian's package openssh-client"
        ) from None
