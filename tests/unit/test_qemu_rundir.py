# SPDX-License-Identifier: Apache-2.0
import os
import socket
import stat
from pathlib import Path

import pytest

from fleet_qemu.errors import QemuError
from fleet_qemu.rundir import CONTROL_SOCKET, RunDir, State


def test_state_survives_writing_and_reading(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, 3)
    os.close(run.claim())
    state = State(3, owner="somebody", ports={"ssh": 2222}, exit_code=-9)
    run.write_state(state)
    assert run.read_state() == state


def test_no_state_is_the_empty_state(tmp_path: Path) -> None:
    assert RunDir.of(tmp_path, 3).read_state() == State(3)


def test_state_of_another_version_is_read() -> None:
    assert State.from_json({"number": 1, "power": "on", "from_the_future": 5}) == State(1, power="on")


def test_broken_state_is_a_clear_error(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, 0)
    os.close(run.claim())
    run.state_file.write_text("{")
    with pytest.raises(QemuError, match="remove it"):
        run.read_state()


def test_negative_number(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="negative"):
        RunDir.of(tmp_path, -1)


def test_folder_is_its_owners_only(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, 0)
    os.close(run.claim())
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700


def test_claimed_twice_says_who_has_it_and_how_to_stop_it(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, 4)
    lock = run.claim()
    run.write_state(State(4, owner="alice", command="./fleet up", supervisor=4711))
    with pytest.raises(QemuError) as caught:
        RunDir.of(tmp_path, 4).claim()
    assert "alice" in caught.value.message
    assert "4711" in caught.value.message
    assert "./fleet down --board 4" in caught.value.remedy
    assert run.in_use()
    os.close(lock)
    assert not run.in_use()
    run.check_free()


def test_lock_lasts_as_long_as_any_copy_of_its_descriptor(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, 0)
    lock = run.claim()
    copy = os.dup(lock)  # as QEMU inherits it
    os.close(lock)
    assert run.in_use()
    os.close(copy)
    assert not run.in_use()


def test_claim_removes_sockets_of_a_killed_supervisor(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, 0)
    os.close(run.claim())
    (run.path / CONTROL_SOCKET).touch()
    os.close(run.claim())
    assert not (run.path / CONTROL_SOCKET).exists()


def test_asking_makes_no_folder(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path / "boards", 0)
    assert not run.in_use()
    assert RunDir.all(tmp_path / "boards") == []
    assert not (tmp_path / "boards").exists()


def test_all_boards_by_number(tmp_path: Path) -> None:
    for number in (10, 2):
        os.close(RunDir.of(tmp_path, number).claim())
    (tmp_path / "notes").mkdir()
    assert [run.number for run in RunDir.all(tmp_path)] == [2, 10]


def test_connect_through_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path / ("d" * 100) / ("e" * 100), 0)
    os.close(run.claim())
    folder = os.open(run.path, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{folder}/{CONTROL_SOCKET}")
        server.listen()
        run.connect().close()
    os.close(folder)


def test_connect_to_nobody(tmp_path: Path) -> None:
    run = RunDir.of(tmp_path, 0)
    os.close(run.claim())
    with pytest.raises(OSError, match="No such file"):
        run.connect()
