# SPDX-License-Identifier: Apache-2.0
"""The board as tests see it, emulated or real."""

from pathlib import Path
from typing import Protocol

import fleetboard
from fleet_qemu.provision import Credentials


class Board(Protocol):
    """A board with power control, a serial console, a network and a record of what it said."""

    definition: fleetboard.Board

    @property
    def name(self) -> str:
        """Name in messages, and of the folder for evidence."""

    # --- power ---

    def power_on(self) -> None:
        """Give power; nothing to do when it is on."""

    def power_off(self) -> None:
        """Cut power, whatever the board is doing."""

    @property
    def powered_on_at(self) -> float:
        """Time of the last power on, in seconds since the epoch."""

    # --- console ---

    @property
    def console_pty(self) -> str:
        """Serial device that carries the BMC's console; may be another one after each power on."""

    def console_text(self) -> str:
        """All that the console said since the last power on, whether somebody had it open or not."""

    # --- network ---

    def address(self, service: str) -> tuple[str, int]:
        """Host and port of a service of the board file, such as `ssh`. Ask again after each power on."""

    @property
    def alias(self) -> str:
        """Name under which the board's SSH host key is in `credentials.known_hosts`."""

    @property
    def credentials(self) -> Credentials:
        """What opens the board. Raises an error for one that was never provisioned."""

    # --- flash, while the power is off ---

    def read_flash(self, partition: str) -> bytes:
        """Contents of a partition. A back end without a programmer raises NotImplementedError."""

    def write_flash(self, partition: str, data: bytes, offset: int = 0) -> None:
        """Replace bytes of a partition, from `offset` on. See `read_flash`."""

    # --- record and end ---

    def save_logs(self, folder: Path) -> None:
        """Copy what the back end recorded (console, power events, its own messages) into `folder`."""

    def close(self) -> None:
        """Give the board back; nothing of it runs on this machine afterwards."""
