# SPDX-License-Identifier: Apache-2.0
"""Follow a boot from power on, and wait for what the console says."""

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fabric import Connection

from board_harness import ssh
from board_harness.protocol import Board
from fleet_qemu.bootlog import MARKERS, BootLog

# Bound of a boot, which takes 20 s on an idle machine: only a board that hangs or a machine in trouble needs
# this long.
BOOT_SECONDS = 300.0
CPUS = 2
LOGIN = MARKERS[-1].pattern.pattern  # what the console says when somebody may log in
_POLL_SECONDS = 0.05
_TRY_SECONDS = 2.0  # what is sent before the guest's network is up is lost, so try again


class BootError(AssertionError):
    """The board did not come up."""


def until(condition: Callable[[], object], what: str, seconds: float = BOOT_SECONDS) -> None:
    """Wait until `condition` holds; AssertionError naming `what` when it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(_POLL_SECONDS)


def wait_for_console(board: Board, pattern: str, seconds: float = BOOT_SECONDS) -> re.Match[str]:
    """Wait until the console has said `pattern` (several lines: `^` and `$` match at line ends)."""
    found: list[re.Match[str]] = []

    def said() -> bool:
        text = board.console_text().replace("\r", "")
        found.extend(re.finditer(pattern, text, re.MULTILINE))
        return bool(found)

    try:
        until(said, f"console says {pattern!r}", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; last words:\n{board.console_text()[-1500:]}") from None
    return found[0]


class Watch:
    """The console of one boot, phase by phase. Times are seconds since power on."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._log = BootLog()
        self._seen = 0
        self.times: dict[str, float] = {}

    def update(self) -> None:
        """Read what the console has said since; BootError when it shows that the boot has failed."""
        text = self._board.console_text()
        phases = self._log.feed(text[self._seen :])
        self._seen = len(text)
        for phase in phases:
            self.times.setdefault(phase, round(time.time() - self._board.powered_on_at, 2))
        if self._log.failure:
            raise BootError(f"{self._board.name}: {self._log.failure}")
        if self._log.restarts:
            raise BootError(f"{self._board.name}: the board reset itself during the boot")

    def wait_for(self, phase: str, seconds: float = BOOT_SECONDS) -> None:
        """Wait until `phase` (see fleet_qemu.bootlog) has been reached."""

        def reached() -> bool:
            self.update()
            return phase in self.times

        try:
            until(reached, f"{self._board.name} reaches {phase}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it got as far as {self._log.phase!r}") from None


@dataclass(frozen=True)
class Boot:
    """A boot that came to its end."""

    times: dict[str, float]  # phase -> seconds since power on; `ssh` and `running` come after the console's
    clock_zero: float  # when the kernel's monotonic clock was zero, in seconds since power on
    state: str  # what `systemctl is-system-running` says: "running" is good
    failed: list[str]  # failed units
    restarted: list[str]  # services that ended and were started again, whatever they are now
    cpus: int  # online

    @property
    def clean(self) -> bool:
        """Whether all that should run runs, on both processors."""
        return self.state == "running" and not self.failed and not self.restarted and self.cpus == CPUS

    def to_json(self) -> dict[str, Any]:
        """Plain data for a record."""
        return asdict(self)


# In one round trip: what systemd thinks of the boot once it is over, and what the board's clock says then.
_QUESTION = """
systemctl is-system-running --wait
echo $(systemctl list-units --failed --plain --no-legend --no-pager | cut -d' ' -f1)
echo $(systemctl show -p Id -p NRestarts '*.service' | grep -B1 'NRestarts=[^0]' | sed -n 's/^Id=//p')
nproc
cut -d' ' -f1 /proc/uptime
"""


def follow(board: Board, seconds: float = BOOT_SECONDS) -> tuple[Boot, Connection]:
    """Watch the boot that began with the last power on until systemd says that it is over.

    Returns it with an open SSH connection. BootError when the boot fails, AssertionError when it takes longer
    than `seconds`.
    """
    watch = Watch(board)
    watch.wait_for("login", seconds)
    ssh_seconds = wait_for_ssh(board, seconds)
    connection = ssh.connect(board)
    answer = ssh.run(connection, _QUESTION, seconds=seconds)
    state, failed, restarted, cpus, uptime = answer.splitlines()
    now = time.time() - board.powered_on_at
    watch.update()
    times = {**watch.times, "ssh": ssh_seconds, "running": round(now, 2)}
    zero = round(now - float(uptime), 2)
    return Boot(times, zero, state, failed.split(), restarted.split(), int(cpus)), connection


def wait_for_ssh(board: Board, seconds: float = BOOT_SECONDS) -> float:
    """Wait until the SSH server greets; seconds since power on.

    Do not begin before the board is about to answer: the emulator's network keeps each attempt alive and
    hands them all to the server when it comes up.
    """
    until(lambda: ssh.greets(board.address("ssh"), _TRY_SECONDS), f"{board.name} answers by SSH", seconds)
    return round(time.time() - board.powered_on_at, 2)
