# SPDX-License-Identifier: Apache-2.0
"""Show a board's boot as it happens and tell the ways in."""

import codecs
import socket
import subprocess
import threading
import time

from fleet_cli import options
from fleet_cli.errors import Failed
from fleet_cli.output import Output
from fleet_qemu import Board, QemuError
from fleet_qemu.bootlog import BootLog
from fleet_qemu.ports import LOOPBACK
from fleet_qemu.rundir import State

_POLL_SECONDS = 0.1
_SSH_SECONDS = 30.0  # for one try; the emulated CPU is slow at key exchange


def watch(board: Board, limit: float, out: Output) -> dict[str, float]:
    """Print each boot phase when the serial console shows it, until SSH lets us in.

    Returns phase -> seconds since power on, `ssh` last. Raises Failed when that does not come within `limit`
    seconds, when the console shows that it will not come, or when QEMU ends.
    """
    state = board.state
    log = BootLog()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    times: dict[str, float] = {}
    probe = _SshProbe(board.ssh_command(), state.ports["ssh"])
    with board.console_log.open("rb") as console, probe:
        console.seek(state.console_offset)
        while True:
            restarts = log.restarts
            ssh_is_up = probe.up.wait(_POLL_SECONDS)  # before the read, so that no phase is missed
            reached = log.feed(decoder.decode(console.read()))
            seconds = time.time() - state.powered_on_at
            if log.restarts > restarts:
                out.say(f"  {seconds:6.1f} s  the board reset itself and boots again")
            for phase in reached:
                times[phase] = round(seconds, 1)
                out.say(f"  {seconds:6.1f} s  {phase}")
            if ssh_is_up:
                times["ssh"] = round(seconds, 1)
                out.say(f"  {seconds:6.1f} s  SSH answers")
                return times
            _check(board, log, seconds, limit)


def _check(board: Board, log: BootLog, seconds: float, limit: float) -> None:
    advice = f"./fleet console --log{options.board_flag(board.run.number)} shows its console"
    now: State = board.state
    if now.power != "on":
        why = now.exit_text or (f"exit code {now.exit_code}" if now.power == "lost" else "on request")
        raise Failed(f"board {now.number} lost power while it booted: QEMU ended ({why})", advice)
    if log.failure:
        raise Failed(f"board {now.number} does not boot: {log.failure}", advice)
    if seconds > limit:
        seen = f"its console got as far as {log.phase}" if log.phase else "its console said nothing known"
        raise Failed(f"board {now.number} does not answer by SSH after {limit:.0f} s; {seen}", advice)


class _SshProbe:
    """Tries to log in, beside the main thread, until it works: `up` is set."""

    def __init__(self, command: list[str], port: int) -> None:
        self.up = threading.Event()
        self._command = [*command, "true"]
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_SshProbe":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            if self._greets() and self._lets_in():
                self.up.set()
                return

    def _greets(self) -> bool:
        # QEMU takes the connection whether or not somebody listens in the guest: only the greeting counts
        try:
            with socket.create_connection((LOOPBACK, self._port), timeout=5) as sock:
                return sock.recv(4) == b"SSH-"
        except OSError:
            return False

    def _lets_in(self) -> bool:
        ssh = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + _SSH_SECONDS
        while ssh.poll() is None:
            if self._stop.wait(0.05) or time.monotonic() > end:
                ssh.kill()
                ssh.wait()
        return ssh.returncode == 0


def say_ways_in(board: Board, out: Output) -> None:
    """How to reach and to end the board."""
    flag = options.board_flag(board.run.number)
    state = board.state
    ports = ", ".join(f"{name} {port}" for name, port in state.ports.items())
    out.say(f"board {state.number} is on")
    ways = [
        (f"./fleet ssh{flag}", "a shell on the BMC"),
        (f"./fleet console{flag}", "its serial console"),
        (f"./fleet power{flag}", "the host's power and ACPI state, and how to change them"),
        (f"./fleet events{flag}", "the event log"),
        (f"./fleet collect{flag}", "logs and journal in one archive"),
        (f"./fleet down{flag}", "ends it"),
    ]
    for command, what in ways:
        out.say(f"  {command:28} {what}")
    out.say(f"  ports on {LOOPBACK}: {ports}")
    try:
        out.say(f"  user root, password in {board.credentials.password_file}")
    except QemuError:
        out.say("  no credentials: nobody can log in")
