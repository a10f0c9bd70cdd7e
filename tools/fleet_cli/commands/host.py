# SPDX-License-Identifier: Apache-2.0
"""Be the operator in front of the simulated server beside the BMC, or its software.

Without an action it says what the server is doing. ipmitool runs on the server as on a real one, over KCS;
its words follow --, as in './fleet host ipmitool -- mc info'. Its exit code is the exit code.
"""

import argparse
import os
import sys
from typing import Any

from fleet_cli import options, paths
from fleet_cli.errors import UserError
from fleet_cli.output import Output
from fleet_qemu import Board, host

_HELP = {
    "power-button": "press the front panel's power button; what it does is the BMC's business",
    "reset-button": "press the reset button",
    "id-button": "press the identification button",
    "lose-power": "the server's power supply fails, with no word to anybody",
    "restore": "the power supply works again; the server stays off",
    "restore-on": "the power supply works again, and the server switches on by itself",
    "os-shutdown": "shut down from within the operating system",
    "os-reboot": "restart from within the operating system",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions, each with the options that may also stand before it."""
    options.board(parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action")
    _action(actions, "status", "what the server is doing (the default)")
    for name in host.ACTIONS:
        action = _action(actions, name, _HELP[name])
        if name in host.BUTTONS:
            usual = host.BUTTONS[name][1]
            action.add_argument(
                "--seconds", type=float, metavar="S", help=f"how long it is pressed (default: {usual:g})"
            )
    setting = _action(actions, "set", "change how the server behaves")
    setting.add_argument(
        "settings", nargs="+", metavar="NAME=VALUE", help="as post_scale=10; 'status --json' lists them"
    )
    ipmitool = _action(actions, "ipmitool", "run ipmitool on the server")
    ipmitool.add_argument("words", nargs="*", metavar="WORD", help="what ipmitool is to do, after --")


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=f"{summary}.")
    # No default of its own, which would hide what stands before the action.
    parser.add_argument("--board", type=int, metavar="N", default=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    return parser


def run(args: argparse.Namespace, out: Output) -> int:
    """Do it."""
    board = Board.attach(args.board, root=paths.boards())
    match args.action or "status":
        case "ipmitool":
            _become_ipmitool(board, args.words)
        case "status":
            status = board.host_status()
        case "set":
            status = board.host_set(**dict(_setting(text) for text in args.settings))
        case action:
            seconds = getattr(args, "seconds", None)
            status = board.host_do(action, **({} if seconds is None else {"seconds": seconds}))
    for line in _lines(status):
        out.say(line)
    out.result(status)
    return 0


def _setting(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, int(value) if value.isdecimal() else float(value)
    except ValueError:
        raise UserError(f"{text!r} is not NAME=VALUE", "give a number, as post_scale=10") from None


def _lines(status: dict[str, Any]) -> list[str]:
    phase = f", {status['phase']}" if status["phase"] else ""
    bmc = "" if status["bmc_power"] else "; the BMC has no power"
    ipmi = status["ipmi"]
    return [
        f"host      {status['state']}{phase}{bmc}",
        f"asserts   {', '.join(status['asserts'])}",
        f"hears     {', '.join(status['hears']) or 'nothing'}",
        f"IPMI      {ipmi['answered']} answered, {ipmi['unanswered']} not",
    ]


def _become_ipmitool(board: Board, words: list[str]) -> None:
    """Replace this process."""
    ipmitool = board.host_ipmitool(words)
    sys.stdout.flush()
    try:
        os.chdir(ipmitool.folder)
        os.environ.update(ipmitool.environment)
        os.execvp(ipmitool.argv[0], ipmitool.argv)
    except OSError as error:
        raise UserError(
            f"ipmitool cannot be run ({error.strerror})", "install Debian's package ipmitool"
        ) from None
