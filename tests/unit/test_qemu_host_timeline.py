# SPDX-License-Identifier: Apache-2.0
"""What the simulated server does when: the data is what the specifications and the board say."""

from typing import Any

import pytest

import fleetboard
from fleet_qemu import QemuError, host_timeline
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.host_timeline import Go, Message, Phase, Settings, SpdRead, Wire, programs, spd_seconds

X1 = fleetboard.load(DEFAULT_BOARD_FILE)
MINI = fleetboard.load(DEFAULT_BOARD_FILE.with_name("fleet-mini.toml"))


@pytest.mark.parametrize(
    ("message", "request_"),
    [
        (host_timeline.GET_DEVICE_ID, "18 01"),
        (host_timeline.SET_S2, "18 06 82 82"),
        (host_timeline.SET_S0, "18 06 80 80"),
        (host_timeline.SET_S5, "18 06 85 83"),
        # generator, event revision, sensor type, sensor number, type, data
        (host_timeline.MEMORY, "10 02 01 04 0f 51 6f c2 01 ff"),
        (host_timeline.BOOT_INITIATED, "10 02 01 04 0f 51 6f c2 13 ff"),
        (host_timeline.OS_BOOTED, "10 02 41 04 1f 1f 6f 01 ff ff"),
    ],
)
def test_messages(message: Message, request_: str) -> None:
    assert message.request.hex(" ") == request_


@pytest.mark.parametrize("board", [X1, MINI], ids=["x1", "mini"])
def test_programs_lead_somewhere_and_go_forward(board: fleetboard.Board) -> None:
    known = programs(board, Settings())
    for name, steps in known.items():
        assert [step.at for step in steps] == sorted(step.at for step in steps), name
        assert all(step.do.program in known for step in steps if isinstance(step.do, Go)), name


def test_order_of_a_post() -> None:
    steps = programs(X1, Settings())["post"]
    said = [step.do.label for step in steps if isinstance(step.do, Message)]
    assert said[:2] == ["Get Device ID", "Set ACPI Power State S2/D2"]
    kinds = [step.do for step in steps]
    assert [action.name for action in kinds if isinstance(action, Phase)] == ["SEC", "PEI", "DXE", "BDS"]
    spd = [index for index, action in enumerate(kinds) if isinstance(action, SpdRead)]
    assert kinds.index(host_timeline.SET_S2) < spd[0]  # the bus is asked for before it is used
    assert kinds.index(Wire("POST_COMPLETE", True)) > spd[-1]
    assert steps[-1].at == pytest.approx(4.0)


def test_the_scale_is_that_of_post_alone() -> None:
    slow, usual = programs(X1, Settings(post_scale=10)), programs(X1, Settings())
    assert slow["post"][-1].at == pytest.approx(10 * usual["post"][-1].at)
    assert {name: slow[name] for name in slow if name != "post"} == {
        name: usual[name] for name in usual if name != "post"
    }


@pytest.mark.parametrize(
    ("board", "dimms"),
    [(X1, [("dimm-a1-spd", 0, 0x50), ("dimm-b1-spd", 0, 0x51)]), (MINI, [("dimm-spd", 9, 0x52)])],
    ids=["x1", "mini"],
)
def test_dimms_are_those_of_the_board_file(board: fleetboard.Board, dimms: list[Any]) -> None:
    reads = [step.do for step in programs(board, Settings())["post"] if isinstance(step.do, SpdRead)]
    assert [(read.dimm, read.bus, read.address) for read in reads] == dimms


def test_time_of_an_spd_read() -> None:
    assert spd_seconds(100_000) == pytest.approx(0.02331)  # 259 bytes of nine clocks
    reads = [s.do for s in programs(X1, Settings(spd_hertz=400_000))["post"] if isinstance(s.do, SpdRead)]
    assert reads[0].seconds == pytest.approx(0.02331 / 4)


def test_settings_change() -> None:
    settings = Settings().changed({"post_scale": 2, "ipmi_tries": 1})
    assert (settings.post_scale, settings.ipmi_tries, settings.override) == (2, 1, 4.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"posting": 1}, "the host has no setting 'posting': there are post_scale, "),
        ({"post_scale": "2"}, "'2' is no value for post_scale"),
        ({"post_scale": -1}, "-1 is no value"),
        ({"post_scale": float("nan")}, "nan is no value"),
        ({"override": True}, "True is no value"),
        ({"ipmi_tries": 1.5}, "1.5 is no value"),
        ({"spd_hertz": 0}, "cannot be 0"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QemuError, match=message):
        Settings().changed(changes)
