# SPDX-License-Identifier: Apache-2.0
"""The emulated board: start QEMU on a flash copy, cut and restore its power, reach its consoles and ports.

`Board` (board.py) is what tests and the command line use. One supervisor process per board (supervisor.py)
owns QEMU, so that QEMU ends when whoever started the board ends. The package needs the standard library only.
"""

from fleet_qemu.board import Board
from fleet_qemu.errors import QemuError

__all__ = ["Board", "QemuError"]
