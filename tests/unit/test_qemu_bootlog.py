# SPDX-License-Identifier: Apache-2.0
import pytest

from fleet_qemu.bootlog import MARKERS, BootLog

# What the components print, shortened.
BOOT = (
    "\r\nU-Boot SPL 2025.01-1 (Jan 01 2025 - 00:00:00 +0000)\r\n"
    "Trying to boot from RAM\r\n\r\n\r\n"
    "U-Boot 2025.01-1 (Jan 01 2025 - 00:00:00 +0000)\r\n"
    "## Loading kernel (any) from FIT Image at 20100000 ...\r\n"
    "Starting kernel ...\r\n\r\n"
    "[    0.000000] Booting Linux on physical CPU 0xf00\r\n"
    "[    0.000000] Linux version 6.12.117-fleet (Debian) #1 SMP\r\n"
    "[    3.1] systemd[1]: systemd 252.38 running in system mode (+PAM)\r\n"
    "Welcome to \x1b[1mFleet\x1b[0m!\r\n\r\n"
    "fleet-x1 login: "
)
PHASES = [marker.phase for marker in MARKERS]


def test_all_phases_in_order() -> None:
    log = BootLog()
    assert log.feed(BOOT) == PHASES
    assert log.phase == "login"
    assert (log.restarts, log.failure) == (0, "")


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_pieces_of_any_size_give_the_same(size: int) -> None:
    log = BootLog()
    reached = [phase for at in range(0, len(BOOT), size) for phase in log.feed(BOOT[at : at + size])]
    assert reached == PHASES


def test_a_quiet_phase_is_passed_over() -> None:
    log = BootLog()
    assert log.feed("U-Boot SPL 2025.01\r\nWelcome to Fleet!\r\n") == ["SPL", "systemd"]
    assert log.feed("U-Boot 2025.01\r\n") == []  # not backwards


def test_the_kernel_may_speak_on_the_line_of_the_prompt() -> None:
    log = BootLog()
    assert log.feed(BOOT + "[   27.952424] ftgmac100 eth0: Link is Up\r\n") == PHASES


def test_a_reset_is_counted_and_the_boot_followed_again() -> None:
    log = BootLog()
    log.feed(BOOT)
    assert log.feed("\r\n" + BOOT) == PHASES
    assert log.restarts == 1


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs", "Unable to mount root fs"),
        ("### ERROR ### Please RESET the board ###", "U-Boot stopped"),
        ("Bad hash value for 'hash-1' hash node in 'kernel-1' image node", "kernel-1"),
        ("You are in emergency mode. After logging in", "emergency"),
    ],
)
def test_a_failure_is_named_and_forgotten_at_a_reset(line: str, failure: str) -> None:
    log = BootLog()
    log.feed("U-Boot SPL 2025.01\r\nU-Boot 2025.01\r\n" + line + "\r\n")
    assert failure in log.failure
    log.feed("U-Boot SPL 2025.01\r\n")
    assert log.failure == ""


def test_other_text_is_no_phase() -> None:
    log = BootLog()
    assert log.feed("garbage \x00\xff\r\nNOT U-Boot SPL 1\r\nlast login: today\r\n") == []
