# SPDX-License-Identifier: Apache-2.0
"""What explains a failure, kept where a CI job can pick it up."""

from pathlib import Path

from fabric import Connection

from board_harness import ssh
from board_harness.protocol import Board
from fleet_cli.commands.collect import GUEST_COMMANDS

_GREETING_SECONDS = 10.0
_SECONDS = 60.0


def save(board: Board, folder: Path) -> None:
    """Write the board's logs into `folder` and, when it answers, what it can tell itself. Never raises."""
    try:
        board.save_logs(folder)
        _ask(board, folder)
    except Exception as error:  # a failure that cannot be explained is still the one to report
        with (folder / "incomplete.txt").open("a") as file:
            file.write(f"{error!r}\n")


def _ask(board: Board, folder: Path) -> None:
    if not ssh.greets(board.address("ssh"), _GREETING_SECONDS):
        raise ConnectionError(f"{board.name} does not answer by SSH")
    with ssh.connect(board) as connection:
        for name, command in GUEST_COMMANDS.items():
            (folder / name).write_text(_output(connection, command))


def _output(connection: Connection, command: str) -> str:
    result = connection.run(command, hide=True, warn=True, in_stream=False, timeout=_SECONDS)
    return str(result.stdout) + str(result.stderr)
