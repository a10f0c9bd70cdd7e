# SPDX-License-Identifier: Apache-2.0
"""The simulated host beside a real QEMU whose guest does nothing: wires, KCS and power."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet_qemu import Board, QemuError
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.ipmi_socket import SOCKET

SECONDS = 60.0
MakeImage = Callable[..., Path]
STANDBY = {"A0": 1, "A1": 1, "A6": 0, "A7": 0, "B0": 0, "B1": 1, "B2": 0, "B3": 1}


@pytest.fixture
def board(tmp_path: Path, guest_image: MakeImage) -> Iterator[Board]:
    with Board.start(guest_image(), root=tmp_path / "boards", verify=False, provisioned=False) as board:
        board.host_set(post_scale=0.05, ipmi_tries=1)
        yield board


def levels(board: Board) -> dict[str, int]:
    return {
        line: int(board.qmp("qom-get", path="/machine/soc/gpio", property=f"gpio{line}")) for line in STANDBY
    }


def switch_on(board: Board) -> None:
    """Without the BMC, which has no firmware here and no answer to the host's messages."""
    board.host_do("lose-power")
    board.host_do("restore-on")
    board.host_wait("post", SECONDS)


ON = {**STANDBY, "A6": 1, "A7": 1, "B0": 1}


def test_inputs_are_those_of_a_host_in_standby(board: Board) -> None:
    assert levels(board) == STANDBY
    assert board.host_status()["state"] == "off"


def test_a_board_wired_otherwise(tmp_path: Path, guest_image: MakeImage) -> None:
    mini = DEFAULT_BOARD_FILE.with_name("fleet-mini.toml")
    image = guest_image(size=64 << 20)
    with Board.start(
        image, root=tmp_path / "boards", board_file=mini, verify=False, provisioned=False
    ) as board:
        pins = {pin.name: pin.line for pin in board.definition.gpios if pin.direction == "input"}
        high = {
            name
            for name, line in pins.items()
            if board.qmp("qom-get", path="/machine/soc/gpio", property=f"gpio{line}")
        }
        assert high == {"POWER_BUTTON"}  # what else is active low is asserted
        with pytest.raises(QemuError, match="KCS: the BMC does not take a byte"):
            board.host_ipmi(b"\x18\x01")
        # channel 2: the byte is there, and IBF
        assert board.qmp("qom-get", path="/machine/soc/lpc", property="idr2") == 0x61
        assert board.qmp("qom-get", path="/machine/soc/lpc", property="str2") & 0xA == 0xA


def test_a_reset_of_the_board_does_not_reset_the_host(board: Board) -> None:
    switch_on(board)
    assert levels(board) == ON
    board.reset()
    board.wait(lambda state: state.resets == 1, SECONDS)
    board.wait(lambda _: levels(board) == ON, SECONDS)
    assert board.host_status()["state"] == "post"


def test_the_host_outlives_the_bmcs_power_when_told_so(board: Board) -> None:
    switch_on(board)
    board.power_off(bmc_only=True)
    status = board.host_wait("os", SECONDS, "login")  # it goes on by itself
    assert not status["bmc_power"]
    board.power_on()
    assert levels(board) == {**ON, "B1": 0}


def test_mains_power_is_the_hosts_too(board: Board) -> None:
    switch_on(board)
    board.power_off(bmc_only=True)
    board.power_off()  # now all of it
    assert board.host_status()["state"] == "dark"
    board.power_on()
    assert levels(board) == STANDBY
    assert board.host_status()["state"] == "off"


def test_nobody_answers_on_kcs(board: Board) -> None:
    with pytest.raises(QemuError, match="KCS: the BMC does not take a byte"):
        board.host_ipmi(b"\x18\x01")
    board.power_off()
    with pytest.raises(QemuError, match="KCS: the BMC has no power"):
        board.host_ipmi(b"\x18\x01")
    with pytest.raises(QemuError, match="a request has 1 to 255 bytes"):
        board.host_ipmi(b"")


def test_what_happened_is_on_record(board: Board) -> None:
    board.host_do("power-button", seconds=0.05)
    with pytest.raises(QemuError, match="os-reboot does nothing there"):
        board.host_do("os-reboot")
    with pytest.raises(QemuError, match="there are post_scale"):
        board.host_set(nonsense=1)
    events = board.host_events()
    board.close()
    assert [event["event"] for event in events] == ["state", "bmc", "settings", "do", "wire", "wire", "do"]
    assert all(event["time"] > 1e9 and event["monotonic"] > 0 for event in events)
    assert [json.loads(line) for line in board.run.host_events.read_text().splitlines()][:7] == events
    assert not (board.run.path / SOCKET).exists()


def test_the_hosts_serial_port_is_in_use_and_free_for_others(board: Board) -> None:
    switch_on(board)
    board.host_wait("post", SECONDS)
    assert board.host_status()["text_dropped"] < 10_000
    with Path(board.host_pty).open("r+b", buffering=0) as terminal:
        terminal.write(b"x")
