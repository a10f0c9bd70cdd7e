# SPDX-License-Identifier: GPL-2.0-only
# mypy: disable-error-code="import-not-found"
"""bitbake: runs the engine's command line, one user interface at a time per build directory."""

import fcntl
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import bb
import bb.command
import bb.cookerdata
import bb.main
import bb.server.process

import fleet_engine

_LOCK = "bitbake-ui.lock"
_POLL_SECONDS = 0.25
"""How often the reading thread looks whether the queue was closed under it."""


class Refusal(Exception):
    """The user has to do something first; the message says what."""


_SECOND_INTERRUPT_SECONDS = 0.5
"""When a second interrupt follows the first one: that one only keeps further tasks from starting."""

_PIPE_ENDED = (EOFError, OSError, TypeError)
"""What reading from a pipe raises that the other side, or another thread here, has closed."""


class EventQueue(bb.server.process.BBUIEventQueue):  # type: ignore[misc]
    """The engine's queue of events from the server, without two faults.

    There, the user interface may ask for the events that explain a failed command before the thread
    that reads them has had its turn, and then ends without a word. And the death of the server is
    noticed only by the next ping, up to a minute later.
    """

    def __init__(self, descriptor: int) -> None:
        self._closing = threading.Event()
        self._taking = threading.Lock()
        super().__init__(descriptor)

    def startCallbackHandler(self) -> None:
        """Take events as they come, until the pipe ends (the engine runs this in a thread)."""
        with suppress(*_PIPE_ENDED):
            while True:
                if self.reader.wait(_POLL_SECONDS):
                    self._take()
        if not self._closing.is_set():
            self.queue_event(
                bb.command.CommandFailed(
                    "The BitBake server ended unexpectedly (killed, or out of memory?). "
                    "Its last words are in bitbake-cookerdaemon.log in the build directory."
                )
            )

    def waitEvent(self, delay: float) -> Any:
        """Return the next event, waiting up to `delay` seconds, or None; 0 misses none that was sent."""
        event = super().waitEvent(delay)
        if event is None:
            with suppress(*_PIPE_ENDED):
                self._take()
            event = self.getEvent()
        return event

    def _take(self) -> None:
        """Move one event from the pipe, if it holds one, into the queue."""
        with self._taking:
            if self.reader.poll(0):
                self.queue_event(self.reader.get())

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
        stop_build_on_signals()
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


def stop_build_on_signals() -> None:
    """Let SIGTERM (kas was interrupted) and SIGHUP (the terminal is gone) do what Ctrl-C twice does.

    Otherwise the user interface would be gone at once, and the server would go on building for half
    a minute, unseen, with its lock held.
    """

    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        if number != signal.SIGALRM:
            signal.setitimer(signal.ITIMER_REAL, _SECOND_INTERRUPT_SECONDS)
        raise KeyboardInterrupt

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)


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
