# SPDX-License-Identifier: Apache-2.0
"""Boards from start to end, on a real QEMU with a guest of a few instructions."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

import fleetboard
from fleet_qemu import Board, QemuError
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.rundir import RunDir

SECONDS = 60.0  # bound of every wait; the waits end with the event
DEFINITION = fleetboard.load(DEFAULT_BOARD_FILE)
# Below 16 MiB, where the flash controller reaches without any set-up by firmware.
ENV = DEFINITION.flash.partition("u-boot-env")

MakeImage = Callable[..., Path]


class StartBoard(Protocol):
    """Starts a board that ends with the test."""

    def __call__(self, image: Path | None = ..., /, **options: Any) -> Board: ...


@pytest.fixture
def start(tmp_path: Path, guest_image: MakeImage) -> Iterator[StartBoard]:
    boards: list[Board] = []

    def start_board(image: Path | None = None, /, **options: Any) -> Board:
        defaults = {"root": tmp_path / "boards", "verify": False, "provisioned": False}
        board = Board.start(image or guest_image(), **{**defaults, **options})
        boards.append(board)
        return board

    yield start_board
    for board in boards:
        board.close()


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {SECONDS} s"
        time.sleep(0.05)


def runs(pid: int | None) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def sockets_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_socket()]


def says(board: Board, text: str, times: int = 1) -> None:
    board.wait(lambda _: board.console_text().count(text) >= times, SECONDS)


def human(board: Board, command: str) -> str:
    answer: str = board.qmp("human-monitor-command", **{"command-line": command})
    return answer


# --- consoles and ports ---


def test_guest_runs_and_its_console_is_logged_though_nobody_reads_it(start: StartBoard) -> None:
    board = start()
    says(board, "hello\r\n")
    assert board.console_log.read_bytes() == b"hello\r\n"
    assert board.state.power == "on"


def test_console_pty_carries_both_ways(start: StartBoard, guest_image: MakeImage) -> None:
    board = start(guest_image("ready\r\n", echo=True))
    says(board, "ready")
    terminal = os.open(board.console_pty, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(terminal, b"x")
        ready, _, _ = select.select([terminal], [], [], SECONDS)
        assert ready
        assert os.read(terminal, 100) == b"x"
    finally:
        os.close(terminal)
    assert board.host_pty not in ("", board.console_pty)


def test_everything_listens_on_loopback_only(start: StartBoard) -> None:
    board = start()
    process = Path(f"/proc/{board.state.qemu}")
    links = [str(descriptor.readlink()) for descriptor in (process / "fd").iterdir()]
    inodes = {match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}
    ports = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in (process / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                address, port = fields[1].split(":")
                assert address == "0100007F", line  # 127.0.0.1
                ports.append(int(port, 16))
    assert sorted(ports) == sorted(board.ports.values())
    assert set(board.ports) == {forward.name for forward in DEFINITION.network.forwards}


def test_pinned_port(start: StartBoard) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert start(ports={"ssh": port}).ports["ssh"] == port


def test_pinned_port_in_use(start: StartBoard, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(QemuError, match=f"port {port} of 127.0.0.1 for ssh is in use"):
            start(number=0, ports={"ssh": port})
    assert not RunDir.of(tmp_path / "boards", 0).in_use()


@pytest.mark.parametrize(
    ("ports", "message"),
    [({"telnet": 23}, "has no service 'telnet': there are ssh"), ({"ssh": 70000}, "out of range")],
)
def test_wrong_ports(start: StartBoard, ports: dict[str, int], message: str) -> None:
    with pytest.raises(QemuError, match=message):
        start(ports=ports)


# --- several boards ---


def test_boards_side_by_side(start: StartBoard) -> None:
    boards = [start() for _ in range(3)]
    states = [board.state for board in boards]
    assert [state.number for state in states] == [0, 1, 2]
    assert len({state.qemu for state in states}) == 3
    assert len({item for state in states for item in state.ports.items()}) == sum(
        len(s.ports) for s in states
    )
    for board in boards:
        says(board, "hello")
    boards[1].power_off()
    assert [board.state.power for board in boards] == ["on", "off", "on"]


def test_number_in_use(start: StartBoard) -> None:
    board = start(number=5)
    with pytest.raises(QemuError, match=r"board 5 is in use by .*\(process \d+") as caught:
        start(number=5)
    assert str(board.state.supervisor) in caught.value.message
    assert "./fleet down --board 5" in caught.value.remedy
    assert board.state.power == "on"


def test_qemu_holds_the_lock_too(start: StartBoard) -> None:
    """Or a new board could start on a flash copy that the QEMU of a killed supervisor still writes."""
    board = start()
    open_files = {descriptor.readlink() for descriptor in Path(f"/proc/{board.state.qemu}/fd").iterdir()}
    assert board.run.path / "lock" in open_files


def test_number_is_free_again_after_close(start: StartBoard) -> None:
    start(number=0).close()
    start(number=0)


def test_attach_and_end_from_elsewhere(start: StartBoard, tmp_path: Path) -> None:
    board = start(number=2)
    Board.attach(2, root=tmp_path / "boards").close()
    with pytest.raises(QemuError, match="supervisor of board 2 has ended"):
        board.power_on()


def test_attach_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="board 3 is not running"):
        Board.attach(3, root=tmp_path)


# --- power ---


def test_power_cut_keeps_the_flash(start: StartBoard) -> None:
    board = start()
    human(board, f'qemu-io mtd0 "write -P 0xa5 {ENV.offset:#x} 4096"')
    before = board.state
    state = board.power_off()
    assert (state.power, state.qemu, state.exit_code) == ("off", None, -signal.SIGKILL)
    assert not runs(before.qemu)
    with board.run.flash.open("rb") as flash:
        flash.seek(ENV.offset)
        assert flash.read(4096) == b"\xa5" * 4096
    state = board.power_on()
    assert (state.power, state.power_ons) == ("on", 2)
    assert state.qemu != before.qemu
    # and the guest sees it, where the SoC maps the flash
    assert "0xa5a5a5a5" in human(board, f"xp /1xw {DEFINITION.flash.mapped_at + ENV.offset:#x}")
    says(board, "hello")  # console_text starts anew ...
    assert board.console_log.read_bytes() == b"hello\r\n" * 2  # ... the log goes on
    assert board.console_text() == "hello\r\n"


def test_power_cut_keeps_what_the_flash_chip_has_taken(start: StartBoard) -> None:
    """A page that the guest was told is programmed may still wait for the disk, here a very slow one."""
    board = start()
    no_limit = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd"), 0)
    board.qmp("block_set_io_throttle", device="mtd0", iops_wr=1, **no_limit)
    pages = range(ENV.offset, ENV.offset + 8 * 256, 256)
    for page in pages:
        human(board, f'qemu-io mtd0 "aio_write -q -P 0xa5 {page:#x} 256"')
    board.power_off()
    with board.run.flash.open("rb") as flash:
        flash.seek(ENV.offset)
        assert flash.read(8 * 256) == b"\xa5" * 8 * 256


def test_ports_are_kept_while_the_power_is_off(start: StartBoard) -> None:
    board = start()
    ports = board.ports
    board.power_off()
    for name, kind in (("ssh", socket.SOCK_STREAM), ("ipmi", socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_INET, kind) as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", ports[name]))
    board.power_on()
    assert board.ports == ports


def test_a_stolen_port_is_replaced(start: StartBoard) -> None:
    board = start()
    stolen = board.ports["ssh"]
    board.power_off()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # gets past one that does not listen
        thief.bind(("127.0.0.1", stolen))
        thief.listen()
        assert board.power_on().power == "on"
    assert board.ports["ssh"] != stolen


def test_power_on_twice_is_one_power_on(start: StartBoard) -> None:
    board = start()
    assert board.power_on().qemu == board.state.qemu
    assert board.state.power_ons == 1


def test_end_in_order(start: StartBoard) -> None:
    board = start()
    state = board.end_qemu()
    assert (state.power, state.exit_code) == ("off", 0)


def test_reset_is_counted_and_the_guest_starts_over(start: StartBoard) -> None:
    board = start()
    says(board, "hello")
    qemu = board.state.qemu
    board.reset()
    says(board, "hello", times=2)
    state = board.wait(lambda state: state.resets == 1, SECONDS)
    assert state.qemu == qemu


def test_qemu_that_ends_by_itself_is_noticed(start: StartBoard) -> None:
    board = start()
    pid = board.state.qemu
    assert pid
    os.kill(pid, signal.SIGSEGV)
    state = board.wait(lambda state: state.power == "lost", SECONDS)
    assert (state.qemu, state.exit_code) == (None, -signal.SIGSEGV)
    assert board.power_on().power == "on"


def test_events_are_on_record(start: StartBoard) -> None:
    board = start()
    board.power_off()
    board.power_on()
    board.close()
    events = [json.loads(line) for line in board.run.events_log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["power-on", "power-cut", "power-on", "power-off", "quit"]
    assert events == sorted(events, key=lambda event: float(event["time"]))


def test_qmp(start: StartBoard) -> None:
    board = start()
    assert board.qmp("qom-get", path="/machine", property="type") == "ast2600-evb-machine"
    with pytest.raises(QemuError, match="command nonsense has not been found"):
        board.qmp("nonsense")
    board.power_off()
    with pytest.raises(QemuError, match="has no power"):
        board.qmp("query-status")


def test_requests_that_make_no_sense_are_answered(start: StartBoard) -> None:
    board = start()
    with board.run.connect() as control, control.makefile("rb") as answers:
        for request in (
            b"garbage",
            b"[]",
            b'{"do": "explode", "id": 9}',
            b'{"id": 1}',
            b'{"do": "status", "id": 2}',
        ):
            control.sendall(request + b"\n")
        parsed = [json.loads(answers.readline()) for _ in range(5)]
    assert ["error" in answer for answer in parsed] == [True, True, True, True, False]
    assert parsed[2]["id"] == 9
    assert "explode" in parsed[2]["error"]


# --- nothing is left ---


def test_close_leaves_nothing(start: StartBoard) -> None:
    board = start()
    state = board.state
    board.close()
    assert not runs(state.qemu)
    assert not runs(state.supervisor)
    assert sockets_in(board.run.path) == []
    assert not board.run.flash.exists()
    assert board.console_log.exists()  # what explains a failure stays
    assert board.run.supervisor_log.read_text() == ""
    board.close()  # a second time does nothing


RUNNER = """
import json, os, sys, time
from pathlib import Path
from fleet_qemu import Board
if __name__ == "__main__":
    image, root, forks = sys.argv[1:]
    board = Board.start(Path(image), 0, root=Path(root), verify=False, provisioned=False)
    if forks == "yes" and os.fork() == 0:
        time.sleep(600)  # a worker that outlives the runner, with a copy of all its descriptors
    print(json.dumps({**board.state.to_json(), "me": os.getpid()}), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def runner(tmp_path: Path, guest_image: MakeImage) -> Iterator[Callable[[bool], "subprocess.Popen[str]"]]:
    """Start a process of its own that starts board 0."""
    processes: list[subprocess.Popen[str]] = []

    def start_runner(forks: bool) -> "subprocess.Popen[str]":
        argv = [
            sys.executable,
            "-c",
            RUNNER,
            str(guest_image()),
            str(tmp_path / "boards"),
            "yes" if forks else "no",
        ]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True)
        processes.append(process)
        return process

    yield start_runner
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)  # also its forked worker
        process.communicate()


