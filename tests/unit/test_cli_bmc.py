# SPDX-License-Identifier: Apache-2.0
"""What busctl says, read; and a follower of the bus, with a shell in place of SSH and the board."""

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet_cli import bmc
from fleet_cli.bmc import ACPI, Bmc, Change
from fleet_cli.errors import Failed, UserError
from fleet_qemu import Board

SIGNAL = {
    "type": "signal",
    "timestamp-realtime": 1795313420613778,
    "member": "PropertiesChanged",
    "payload": {
        "type": "sa{sv}as",
        "data": [ACPI.interface, {"SysACPIStatus": {"type": "s", "data": "x.ACPI.S0_G0_D0"}}, []],
    },
}


def test_a_change_is_read() -> None:
    change = bmc.parse_change(json.dumps(SIGNAL))
    assert change == Change(1795313420.613778, ACPI.interface, {"SysACPIStatus": "x.ACPI.S0_G0_D0"})


@pytest.mark.parametrize(
    "line", ["", bmc.READY, "[]", "{}", json.dumps({**SIGNAL, "member": "Other"}), '{"member":"PropertiesCh']
)
def test_other_lines_are_none(line: str) -> None:
    assert bmc.parse_change(line) is None


def test_words_reach_busctl_as_they_are() -> None:
    words = shlex.split(bmc.shell(bmc.put_command(ACPI, "SysACPIStatus", "s", "a 'b' $c")))
    assert words[-3:] == ["SysACPIStatus", "s", "a 'b' $c"]


Make = Callable[[str], Bmc]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A BMC whose busctl is this shell script, reached without SSH."""

    def make(script: str) -> Bmc:
        busctl = tmp_path / "busctl"
        busctl.write_text(f"#!/bin/sh\n{script}\n")
        busctl.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        board: Any = SimpleNamespace(run=SimpleNamespace(number=3), ssh_command=lambda: ["sh", "-c"])
        return Bmc(cast(Board, board))

    return make


def test_values_of_several_interfaces_in_one_login(make: Make) -> None:
    answer = json.dumps({"type": "a{sv}", "data": [{"A": {"type": "s", "data": "x"}}]})
    assert make(f"echo '{answer}'").values(ACPI, ACPI) == [{"A": "x"}, {"A": "x"}]


def test_a_refusal_is_told_in_the_bmc_s_words(make: Make) -> None:
    board = make("echo 'Failed to set property X on interface Y: the host is off' >&2; exit 1")
    with pytest.raises(Failed) as caught:
        board.put(ACPI, "SysACPIStatus", "x")
    assert caught.value.message == "the BMC refuses: the host is off"


def test_a_board_that_lets_nobody_in(make: Make) -> None:
    with pytest.raises(UserError, match="board 3 does not let us in: refused"):
        make("echo refused >&2; exit 255").values(ACPI)


def test_the_monitor_gives_what_happens_after_it_is_ready(make: Make) -> None:
    board = make(f"echo '{bmc.READY}'; echo '{json.dumps(SIGNAL)}'; exec sleep 600")
    with board.monitor(ACPI.path) as monitor:
        change = monitor.next(60)
        assert change
        assert change.interface == ACPI.interface
        assert monitor.next(0) is None
    # what watched has been ended
    assert subprocess.run(["pgrep", "-f", "sleep 600"], check=False, stdout=subprocess.PIPE).returncode == 1


def test_a_monitor_that_cannot_watch_says_why(make: Make) -> None:
    with (
        pytest.raises(Failed, match="cannot be watched: access denied"),
        make("echo access denied >&2; exit 1").monitor(ACPI.path),
    ):
        pass


def test_a_board_that_goes_away_ends_the_monitor(make: Make) -> None:
    with (
        make(f"echo '{bmc.READY}'; kill -9 $PPID").monitor(ACPI.path) as monitor,
        pytest.raises(Failed, match="went away"),
    ):
        monitor.next(60)


@pytest.mark.parametrize(("state", "words"), [("degraded", "not running: degraded"), ("", "no answer")])
def test_services_that_do_not_run(state: str, words: str, make: Make, tmp_path: Path) -> None:
    board = make("")
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho {state}\n")
    systemctl.chmod(0o755)
    with pytest.raises(Failed, match=words):
        board.wait_until_running(60)
    systemctl.write_text("#!/bin/sh\necho running\n")
    board.wait_until_running(60)
