# SPDX-License-Identifier: Apache-2.0
"""Porting means a data file: a second board is built from its own and boots (docs/porting.md)."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fleetboard
from fleet_qemu import Board

ROOT = Path(__file__).resolve().parents[2]
MACHINE = "fleet-mini"
BOOT_SECONDS = 300.0


def test_a_second_board_is_built_from_its_file_and_boots(build_log: str, tmp_path: Path) -> None:
    assert build_log
    command = [sys.executable, "-m", "fleet_cli", "build", "--yes", "--machine", MACHINE]
    result = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-6000:]
    deploy = ROOT / "build" / "deploy" / MACHINE
    definition = fleetboard.load(deploy / "board.toml")
    with Board.start(
        deploy / f"{MACHINE}.flash.img", root=tmp_path / "boards", board_file=deploy / "board.toml"
    ) as board:
        partitions = _when_up(board, "cat /proc/mtd")
        found = re.findall(r"^mtd\d+: (\w+) \w+ \"(.+)\"", partitions, re.M)
        sizes = {name: int(size, 16) for size, name in found}
        assert sizes == {partition.name: partition.size for partition in definition.flash.partitions}
        assert _when_up(board, "cat /proc/device-tree/model").rstrip("\0") == definition.identity.model
        assert _when_up(board, "hostname").strip() == MACHINE
        assert _when_up(board, "systemctl is-system-running --wait").strip() == "running"


def _when_up(board: Board, command: str) -> str:
    """Run a command on the board, as soon as it lets us in."""
    end = time.monotonic() + BOOT_SECONDS
    while True:
        result = subprocess.run([*board.ssh_command(), command], capture_output=True, text=True, check=False)
        if result.returncode != 255:
            return result.stdout
        if time.monotonic() > end:
            pytest.fail(f"no SSH within {BOOT_SECONDS} s: {result.stderr}\n{board.console_text()[-3000:]}")
