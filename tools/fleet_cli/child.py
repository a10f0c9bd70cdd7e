# SPDX-License-Identifier: Apache-2.0
"""Run a program in the foreground and never leave it behind."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from fleet_cli.errors import UserError
from fleet_qemu.process import die_with_parent

_GRACE_SECONDS = 30.0  # for BitBake to end its tasks


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str | None] | None = None,
    stdout: TextIO | None = None,
) -> int:
    """Run `argv` to its end with `env` added to the environment (None takes a variable away); its exit code.

    When this process is interrupted, the program gets time to end (the terminal has interrupted it, too),
    then SIGTERM, then SIGKILL. When this process is killed, the program gets SIGTERM. Raises UserError when
    it cannot be started.
    """
    try:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env={name: value for name, value in {**os.environ, **(env or {})}.items() if value is not None},
            stdout=stdout,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
    except OSError as error:
        raise UserError(f"{argv[0]} cannot be run ({error.strerror})", "run './fleet setup'") from None
    try:
        return _wait_and_reap(child)
    except KeyboardInterrupt:
        _wait(child)
        raise
    finally:
        if child.poll() is None:
            child.terminate()
            if not _wait(child):
                child.kill()
                child.wait()


def _wait_and_reap(child: "subprocess.Popen[bytes]") -> int:
    """Wait for `child`; orphans that became ours (leftovers.py) and end meanwhile do not stay zombies."""
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is not None and ended.si_pid == child.pid:
            return child.wait()
        if ended is not None:
            os.waitpid(ended.si_pid, 0)


def _wait(child: "subprocess.Popen[bytes]") -> bool:
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True
