# SPDX-License-Identifier: Apache-2.0
"""Talk to a board's serial console, or show what it has said.

Ctrl-] leaves the console. With --host it is the serial port of the host computer beside the BMC.
"""

import argparse
import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from fleet_cli import options, paths
from fleet_cli.errors import UserError
from fleet_cli.output import Output
from fleet_qemu import Board
from fleet_qemu.rundir import RunDir

LEAVE = b"\x1d"  # Ctrl-]
_RECENT_BYTES = 2048  # of the log, shown at first, so that one sees where the board is


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.board(parser)
    parser.add_argument("--host", action="store_true", help="the host's serial port, not the BMC's")
    parser.add_argument("--log", action="store_true", help="print all of the log and end")


def run(args: argparse.Namespace, out: Output) -> int:
    """Show the log, or be a terminal."""
    run_dir = RunDir.of(paths.boards(), args.board)
    log = run_dir.host_log if args.host else run_dir.console_log
    if args.log:
        if not log.is_file():
            raise UserError(f"board {args.board} has no log yet", "start it with './fleet up'")
        out.stream.flush()
        _copy(log, 0, out.stream.fileno())
        return 0
    board = Board.attach(args.board, root=paths.boards())
    pty = board.host_pty if args.host else board.console_pty
    if not pty:
        raise UserError(f"board {args.board} has no power", "'./fleet down' and './fleet run' start it again")
    if not sys.stdin.isatty():
        raise UserError("the console needs a terminal", "use --log to read what it has said")
    out.say(f"console of board {args.board}; Ctrl-] leaves")
    with _raw(sys.stdin.fileno()):
        _copy(log, -_RECENT_BYTES, sys.stdout.fileno())
        left = _talk(pty)
    if not left:
        raise UserError(f"board {args.board} lost power")
    return 0


def _copy(log: Path, start: int, descriptor: int) -> None:
    with log.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(start if start >= 0 else max(0, size + start))
        while data := stream.read(1 << 16):
            _write(descriptor, data)


def _talk(pty: str) -> bool:
    """Carry bytes both ways until the user leaves (True) or the board has no power any more (False)."""
    line = os.open(pty, os.O_RDWR | os.O_NOCTTY)
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    try:
        while True:
            ready, _, _ = select.select([line, keyboard], [], [])
            if line in ready:
                data = _read(line)
                if not data:
                    return False
                _write(screen, data)
            if keyboard in ready:
                data = _read(keyboard)
                if not data or LEAVE in data:
                    return True
                _write(line, data)
    finally:
        os.close(line)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # EIO: the other end of the pty is closed
        return b""


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSADRAIN)  # keep what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        os.write(sys.stdout.fileno(), b"\r\n")
