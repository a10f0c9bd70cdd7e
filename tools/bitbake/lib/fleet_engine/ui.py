# SPDX-License-Identifier: GPL-2.0-only
# mypy: disable-error-code="import-not-found"
"""bitbake: runs the engine's command line, one user interface at a time per build directory."""

import fcntl
import io
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import bb
import bb.command
import bb.cookerdata
import bb.main
import bb.server.process

import fleet_engine

_LOCK = "bitbake-ui.lock"


class Refusal(Exception):
    """The user has to do something first; the message says what."""


class EventQueue(bb.server.process.BBUIEventQueue):  # type: ignore[misc]
    """The engine's event queue, but a server that dies ends the user interface at once.

    Without this, the user interface learns of it by the next ping, up to a minute later.
    """

    def __init__(self, descriptor: int) -> None:
        self._closing = threading.Event()
        super().__init__(descriptor)

    def startCallbackHandler(self) -> None:
        """Read events until the pipe ends (the engine runs this in a thread)."""
        super().startCallbackHandler()
        if not self._closing.is_set():
            self.queue_event(
                bb.command.CommandFailed(
                    "The BitBake server ended unexpectedly (killed, or out of memory?). "
                    "Its last words are in bitbake-cookerdaemon.log in the build directory."
                )
            )

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        super().close()


def main(argv: list[str]) -> int:
    """Run `bitbake` with the command line `argv` and return its exit code."""
    try:
        check_version()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # in logs, too, lines appear when they are said
        bb.server.process.BBUIEventQueue = EventQueue
        parameters = bb.main.BitBakeConfigParameters(argv)
        ours = not (parameters.remote_server or parameters.observe_only)
        with only_interface() if ours else nullcontext():
            return int(bb.main.bitbake_main(parameters, bb.cookerdata.CookerConfiguration()) or 0)
    except (Refusal, bb.main.BBMainException) as error:
        print(error, file=sys.stderr)
    except bb.BBHandledException:
        pass  # the engine has told the user
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return 1


def check_version() -> None:
    """Refuse (Refusal) to drive a `bb` package that these programs were not written for."""
    if bb.__version__ != fleet_engine.TESTED_VERSION:
        raise Refusal(
            f"bitbake: found BitBake {bb.__version__} in {Path(bb.__file__).parent}, but this engine works "
            f"with {fleet_engine.TESTED_VERSION} only. Run ./fleet setup to put the engine together again."
        )


@contextmanager
def only_interface() -> Iterator[None]:
    """Refuse (Refusal) to go on while another user interface works on the same build directory.

    The server takes one client; left alone, a second would stand in its queue and give up after
    minutes with a message about time-outs. The lock is the kernel's: it ends with its holder.
    """
    try:
        top = bb.cookerdata.findTopdir()
    except FileNotFoundError:
        raise Refusal("bitbake: the current directory does not exist any more.") from None
    if not Path(top, "conf").is_dir():
        yield  # no build directory: the engine will say so
        return
    try:
        lock = Path(top, _LOCK).open("a+", encoding="ascii")  # noqa: SIM115 - closed below
    except OSError as error:
        raise Refusal(f"bitbake: cannot write into the build directory: {error}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise Refusal(
                f"bitbake: another bitbake (process {holder}) is at work in {top}. Wait until it is done, "
                "or stop it with Ctrl-C; to build at the same time, use another build directory."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
