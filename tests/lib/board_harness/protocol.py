# SPDX-License-Identifier: Apache-2.0
"""The board as tests see it, emulated or real."""

from pathlib import Path
from typing import Any, Protocol

import fleetboard
from fleet_qemu.provision import Credentials


class IpmitoolError(AssertionError):
    """ipmitool ended with an error; the text is what it said."""


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

    def cut_bmc(self) -> None:
        """Cut the BMC's power alone: the host beside it goes on. `power_on` gives it back."""

    # --- the host beside the BMC ---

    def host_do(self, action: str) -> None:
        """Be the operator in front of the host: an action of fleet_qemu.host.ACTIONS."""

    def host_wait(self, state: str, seconds: float, phase: str = "") -> None:
        """Wait until the host is in a state (fleet_qemu.host_timeline.State), and in a phase if one is named.

        Raises TimeoutError.
        """

    def host_events(self) -> list[dict[str, Any]]:
        """All that the host did and heard, oldest first; docs/board.md has the events."""

    def host_ipmi(self, request: bytes) -> bytes:
        """Carry a request (netFn/LUN, command, data) in-band; the response. An error when there is none."""

    def ipmitool(self, *words: str) -> str:
        """Run stock ipmitool on the host, in-band; its standard output. Raises IpmitoolError."""

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