@pytest.mark.parametrize("forks", [False, True], ids=["alone", "with a forked worker"])
def test_killed_runner_leaves_nothing(
    runner: Callable[[bool], "subprocess.Popen[str]"], tmp_path: Path, forks: bool
) -> None:
    process = runner(forks)
    assert process.stdout
    state = json.loads(process.stdout.readline())
    assert runs(state["qemu"])
    assert runs(state["supervisor"])
    os.kill(state["me"], signal.SIGKILL)
    until(lambda: not runs(state["qemu"]), "QEMU ends")
    until(lambda: not runs(state["supervisor"]), "the supervisor ends")
    run = RunDir.of(tmp_path / "boards", 0)
    assert sockets_in(run.path) == []
    assert not run.flash.exists()
    assert not run.in_use()


def test_killed_supervisor_leaves_nothing(start: StartBoard) -> None:
    board = start(number=0)
    state = board.state
    os.kill(state.supervisor, signal.SIGKILL)
    until(lambda: not runs(state.qemu), "QEMU ends")
    with pytest.raises(QemuError, match="supervisor of board 0 has ended"):
        board.power_off()
    board.close()
    assert sockets_in(board.run.path) == []
    assert start(number=0).state.power == "on"


def test_terminated_supervisor_ends_in_order(start: StartBoard) -> None:
    board = start()
    state = board.state
    os.kill(state.supervisor, signal.SIGTERM)
    until(lambda: not runs(state.supervisor), "the supervisor ends")
    assert not runs(state.qemu)
    assert sockets_in(board.run.path) == []


