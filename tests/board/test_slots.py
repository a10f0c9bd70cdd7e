# SPDX-License-Identifier: Apache-2.0
"""Damaged flash, and a board that nobody has provisioned. These tests share one board of their own.

Slot B gets a copy of slot A, then slot A's FIT is damaged. Nobody can log in, so all is seen from outside.
"""

import re
from collections.abc import Iterator

import paramiko
import pytest
from pytest_embedded_serial.dut import SerialDut

from board_harness import boot, ssh
from board_harness.flash import copy_slot, damage
from board_harness.protocol import Board
from board_harness.shared import Boards

IN_THE_KERNEL = 1 << 20  # offset in the FIT
BAD_FIT = r"Bad hash value for .* in 'kernel' image node"


@pytest.fixture(scope="module")
def fallback(boards: Boards) -> Iterator[Board]:
    """An unprovisioned board with a good slot B and a bad slot A, powered on."""
    board = boards.start(provisioned=False)
    board.power_off()
    copy_slot(board, "a", "b")
    damage(board, "fit-a", IN_THE_KERNEL)
    board.power_on()
    yield board
    boards.end(board)


@pytest.fixture
def port(fallback: Board) -> str:
    return fallback.console_pty


def test_damaged_fit_gives_way_to_the_other_slot(fallback: Board) -> None:
    boot.wait_for_console(fallback, r"Using 'conf-a' configuration")
    boot.wait_for_console(fallback, BAD_FIT)
    boot.wait_for_console(fallback, r"Using 'conf-b' configuration")
    boot.wait_for_console(fallback, boot.LOGIN)
    text = fallback.console_text()
    number = fallback.definition.flash.slot("b").rofs.index
    told = re.search(r"Kernel command line: (.*)", text)
    assert told
    assert "fleet.slot=b" in told[1].split()
    assert f"verity 1 31:{number} 31:{number} " in told[1]
    assert text.count("U-Boot SPL") == 1


def test_unprovisioned_board_refuses_every_log_in_by_ssh(fallback: Board) -> None:
    boot.wait_for_console(fallback, boot.LOGIN)
    boot.wait_for_ssh(fallback)
    transport = paramiko.Transport(fallback.address("ssh"))
    transport.banner_timeout = transport.auth_timeout = ssh.SECONDS
    try:
        transport.start_client(timeout=ssh.SECONDS)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_none(ssh.USER)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey(ssh.USER, paramiko.ECDSAKey.generate())
        for password in ("", ssh.USER, "0penBmc"):
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_password(ssh.USER, password)
        assert not transport.is_authenticated()
    finally:
        transport.close()


def test_unprovisioned_board_refuses_every_log_in_by_serial_console(fallback: Board, dut: SerialDut) -> None:
    boot.wait_for_console(fallback, boot.LOGIN)
    for password in ("", ssh.USER):
        dut.write("")
        dut.expect(re.compile(rb"login:"), timeout=ssh.SECONDS)
        dut.write(ssh.USER)
        dut.expect(re.compile(rb"Password:"), timeout=ssh.SECONDS)
        dut.write(password)
        # Words of refusal may be lost when the terminal is hung up; what counts is that it asks again.
        found = dut.expect(re.compile(rb"login:|~ # "), timeout=ssh.SECONDS)
        assert found.group() != b"~ # ", "it let us in"


def test_damaged_root_is_refused(fallback: Board) -> None:
    """One wrong bit in the root file system's first block: no boot from it, but an error and a reset."""
    fallback.power_off()
    rofs = fallback.definition.flash.slot("b").rofs
    damage(fallback, rofs.name, 100)
    fallback.power_on()
    boot.wait_for_console(fallback, rf"device-mapper: verity: 31:{rofs.index}: data block 0 is corrupted")
    boot.wait_for_console(fallback, r"Kernel panic - not syncing: VFS: Unable to mount root fs")
    boot.wait_for_console(fallback, r"U-Boot SPL (?s:.)*U-Boot SPL")


def test_two_damaged_slots_are_told_and_tried_again(fallback: Board) -> None:
    fallback.power_off()
    damage(fallback, "fit-b", IN_THE_KERNEL)
    fallback.power_on()
    text = boot.wait_for_console(fallback, r"U-Boot SPL ((?s:.)*)U-Boot SPL")[1]
    assert text.index("'conf-a'") < text.index("'conf-b'")
    assert len(re.findall(BAD_FIT, text)) >= 2
    assert "Starting kernel" not in text
