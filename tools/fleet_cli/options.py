# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

import argparse

from fleet_cli import paths


def board(parser: argparse.ArgumentParser) -> None:
    """--board N."""
    parser.add_argument(
        "--board", type=int, default=0, metavar="N", help="which of several boards (default: 0)"
    )


def machine(parser: argparse.ArgumentParser) -> None:
    """--machine NAME."""
    names = sorted(p.stem for p in paths.board_file("").parent.glob("*.toml"))
    parser.add_argument(
        "--machine", default=paths.MACHINE, choices=names, help=f"kind of board (default: {paths.MACHINE})"
    )


def yes(parser: argparse.ArgumentParser) -> None:
    """--yes, which the bootstrap script reads."""
    parser.add_argument(
        "-y", "--yes", action="store_true", help="install missing Debian packages without asking"
    )


def ports(parser: argparse.ArgumentParser) -> None:
    """--port NAME=PORT."""
    parser.add_argument(
        "--port",
        type=_port,
        action="append",
        default=[],
        metavar="NAME=PORT",
        help="give a service a certain port of 127.0.0.1, as ssh=2222; the others get free ones",
    )


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PORT")
    return name, int(number)


def board_flag(number: int) -> str:
    """The option that names this board in advice to the user."""
    return f" --board {number}" if number else ""


def boot(parser: argparse.ArgumentParser) -> None:
    """--no-wait and --boot-timeout."""
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the board is up")
    parser.add_argument(
        "--boot-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="give up when SSH does not answer by then (default: 300)",
    )
