# SPDX-License-Identifier: Apache-2.0
"""The commands around a board, as processes, on a real QEMU."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 60.0

MakeImage = Callable[..., Path]
Done = subprocess.CompletedProcess[str]


class Fleet:
    """Runs the fleet command with boards in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.boards = folder / "boards"
        path = [REPOSITORY / part for part in ("tools", "qemu", "meta-fleet/bsp/lib", "meta-fleet/core/lib")]
        self.env = {
            **os.environ,
            "FLEET_BOARDS": str(self.boards),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
        }

    def argv(self, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "fleet_cli", *map(str, args)]

    def __call__(self, *args: str | Path, code: int = 0, **env: str) -> Done:
        done = subprocess.run(
            self.argv(*args),
            cwd=REPOSITORY,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        return done

    def json(self, *args: str | Path) -> Any:
        return json.loads(self(*args, "--json").stdout)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet("down", "--all")


def until_log(fleet: Fleet, board: int, text: str) -> None:
    log = fleet.boards / str(board) / "console.log"
    end = time.monotonic() + SECONDS
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < end, f"no {text!r} on the console within {SECONDS} s"
        time.sleep(0.05)


def test_life_of_two_boards(fleet: Fleet, guest_image: MakeImage) -> None:
    image = guest_image()
    assert fleet.json("status") == []
    for number in ("0", "1"):
        fleet("flash", image, "--unverified", "--board", number)
        state = fleet.json("run", "--no-wait", "--board", number)
        assert (state["number"], state["power"], state["image"]) == (int(number), "on", str(image))
    first, second = fleet.json("status")
    assert first["running"]
    assert second["running"]
    assert first["ports"] != second["ports"]
    until_log(fleet, 1, "hello")
    assert fleet("console", "--log", "--board", "1").stdout == "hello\n"  # read in text mode

    in_use = fleet("run", "--board", "1", code=2)
    assert f"process {second['supervisor']}" in in_use.stderr
    assert "./fleet down --board 1" in in_use.stderr
    assert "./fleet run --no-wait --board 1 --json" in in_use.stderr  # what started it
    fleet("flash", image, "--unverified", "--board", "1", code=2)  # not under a running board

    assert fleet.json("down", "--board", "1") == {"down": [1]}
    assert [board["running"] for board in fleet.json("status")] == [True, False]
    assert fleet.json("down", "--board", "1") == {"down": []}
    assert fleet.json("down", "--all") == {"down": [0]}
    assert not Path(f"/proc/{first['qemu']}").exists()
    fleet("run", "--no-wait")  # its flash is still there


def test_a_boot_that_does_not_come_up(fleet: Fleet, guest_image: MakeImage) -> None:
    fleet("flash", guest_image("U-Boot SPL 2025.01\r\n\r\nU-Boot 2025.01\r\n"), "--unverified")
    done = fleet("run", "--boot-timeout", "2", code=1)
    assert [line.split(" s  ")[1] for line in done.stdout.splitlines()] == ["SPL", "U-Boot"]
    assert "does not answer by SSH after 2 s; its console got as far as U-Boot" in done.stderr
    assert fleet.json("status")[0]["power"] == "on"  # left as it is, to be looked at


def test_flash_gives_new_credentials(fleet: Fleet, guest_image: MakeImage) -> None:
    credentials = fleet.boards / "0" / "credentials"
    fleet("flash", guest_image(), "--unverified")
    before = (credentials / "password").read_text()
    fleet("flash", guest_image(), "--unverified")
    assert (credentials / "password").read_text() != before


def test_collect_has_the_logs_and_no_secret(fleet: Fleet, guest_image: MakeImage, tmp_path: Path) -> None:
    fleet("flash", guest_image(), "--unverified")
    fleet("run", "--no-wait")
    until_log(fleet, 0, "hello")
    fleet("down")
    archive = tmp_path / "out" / "collected.tar.gz"
    result = fleet.json("collect", "--output", archive)
    assert result["archive"] == str(archive)
    assert result["bmc_silent"] == "it does not run"
    password = (fleet.boards / "0" / "credentials" / "password").read_text().strip().encode()
    with tarfile.open(archive) as tar:
        names = {Path(name).name for name in tar.getnames()}
        contents = b"".join(
            file.read() for member in tar.getmembers() if (file := tar.extractfile(member)) is not None
        )
    assert {"console.log", "host.log", "qemu.log", "events.jsonl", "state.json", "board.toml"} <= names
    assert b"hello" in contents
    assert password not in contents
    assert b"PRIVATE KEY" not in contents


class Terminal:
    """A person at a terminal, who runs a command."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execve(argv[0], argv, env)
        self.seen = b""

    def expect(self, text: bytes) -> None:
        end = time.monotonic() + SECONDS
        while text not in self.seen:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {text!r} within {SECONDS} s, but {self.seen!r}"
            try:
                self.seen += os.read(self._terminal, 4096)
            except OSError:  # the command has ended
                raise AssertionError(f"no {text!r}, but {self.seen!r}") from None
        self.seen = self.seen.partition(text)[2]

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def exit_code(self) -> int:
        end = time.monotonic() + SECONDS
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end, f"it does not end within {SECONDS} s"
            time.sleep(0.05)

    def close(self) -> None:
        os.close(self._terminal)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


@pytest.fixture
def console(fleet: Fleet, guest_image: MakeImage) -> Iterator[Terminal]:
    fleet("flash", guest_image("ready\r\n", echo=True), "--unverified")
    fleet("run", "--no-wait")
    until_log(fleet, 0, "ready")
    terminal = Terminal(fleet.argv("console"), fleet.env)
    yield terminal
    terminal.close()


def test_console(console: Terminal) -> None:
    console.expect(b"ready")  # what it said before
    console.type(b"q")
    console.expect(b"q")  # from the guest: the terminal is raw and echoes nothing
    console.type(b"\x1d")
    assert console.exit_code() == 0


def test_console_ends_when_the_board_does(console: Terminal, fleet: Fleet) -> None:
    console.expect(b"ready")
    fleet("down")
    console.expect(b"board 0 lost power")
    assert console.exit_code() == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("flash", "/nonexistent.img"), "there is no flash image /nonexistent.img"),
        (("ssh",), "board 0 is not running"),
        (("console",), "board 0 is not running"),
        (("console", "--log"), "board 0 has no log yet"),
        (("collect",), "board 0 has never run"),
        (("run", "--board", "-1"), "board number -1 is negative"),
        (("run", "--port", "ssh"), "'ssh' is not NAME=PORT"),
        (("up", "--machine", "toaster"), "invalid choice: 'toaster'"),
        (("frobnicate",), "invalid choice: 'frobnicate'"),
        ((), "required: COMMAND"),
    ],
)
def test_user_errors_are_one_message(fleet: Fleet, args: tuple[str, ...], message: str) -> None:
    assert message in fleet(*args, code=2).stderr


def test_flash_refuses_a_truncated_image(fleet: Fleet, guest_image: MakeImage) -> None:
    done = fleet("flash", guest_image(size=1 << 20), code=2)
    assert "is truncated: 1048576 bytes" in done.stderr
    assert len(done.stderr.splitlines()) == 2  # what is wrong, what to do


def test_up_says_that_qemu_is_too_old_before_it_builds(fleet: Fleet, tmp_path: Path) -> None:
    old = tmp_path / "qemu"
    old.write_text("#!/bin/sh\necho QEMU emulator version 5.2.0\n")
    old.chmod(0o755)
    done = fleet("up", code=2, FLEET_QEMU=str(old))
    assert "is QEMU 5.2, the board fleet-x1 needs 7.2 or newer" in done.stderr
    assert "[2/4]" not in done.stdout


def test_up_says_that_the_board_is_in_use_before_it_builds(fleet: Fleet, guest_image: MakeImage) -> None:
    fleet("flash", guest_image(), "--unverified")
    fleet("run", "--no-wait")
    done = fleet("up", code=2)
    assert "board 0 is in use" in done.stderr
    assert "[2/4]" not in done.stdout


def test_help_of_every_command(fleet: Fleet) -> None:
    from fleet_cli.commands import COMMANDS

    for name in COMMANDS:
        assert f"usage: fleet {name}" in fleet(name, "--help").stdout


def test_a_reader_that_has_enough_is_no_error(fleet: Fleet) -> None:
    process = subprocess.Popen(
        fleet.argv("status", "--json"), env=fleet.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.close()
    _, errors = process.communicate(timeout=SECONDS)
    assert b"Traceback" not in errors
    assert process.returncode in (0, -signal.SIGPIPE)
