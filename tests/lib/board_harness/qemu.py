# SPDX-License-Identifier: Apache-2.0
"""The emulated board as a board for tests."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import fleet_qemu
from board_harness.protocol import IpmitoolError
from fleet_qemu.ports import LOOPBACK
from fleet_qemu.provision import Credentials

_IPMITOOL_SECONDS = 120.0  # for all requests that it makes


class QemuBoard:
    """`protocol.Board` over fleet_qemu."""

    def __init__(self, board: fleet_qemu.Board) -> None:
        self.emulated = board  # for tests of the emulator itself
        self.definition = board.definition

    @classmethod
    def start(cls, image: Path, root: Path, *, provisioned: bool = True) -> Self:
        """Copy the flash image to a new board under `root` and power it on."""
        return cls(fleet_qemu.Board.start(image, root=root, provisioned=provisioned))

    @property
    def name(self) -> str:
        """Board name and number."""
        return self.emulated.alias

    def power_on(self) -> None:
        """Start QEMU on the flash copy as it is now."""
        self.emulated.power_on()

    def power_off(self) -> None:
        """Stop the processors where they are and kill QEMU: a flash write in flight is torn."""
        self.emulated.power_off()

    def cut_bmc(self) -> None:
        """Kill QEMU as `power_off` does; the simulated host goes on."""
        self.emulated.power_off(bmc_only=True)

    def host_do(self, action: str) -> None:
        """Be the operator of the simulated host."""
        self.emulated.host_do(action)

    def host_wait(self, state: str, seconds: float, phase: str = "") -> None:
        """Wait for the simulated host."""
        self.emulated.host_wait(state, seconds, phase)

    def host_events(self) -> list[dict[str, Any]]:
        """What the simulated host has put on record."""
        return self.emulated.host_events()

    def host_ipmi(self, request: bytes) -> bytes:
        """Carry a request over the emulated KCS."""
        return self.emulated.host_ipmi(request)

    def ipmitool(self, *words: str) -> str:
        """Run this machine's ipmitool on the socket of the simulated host."""
        command = self.emulated.host_ipmitool(words)
        done = subprocess.run(
            command.argv,
            cwd=command.folder,
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_IPMITOOL_SECONDS,
        )
        if done.returncode:
            raise IpmitoolError(f"ipmitool {' '.join(words)}: {done.stdout}{done.stderr}".strip())
        return done.stdout

    @property
    def powered_on_at(self) -> float:
        """Time of the last power on, in seconds since the epoch."""
        return self.emulated.state.powered_on_at

    @property
    def console_pty(self) -> str:
        """Pseudo-terminal of the BMC's console."""
        return self.emulated.console_pty

    def console_text(self) -> str:
        """What the console said since the last power on."""
        return self.emulated.console_text()

    def address(self, service: str) -> tuple[str, int]:
        """Loopback and the forwarded port."""
        return LOOPBACK, self.emulated.ports[service]

    @property
    def alias(self) -> str:
        """Name of the host key."""
        return self.emulated.alias

    @property
    def credentials(self) -> Credentials:
        """One-time key and password."""
        return self.emulated.credentials

    def read_flash(self, partition: str) -> bytes:
        """Read from the flash copy."""
        where = self.definition.flash.partition(partition)
        with self._flash().open("rb") as flash:
            flash.seek(where.offset)
            return flash.read(where.size)

    def write_flash(self, partition: str, data: bytes, offset: int = 0) -> None:
        """Write into the flash copy."""
        where = self.definition.flash.partition(partition)
        if offset + len(data) > where.size:
            raise ValueError(f"{len(data)} bytes at {offset} do not fit into {partition}")
        with self._flash().open("r+b") as flash:
            flash.seek(where.offset + offset)
            flash.write(data)

    def save_logs(self, folder: Path) -> None:
        """Copy the logs, the state and the board file; credentials stay where they are."""
        folder.mkdir(parents=True, exist_ok=True)
        run = self.emulated.run
        for file in (*run.logs, run.supervisor_log, run.state_file, run.board_file):
            if file.is_file():
                shutil.copy(file, folder)

    def close(self) -> None:
        """End QEMU and its supervisor."""
        self.emulated.close()

    def _flash(self) -> Path:
        if self.emulated.state.power == "on":
            raise RuntimeError("the flash chip belongs to the board while that has power")
        return self.emulated.run.flash
