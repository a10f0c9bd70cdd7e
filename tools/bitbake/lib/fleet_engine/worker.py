# SPDX-License-Identifier: GPL-2.0-only
# mypy: disable-error-code="import-not-found"
"""bitbake-worker: forks one child per task and carries the children's events to the server.

One thread, one loop around poll(). Nothing in it waits for a single peer: the server's requests
are read even while it does not take our replies, replies queue up here, and when too many do, the
tasks (never the server) are made to wait. That is why no amount of events can lock the two up.
"""

import logging
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import bb
import bb.build
import bb.cookerdata
import bb.event
import bb.msg
import bb.utils

from fleet_engine import framing, task

logger = logging.getLogger("BitBake.Worker")

_USAGE = "bitbake-worker is started by bitbake-server, not by hand."
_MAGIC = {"decafbad" + profile + fakeroot for profile in ("", "bad") for fakeroot in ("", "beef")}

_READ_SIZE = 1 << 20
_REPLY_LIMIT = 8 << 20
"""Bytes of replies that may queue up before tasks have to wait with their events."""
_GRACE_SECONDS = task.GRACE_SECONDS + 5.0
"""How long tasks may take to end after SIGTERM when the worker itself ends; then they are killed."""

_ENDING = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}


@dataclass
class _Child:
    """A running task."""

    tid: str
    events: int
    """Read end of the task's event pipe."""
    reader: framing.EventReader = field(default_factory=framing.EventReader)
    open: bool = True
    """Whether the other end is still open."""


class _ServerGone(Exception):
    """The server has closed the request stream, or we were told to end by a signal."""


