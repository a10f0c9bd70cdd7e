# SPDX-License-Identifier: Apache-2.0
"""Boards that outlive a test: who has one, and the way into one that several tests share."""

from itertools import count
from pathlib import Path

from fabric import Connection

from board_harness import boot, ssh
from board_harness.protocol import Board
from board_harness.qemu import QemuBoard

DAMAGED_AT = 5 << 20  # offset of a wrong byte in partition rofs-b of the shared board, which runs slot A


class Boards:
    """Makes boards, and knows those that run."""

    def __init__(self, image: Path, root: Path, running: list[Board], logs: Path) -> None:
        self._image = image
        self._root = root
        self._running = running
        self._logs = logs
        self._ended = count(1)  # a number that is free again gets another board

    def start(self, *, provisioned: bool = True) -> Board:
        """Power on a new board with the image in its flash."""
        board = QemuBoard.start(self._image, self._root, provisioned=provisioned)
        self._running.append(board)
        return board

    def end(self, board: Board) -> None:
        """Give a board back; its logs stay, and nothing else that its tests leave."""
        self._running.remove(board)
        board.save_logs(self._logs / f"{next(self._ended):02}-{board.name}")
        board.close()


class Shell:
    """The way into the shared board, over its resets."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._connection: Connection | None = None
        self.first_boot: boot.Boot | None = None

    @property
    def connection(self) -> Connection:
        """An SSH connection to the board when it is up."""
        if self._connection is None:
            if self.first_boot is None:
                self.first_boot, self._connection = boot.follow(self._board)
            else:
                boot.wait_for_ssh(self._board)
                self._connection = ssh.connect(self._board)
                ssh.run(self._connection, "systemctl is-system-running --wait")
        return self._connection

    def run(self, command: str, seconds: float = ssh.SECONDS) -> str:
        """Run a command on the board; its output."""
        return ssh.run(self.connection, command, seconds=seconds)

    def was_reset(self) -> None:
        """The board starts over."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