def test_detached_board_outlives_its_handle(start: StartBoard, tmp_path: Path) -> None:
    board = start(number=0, detached=True)
    state = board.state
    board._stream.close()
    board._control.close()  # as at the end of the process that started it
    again = Board.attach(0, root=tmp_path / "boards")
    assert again.state.qemu == state.qemu
    again.close()
    assert not runs(state.qemu)
    assert again.run.flash.exists()  # it keeps its flash for the next run
    kept = start(number=0)
    kept.close()


# --- what can be wrong ---


def test_next_run_finds_the_flash_as_it_was_left(start: StartBoard, tmp_path: Path) -> None:
    board = start(number=0, keep_flash=True)
    human(board, f'qemu-io mtd0 "write -P 0x5a {ENV.offset:#x} 512"')
    board.close()
    again = Board.start(None, 0, root=tmp_path / "boards")
    with again:
        assert "0x5a5a5a5a" in human(again, f"xp /1xw {DEFINITION.flash.mapped_at + ENV.offset:#x}")
        assert again.state.image == board.run.read_state().image


def test_run_without_a_flash(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="board 0 has no flash yet: write one with"):
        Board.start(None, 0, root=tmp_path)
    assert not RunDir.of(tmp_path, 0).in_use()


def test_truncated_image(start: StartBoard, guest_image: MakeImage, tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="is truncated"):
        start(guest_image(size=64 << 20))
    assert not (tmp_path / "boards").exists()


