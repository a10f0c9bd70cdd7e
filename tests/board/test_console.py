# SPDX-License-Identifier: Apache-2.0
"""The serial console, and what resets the board. These tests share test_running's board and run after it."""

import re

import pytest
from pytest_embedded_serial.dut import SerialDut

from board_harness import boot, ssh
from board_harness.protocol import Board
from board_harness.shared import Shell
from fleet_qemu.bootlog import MARKERS

pytestmark = pytest.mark.disruptive

PROMPT = rb"~ # "


@pytest.fixture
def port(board: Board) -> str:
    return board.console_pty


def log_in(dut: SerialDut, password: str) -> None:
    """From a login prompt that may have been printed before anybody listened, to a shell."""
    dut.write("")
    dut.expect(re.compile(rb"login:"), timeout=boot.BOOT_SECONDS)
    dut.write(ssh.USER)
    dut.expect(re.compile(rb"Password: ?$"), timeout=ssh.SECONDS)
    dut.write(password)


def test_log_in_panic_and_boot(dut: SerialDut, board: Board, shell: Shell) -> None:
    """The provisioned password opens a shell; a panic resets the board, which boots through all phases."""
    log_in(dut, "wrong" + board.credentials.password)
    dut.expect("Login incorrect", timeout=ssh.SECONDS)
    log_in(dut, board.credentials.password)
    dut.expect(re.compile(PROMPT), timeout=ssh.SECONDS)
    dut.write("tty")
    dut.expect_exact(f"/dev/{board.definition.console_bmc.tty}", timeout=ssh.SECONDS)
    dut.write("echo c > /proc/sysrq-trigger")
    shell.was_reset()
    dut.expect_exact("Kernel panic - not syncing", timeout=ssh.SECONDS)
    for marker in MARKERS:
        dut.expect(re.compile(marker.pattern.pattern.encode(), re.MULTILINE), timeout=boot.BOOT_SECONDS)
        if marker.phase == "FIT":  # kernel and device tree
            for _ in range(2):
                dut.expect(r"Verifying Hash Integrity \.\.\. sha256\+ OK", timeout=boot.BOOT_SECONDS)
    assert shell.run("systemctl is-system-running") == "running\n"


def test_hung_system_manager_resets_the_board(dut: SerialDut, shell: Shell) -> None:
    """A crash of process 1 leaves it frozen (system.conf: CrashReboot=no): only the watchdog can help."""
    manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
    shell.run(f"busctl set-property {manager} RuntimeWatchdogUSec t 10000000")
    assert shell.run("systemctl show -P RuntimeWatchdogUSec") == "10s\n"
    shell.run("kill -SEGV 1")
    shell.was_reset()
    dut.expect_exact("watchdog0: watchdog did not stop", timeout=ssh.SECONDS)  # process 1 let go of it
    dut.expect(re.compile(rb"^U-Boot SPL \d", re.MULTILINE), timeout=ssh.SECONDS)
