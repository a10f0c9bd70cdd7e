# SPDX-License-Identifier: Apache-2.0
"""Carry out power cycles of the host beside a board, and see what they leave behind."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from fabric import Connection

from board_harness import boot, ssh
from board_harness.bus import SECONDS, Bus, SshBmc
from board_harness.cycles import S0, Kind, Record, Step, acpi_offsets, judge, judge_bus, states_of
from board_harness.protocol import Board
from fleet_cli import timeline
from fleet_cli.bmc import EVENT_LOG, Change
from fleet_cli.commands.events import read
from fleet_qemu.host import ACTIONS

DBUS, IPMITOOL = "D-Bus", "ipmitool"  # who asks

# What the host's own software can ask for, in the words of ipmitool.
IN_BAND = {
    "soft": ("chassis", "power", "soft"),
    "off": ("chassis", "power", "off"),
    "cycle": ("chassis", "power", "cycle"),
    "reset": ("chassis", "power", "reset"),
}
LOGIN = "login"  # phase of the host in which it has no more to say


class Host:
    """The host beside a board, as the BMC shows it; from the BMC's boot to its next one."""

    def __init__(self, board: Board, connection: Connection) -> None:
        """`connection` must be to a board that has booted."""
        self.board = board
        self.connection = connection
        self.bmc = SshBmc(connection)
        self.bus = Bus(connection)

    def close(self) -> None:
        """End following the bus; the connection stays."""
        self.bus.close()

    def shell(self, command: str, seconds: float = ssh.SECONDS) -> str:
        """Run a command on the BMC; its output."""
        return ssh.run(self.connection, command, seconds=seconds)

    def status(self) -> dict[str, Any]:
        """What the BMC knows of the host."""
        return timeline.status(self.bmc)

    def entries(self, after: int = 0) -> list[dict[str, Any]]:
        """The entries of the event log behind an id."""
        return read(self.bmc, after)

    def last_entry(self) -> int:
        """The highest id in the event log."""
        return int(self.bmc.values(EVENT_LOG)[0]["LastId"])

    def ask(self, request: str, by: str = DBUS) -> None:
        """Ask for one of fleet_cli.timeline.REQUESTS. An error when it is refused."""
        if by == IPMITOOL and request in IN_BAND:
            self.board.ipmitool(*IN_BAND[request])
        else:
            asked = timeline.REQUESTS[request]
            self.bmc.put(asked.address, asked.name, asked.value)

    def wait_for_state(self, state: str, place: int, seconds: float = SECONDS) -> None:
        """Wait until an ACPI state has been shown, from a place in the bus's changes on."""

        def shown(changes: list[Change]) -> bool | None:
            return any(one.state == state for one in states_of(changes, "")) or None

        self.bus.wait(place, shown, f"{self.board.name}: ACPI state {state}", seconds)

    def do(self, steps: Sequence[Step], by: str = DBUS) -> None:
        """Do steps one after the other, and wait until the host has booted."""
        for step in steps:
            place = self.bus.seen
            if step.do in ACTIONS:
                self.board.host_do(step.do)
            else:
                self.ask(step.do, by)
            if step.until:
                self.wait_for_state(step.until, place)
        self.board.host_wait("os", SECONDS, LOGIN)

    def run(self, kind: Kind, by: str = DBUS, *, logged: bool = True) -> tuple[Record, list[str]]:
        """Go through a cycle; what it left behind, and what was wrong with it.

        `logged` False is for a BMC that cannot keep events. AssertionError when it does not come to its end.
        """
        before, last_entry, place = self.status(), self.last_entry(), self.bus.seen
        self.do(kind.steps, by)
        entries: list[dict[str, Any]] = []

        def written() -> bool:
            entries[:] = self.entries(last_entry)
            return not logged or len(acpi_offsets(entries)) >= len(kind.sel)

        # The record of a state is in flash a moment after the state is shown.
        with contextlib.suppress(AssertionError):  # that is for the judge to say
            boot.until(written, "", _WRITTEN_SECONDS)
        record = Record.of(self.bus.since(place), entries, before, self.status())
        return record, judge(kind, record) if logged else judge_bus(kind, record)

    def up(self) -> None:
        """Have the host in S0, whatever it does now."""
        status = self.status()
        if status["acpi"] == S0 and status["host"] == "Running":
            return
        with contextlib.suppress(Exception):  # it has power
            self.board.host_do("restore")
        place = self.bus.seen
        if self.status()["power_good"]:
            self.ask("cycle")
        else:
            self.ask("on")
        self.wait_for_state(S0, place)
        self.board.host_wait("os", SECONDS, LOGIN)


_WRITTEN_SECONDS = 30.0


def start(board: Board) -> Host:
    """Follow the BMC's boot to its end; the host beside it. AssertionError when the boot is not clean."""
    booted, connection = boot.follow(board)
    assert booted.clean, f"{board.name}: {booted}"
    return Host(board, connection)


def timed(host: Host, kind: Kind, by: str) -> dict[str, Any]:
    """Run a cycle and put it on record; `verdict` is "pass" or what was wrong."""
    started = time.monotonic()
    line: dict[str, Any] = {"kind": kind.name, "asked_by": by}
    try:
        record, wrong = host.run(kind, by)
        line |= record.to_json()
    except Exception as error:  # a cycle that ends halfway is one that failed, and the others go on
        wrong = [f"{type(error).__name__}: {error}"]
    return {**line, "seconds": round(time.monotonic() - started, 2), "verdict": "; ".join(wrong) or "pass"}
