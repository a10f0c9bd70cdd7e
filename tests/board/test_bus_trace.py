# SPDX-License-Identifier: Apache-2.0
"""Who is on the host's I2C buses? Seen from outside, on the board that test_running uses."""

import pytest

from board_harness import boot
from board_harness.protocol import Board
from board_harness.qemu import QemuBoard
from board_harness.shared import Shell


@pytest.fixture
def traced(board: Board) -> QemuBoard:
    if not isinstance(board, QemuBoard):
        pytest.skip("only an emulated bus can be traced")
    return board


def test_a_forbidden_access_would_be_seen(traced: QemuBoard, shell: Shell) -> None:
    """Accesses to a present and to an absent address on the DIMM bus, and nothing of another bus."""
    assert shell.connection
    seen = traced.emulated.bus_trace_self_test("dimm")
    assert {one.bus for one in seen} == {traced.definition.bus("dimm").number}


@pytest.mark.disruptive
def test_a_boot_leaves_the_buses_of_the_host_alone(traced: QemuBoard, shell: Shell) -> None:
    """From the first instruction until systemd says that the boot is over."""
    owned = {bus.number for bus in traced.definition.i2c if bus.owner == "host"}
    assert {traced.definition.bus(role).number for role in ("dimm", "vr")} <= owned
    fan = traced.definition.bus("fan")
    traced.power_off()
    shell.was_reset()
    with traced.emulated.bus_trace([*owned, fan.number]) as trace:
        traced.power_on()
        booted, connection = boot.follow(traced)
        connection.close()
    assert booted.state == "running"
    assert [str(one) for one in trace.transactions if one.bus in owned] == []
    addresses = {one.address for one in trace.transactions}
    assert {device.address for device in fan.devices} <= addresses
