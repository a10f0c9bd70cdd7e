# SPDX-License-Identifier: Apache-2.0
"""What the services on the board must know of it, as JSON (/usr/share/fleet/board.json).

JSON, because reading the whole board file would cost each service a quarter of its start-up time.
"""

from __future__ import annotations

import json

from fleetboard.model import Board


def render(board: Board) -> str:
    """Return the file's text."""
    lines = {
        gpio.name: {"active_low": gpio.active_low, "output": gpio.direction == "output"}
        for gpio in board.gpios
    }
    data = {"name": board.name, "gpio": lines, "kcs_device": f"/dev/{board.kcs.device}"}
    return json.dumps(data, indent=1) + "\n"