def test_image_that_is_no_firmware(start: StartBoard) -> None:
    with pytest.raises(QemuError, match="is damaged"):
        start(verify=True)


def test_old_qemu(start: StartBoard, tmp_path: Path) -> None:
    old = tmp_path / "old-qemu"
    old.write_text("#!/bin/sh\necho QEMU emulator version 6.2.0\n")
    old.chmod(0o755)
    with pytest.raises(QemuError, match=r"is QEMU 6\.2, .* needs 7\.2 or newer"):
        start(qemu=str(old))


def test_qemu_that_does_not_start_says_why(start: StartBoard, tmp_path: Path) -> None:
    broken = tmp_path / "broken-qemu"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo QEMU emulator version 9.0.0; exit; }\n'
        "echo '2026-11-25T00:00:00.000001Z broken-qemu: no such machine' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    with pytest.raises(QemuError, match="QEMU did not start: broken-qemu: no such machine"):
        start(number=0, qemu=str(broken))
    assert not RunDir.of(tmp_path / "boards", 0).in_use()


def test_deep_checkout(start: StartBoard, tmp_path: Path) -> None:
    """A socket's path may be 107 bytes, that of this checkout is longer; and it has a comma and a space."""
    root = tmp_path / ("deep, " + "d" * 90) / ("e" * 90)
    board = start(root=root)
    assert len(str(board.run.path)) > 200
    says(board, "hello")
    Board.attach(board.run.number, root=root).power_off()
    assert board.state.power == "off"
