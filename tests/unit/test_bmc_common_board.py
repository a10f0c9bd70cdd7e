# SPDX-License-Identifier: Apache-2.0
"""The board file of the services: what fleetboard writes is what they read."""

from pathlib import Path

import pytest

import fleetboard
from fleet_bmc_common import ServiceError
from fleet_bmc_common.board import Gpio, load
from fleetboard import services

BOARDS = Path(__file__).parents[2] / "meta-fleet/bsp/boards"


@pytest.mark.parametrize("name", ["fleet-x1", "fleet-mini"])
def test_services_know_the_board(name: str, tmp_path: Path) -> None:
    board = fleetboard.load(BOARDS / f"{name}.toml")
    file = tmp_path / "board.json"
    file.write_text(services.render(board))
    found = load(str(file))
    assert found.name == name
    assert found.kcs_device == f"/dev/{board.kcs.device}"
    assert list(found.gpios.values()) == [
        Gpio(gpio.name, gpio.active_low, gpio.direction == "output") for gpio in board.gpios
    ]
    assert found.gpios["POWER_OUT"].output


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "gpio": {"A": 1}, "kcs_device": "/dev/x"}'])
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    file.write_text(text)
    with pytest.raises(ServiceError, match=rf"the board file {file} is damaged: "):
        load(str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"/board.json cannot be read: No such file .* machine's layer"):
        load(str(tmp_path / "board.json"))
