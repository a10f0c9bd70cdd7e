# SPDX-License-Identifier: Apache-2.0
"""`./fleet host`, on a real QEMU without firmware."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_cli.commands import host as command
from fleet_qemu import Board, host

REPOSITORY = Path(__file__).resolve().parents[2]
Done = subprocess.CompletedProcess[str]
Fleet = Callable[..., Done]


@pytest.fixture
def board(tmp_path: Path, guest_image: Callable[..., Path]) -> Iterator[Board]:
    folder = tmp_path / ("deep" * 30)  # a socket's path may be 107 bytes
    with Board.start(guest_image(), 3, root=folder, verify=False, provisioned=False) as board:
        yield board


@pytest.fixture
def fleet(board: Board) -> Fleet:
    path = [REPOSITORY / part for part in ("tools", "qemu", "meta-fleet/bsp/lib", "meta-fleet/core/lib")]
    env = {
        **os.environ,
        "FLEET_BOARDS": str(board.run.path.parent),
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }

    def run(*args: str, code: int | None = 0) -> Done:
        argv = [sys.executable, "-m", "fleet_cli", "host", *args]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert "Traceback" not in done.stderr
        assert code is None or done.returncode == code, done
        return done

    return run


def status(done: Done) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(done.stdout)
    return data


@pytest.mark.parametrize(
    "args",
    [
        ("--board", "3", "--json"),
        ("--board", "3", "--json", "status"),
        ("status", "--board", "3", "--json"),
        ("--board", "3", "id-button", "--json", "--seconds", "0.01"),
    ],
    ids=" ".join,
)
def test_options_stand_before_or_behind_the_action(fleet: Fleet, args: tuple[str, ...]) -> None:
    assert status(fleet(*args))["state"] == "off"


def test_for_people(fleet: Fleet) -> None:
    lines = fleet("--board", "3").stdout.splitlines()
    assert lines == [
        *("host      off", "asserts   PLTRST, PSU0_PRESENT, SLP_S5", "hears     nothing"),
        "IPMI      0 answered, 0 not",
    ]


def test_actions(fleet: Fleet, board: Board) -> None:
    assert "host      dark" in fleet("lose-power", "--board", "3").stdout
    fleet("lose-power", "--board", "3", code=2)
    assert status(fleet("restore", "--board", "3", "--json"))["state"] == "off"
    fleet("power-button", "--board", "3", "--seconds", "0.05")
    pressed = [event for event in board.host_events() if event.get("line") == "POWER_BUTTON"]
    assert [event["asserted"] for event in pressed] == [True, False]


def test_settings(fleet: Fleet) -> None:
    changed = status(fleet("set", "post_scale=0.5", "ipmi_tries=1", "--board", "3", "--json"))["settings"]
    assert (changed["post_scale"], changed["ipmi_tries"]) == (0.5, 1)
    assert "is not NAME=VALUE" in fleet("set", "post_scale", "--board", "3", code=2).stderr
    assert "no setting 'x'" in fleet("set", "x=1", "--board", "3", code=2).stderr


def test_ipmitool_reaches_kcs(fleet: Fleet, board: Board) -> None:
    done = fleet("ipmitool", "--board", "3", "--", "raw", "6", "6", "0x82", "0x82", code=None)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    asked = [event["request"] for event in board.host_events() if event["event"] == "ipmi"]
    assert asked[-1] == "18068282"


def test_no_board(fleet: Fleet) -> None:
    assert "board 9 is not running" in fleet("--board", "9", code=2).stderr
    assert "invalid choice: 'explode'" in fleet("explode", code=2).stderr


def test_every_action_has_its_help() -> None:
    assert set(command._HELP) == set(host.ACTIONS)