class Worker:
    """The worker process; `requests` and `replies` are descriptors of the server's two pipes."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests = requests
        self._replies = replies
        self._messages = framing.MessageReader()
        self._output = bytearray()
        self._children: dict[int, _Child] = {}
        self._session = task.Session()
        self._quit = False
        self._wakeup, self._wakeup_write = _signal_pipe()
        self._handlers: dict[str, Callable[[Any], None]] = {
            "cookerconfig": self._on_cookerconfig,
            "extraconfigdata": self._on_extraconfigdata,
            "workerdata": self._on_workerdata,
            "newtaskhashes": self._on_newtaskhashes,
            "runtask": self._on_runtask,
            "finishnow": lambda _: self._signal_children(signal.SIGTERM),
            "ping": lambda _: logger.debug("worker %d is alive", os.getpid()),
            "quit": self._on_quit,
        }

    def run(self) -> int:
        """Serve until told to quit; return the exit code. Without a server, die by SIGTERM."""
        bb.event.worker_pid = os.getpid()
        bb.event.worker_fire = self._fire
        try:
            while not self._quit:
                self._turn(None, listen=True)
            code = 0
        except _ServerGone:
            self._end_children()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("SIGTERM did not end this process") from None
        except bb.BBHandledException:
            code = 1
        except Exception:
            logger.error("bitbake-worker failed:\n%s", traceback.format_exc())
            code = 1
        self._end_children()
        while self._output:
            self._turn(None, listen=False)
        return code

    # --- requests -----------------------------------------------------------------------------

    def _on_cookerconfig(self, config: Any) -> None:
        self._session.config = config
        self._session.builder = bb.cookerdata.CookerDataBuilder(config, worker=True)
        self._session.builder.parseBaseConfiguration(worker=True)

    def _on_extraconfigdata(self, extra: dict[str, Any]) -> None:
        self._session.extra = extra

    def _on_workerdata(self, data: dict[str, Any]) -> None:
        self._session.data = data
        bb.build.verboseShellLogging = data["build_verbose_shell"]
        bb.build.verboseStdoutLogging = data["build_verbose_stdout"]
        bb.msg.loggerDefaultLogLevel = data["logdefaultlevel"]
        bb.msg.loggerDefaultDomains = data["logdefaultdomain"]
        for d in self._session.builder.mcdata.values():
            d.setVar("PRSERV_HOST", data["prhost"])
            d.setVar("BB_HASHSERVE", data["hashservaddr"])
            d.setVar("__bbclasstype", "recipe")

    def _on_newtaskhashes(self, hashes: Any) -> None:
        self._session.hashes = hashes

    def _on_runtask(self, message: dict[str, Any]) -> None:
        request = task.Request.of(message, self._session.config)
        for directory in request.fakeroot_directories:
            bb.utils.mkdirhier(directory)
        events, events_write = os.pipe()
        worker = os.getpid()
        # The fakeroot program may look at its variables as early as at the fork.
        with _environment(request.fakeroot_environment), _signals_held():
            pid = os.fork()
            if pid == 0:
                self._be_task(request, events_write, worker)
        os.close(events_write)
        self._children[pid] = _Child(request.tid, events)

    def _be_task(self, request: task.Request, events: int, worker: int) -> NoReturn:
        """Be the child."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            others = [child.events for child in self._children.values()]
            for descriptor in (self._requests, self._replies, self._wakeup, self._wakeup_write, *others):
                os.close(descriptor)
            task.become_task(worker)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING | {signal.SIGCHLD})
            code = task.run(self._session, request, events)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _on_quit(self, _: Any) -> None:
        self._quit = True

    # --- the loop -----------------------------------------------------------------------------

    def _turn(self, seconds: float | None, *, listen: bool) -> None:
        """Wait until something can be done, at most `seconds`, and do it; requests only if `listen`."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if listen:
            poll.register(self._requests, select.POLLIN)
        if self._output:
            poll.register(self._replies, select.POLLOUT)
        if len(self._output) < _REPLY_LIMIT:
            for child in self._children.values():
                if child.open:
                    poll.register(child.events, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)}

        if self._replies in ready:
            self._flush()
        for child in list(self._children.values()):
            if child.events in ready:
                self._read_events(child)
        if self._wakeup in ready:
            numbers = set(os.read(self._wakeup, _READ_SIZE))
            self._reap()
            if listen and numbers & _ENDING:
                raise _ServerGone
        if self._requests in ready:
            data = os.read(self._requests, _READ_SIZE)
            if not data:
                raise _ServerGone
            for name, payload in self._messages.feed(data):
                if name not in self._handlers:
                    raise framing.FramingError(f"message {name!r} is unknown")
                self._handlers[name](pickle.loads(payload))

    def _fire(self, event: Any, _d: Any) -> None:
        """Queue an event of the worker itself (bb.event calls this)."""
        self._output += framing.to_server("event", pickle.dumps(event))

    def _read_events(self, child: _Child) -> bool:
        """Pass on what the child sent; return False at the end of its pipe."""
        data = os.read(child.events, _READ_SIZE)
        child.open = bool(data)
        for payload in child.reader.feed(data):
            self._output += framing.to_server("event", payload)
        return child.open

    def _reap(self) -> None:
        """Report every child that has ended, after all that it had to say."""
        for pid, child in list(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            # A process that the task left behind may hold the pipe open: take what there is.
            os.set_blocking(child.events, False)
            try:
                while child.open and self._read_events(child):
                    pass
            except BlockingIOError:
                pass
            os.close(child.events)
            del self._children[pid]
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
            self._output += framing.to_server("exitcode", pickle.dumps((child.tid, code)))

    def _flush(self) -> None:
        """Write what the server takes without blocking; without a server there is nothing to write."""
        try:
            del self._output[: os.write(self._replies, self._output[:_READ_SIZE])]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._output.clear()

    # --- ending -------------------------------------------------------------------------------

    def _signal_children(self, number: signal.Signals) -> None:
        """Send a signal to every process of every task."""
        for pid in self._children:
            try:
                os.killpg(pid, number)
            except ProcessLookupError:  # forked a moment ago, not yet the leader of a group
                os.kill(pid, number)

    def _end_children(self) -> None:
        """End all tasks, with SIGTERM and then, when one does not heed it, with SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal_children(number)
            deadline = time.monotonic() + _GRACE_SECONDS
            while self._children and (left := deadline - time.monotonic()) > 0:
                self._turn(left, listen=False)


def _signal_pipe() -> tuple[int, int]:
    """Return a pipe into which the number of each signal that concerns the worker is written."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in _ENDING | {signal.SIGCHLD}:
        signal.signal(number, lambda _number, _frame: None)
    return read_end, write_end


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back the worker's signals, so that a fork cannot run their handlers in the child."""
    numbers = _ENDING | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextmanager
def _environment(additions: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in additions}
    os.environ.update(additions)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def main(argv: list[str]) -> int:
    """Run the worker on stdin and stdout; `argv[1]` is the engine's magic word."""
    if len(argv) != 2 or argv[1] not in _MAGIC:
        print(_USAGE, file=sys.stderr)
        return 1
    # Keep the protocol's two pipes to ourselves: a print() in metadata then goes to the server's
    # log and no program that a recipe starts can read or write them.
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    os.set_blocking(replies, False)

    bb.utils.set_process_name("Worker")
    logging.getLogger("BitBake").addHandler(bb.event.LogHandler())
    return Worker(requests, replies).run()
