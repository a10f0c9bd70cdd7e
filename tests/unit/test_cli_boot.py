# SPDX-License-Identifier: Apache-2.0
"""Watching a boot, with a board that only pretends."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fleet_cli import boot
from fleet_cli.errors import Failed
from fleet_cli.output import Output
from fleet_qemu import Board
from fleet_qemu.rundir import State

BOOT = "U-Boot SPL 2025.01\r\nU-Boot 2025.01\r\n[ 0.0] Booting Linux on physical CPU 0x0\r\n"


@contextlib.contextmanager
def ssh_server(greeting: bytes) -> Iterator[int]:
    """Something on a port of loopback that greets and hangs up; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    client.sendall(greeting)
                    client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


class FakeBoard:
    """As much of a Board as boot.watch looks at."""

    def __init__(self, folder: Path, ssh_port: int, ssh: list[str]) -> None:
        self.run = SimpleNamespace(number=3)
        self.console_log = folder / "console.log"
        self.console_log.write_text("of an earlier power on\r\n")
        self.state = State(
            3,
            power="on",
            powered_on_at=time.time(),
            console_offset=self.console_log.stat().st_size,
            ports={"ssh": ssh_port},
        )
        self._ssh = ssh

    def ssh_command(self) -> list[str]:
        return self._ssh

    def says(self, text: str) -> None:
        with self.console_log.open("a") as log:
            log.write(text)


def watch(board: FakeBoard, seconds: float = 60.0) -> dict[str, float]:
    return boot.watch(cast(Board, board), seconds, Output(as_json=False))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Callable[..., FakeBoard]]:
    with contextlib.ExitStack() as servers:

        def make(greeting: bytes = b"SSH-2.0-dropbear\r\n", ssh: str = "exit 0") -> FakeBoard:
            port = servers.enter_context(ssh_server(greeting))
            return FakeBoard(tmp_path, port, ["sh", "-c", ssh, "ssh"])

        yield make


def test_phases_and_times(board: Callable[..., FakeBoard], capsys: pytest.CaptureFixture[str]) -> None:
    fake = board()
    fake.says(BOOT)
    times = watch(fake)
    assert list(times) == ["SPL", "U-Boot", "kernel", "ssh"]
    assert sorted(times.values()) == list(times.values())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" s  ")[1] for line in lines] == ["SPL", "U-Boot", "kernel", "SSH answers"]


def test_ssh_that_greets_but_refuses_is_not_up(board: Callable[..., FakeBoard]) -> None:
    fake = board(ssh="exit 255")
    fake.says(BOOT)
    with pytest.raises(Failed, match="does not answer by SSH after 2 s; its console got as far as kernel"):
        watch(fake, 2.0)


def test_port_without_a_greeting_is_not_up(board: Callable[..., FakeBoard]) -> None:
    with pytest.raises(Failed, match="its console said nothing known"):
        watch(board(greeting=b""), 2.0)


def test_hanging_ssh_does_not_hang_us(board: Callable[..., FakeBoard]) -> None:
    with pytest.raises(Failed, match="does not answer"):
        watch(board(ssh="exec sleep 600"), 2.0)


def test_panic_ends_the_wait(board: Callable[..., FakeBoard]) -> None:
    fake = board(greeting=b"")
    fake.says(BOOT + "[ 1.0] Kernel panic - not syncing: no root\r\n")
    with pytest.raises(Failed, match=r"board 3 does not boot: the kernel panicked: .*no root") as caught:
        watch(fake)
    assert caught.value.remedy == "./fleet console --log --board 3 shows its console"


def test_end_of_qemu_ends_the_wait(board: Callable[..., FakeBoard]) -> None:
    fake = board(greeting=b"")
    fake.state.power, fake.state.exit_text = "lost", "qemu-system-arm: out of memory"
    with pytest.raises(Failed, match=r"lost power while it booted: QEMU ended \(.*out of memory\)"):
        watch(fake)


def test_a_reset_in_between_is_told(
    board: Callable[..., FakeBoard], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake = board(ssh=f"test -e {tmp_path / 'up'}")
    fake.says(BOOT + BOOT)
    (tmp_path / "up").touch()
    assert list(watch(fake)) == ["SPL", "U-Boot", "kernel", "ssh"]
    assert "the board reset itself" in capsys.readouterr().out


def test_json_keeps_stdout_for_the_result(
    board: Callable[..., FakeBoard], capsys: pytest.CaptureFixture[str]
) -> None:
    fake = board()
    fake.says(BOOT)
    out = Output(as_json=True)
    out.result(boot.watch(cast(Board, fake), 60.0, out))
    captured = capsys.readouterr()
    assert "SPL" in json.loads(captured.out)
    assert "SSH answers" in captured.err
