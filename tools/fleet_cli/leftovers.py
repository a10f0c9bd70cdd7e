# SPDX-License-Identifier: Apache-2.0
"""Find and end processes that a command left running, however they detached themselves."""

import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt() -> None:
    """From now on, orphans among our descendants become our children instead of init's."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(grace_seconds: float) -> list[str]:
    """Give our children `grace_seconds` to end, then end them and theirs; what was left running."""
    deadline = time.monotonic() + grace_seconds
    while _children() and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [_name(pid) for pid in _children()]
    for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        # a child's children become ours when it ends, so look again each time
        deadline = time.monotonic() + seconds
        while (pids := _children()) and time.monotonic() < deadline:
            for pid in pids:
                os.kill(pid, number)
            time.sleep(0.1)
    return left


def _children() -> list[int]:
    """Our living children; dead ones are reaped."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return []
        if pid == 0:
            break
    me = os.getpid()
    return [int(word) for word in Path(f"/proc/{me}/task/{me}/children").read_text().split()]


def _name(pid: int) -> str:
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        argv = "?"
    return f"{pid} {argv[:100]}"
