# SPDX-License-Identifier: GPL-2.0-only
# mypy: disable-error-code="import-not-found"
"""What a child of bitbake-worker does: become one task of one recipe, run it, tell how it went."""

import ctypes
import logging
import os
import pickle
import pwd
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

import bb
import bb.build
import bb.data
import bb.event
import bb.parse
import bb.runqueue
import bb.utils

from fleet_engine import framing

logger = logging.getLogger("BitBake.Worker")

GRACE_SECONDS = 5.0
"""How long the processes of a task may take to end after SIGTERM before they are killed."""

_POLL_SECONDS = 0.02
_PARENT_LOST = 1
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass
class Session:
    """What the server told the worker before the first task; every task inherits it by fork."""

    config: Any = None
    """CookerConfiguration: the command line's options."""
    builder: Any = None
    """CookerDataBuilder with the parsed base configuration."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Variables that the server adds to each datastore."""
    data: dict[str, Any] = field(default_factory=dict)
    """`workerdata` of the protocol: signatures, log levels, build name, date, time, umask."""
    hashes: Any = None
    """Task hashes that changed since `data` was sent, or None."""


@dataclass(frozen=True)
class Request:
    """One `runtask` message and what follows from it."""

    message: dict[str, Any]
    dry_run: bool

    @classmethod
    def of(cls, message: dict[str, Any], config: Any) -> "Request":
        """Read the message in the light of the command line (`bitbake -n` runs nothing)."""
        return cls(message, bool(message["dry_run"] or config.dry_run))

    @property
    def tid(self) -> str:
        """The task's name in the protocol: [mc:CONFIG:]FILE:TASK."""
        return str(self.message["task"])

    @property
    def task(self) -> str:
        """The task's name in the metadata, such as do_compile."""
        return str(self.message["taskname"])

    def flag(self, name: str) -> Any:
        """Return the task's flag `name` as the server's cache knows it, or None."""
        return self.message["taskdep"].get(name, {}).get(self.task)

    @property
    def fakeroot(self) -> bool:
        """Whether the task runs as a pretended root."""
        return self.flag("fakeroot") is not None and not self.dry_run

    @property
    def fakeroot_directories(self) -> list[str]:
        """Directories that the fakeroot program needs."""
        return (self.message["fakerootdirs"] or "").split() if self.fakeroot else []

    @property
    def fakeroot_environment(self) -> dict[str, str]:
        """Variables that switch the fakeroot program on or, for any other task, off."""
        text = self.message["fakerootenv" if self.fakeroot else "fakerootnoenv"] or ""
        return dict(item.split("=", 1) for item in text.split())


def become_task(parent: int) -> None:
    """Turn the forked process into the leader of a session that ends with the process `parent`."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end_group)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    bb.utils.signal_on_parent_exit("SIGTERM")
    if os.getppid() != parent:
        os._exit(_PARENT_LOST)
    # Descriptors 0 and 1 never were the protocol's (see worker.py); a task has no terminal either.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _end_group(number: int, _frame: FrameType | None) -> NoReturn:
    """End every process of the task, whatever it started, then this one.

    They are asked by SIGTERM, have GRACE_SECONDS to clean up, and are killed after that. The kernel
    is told to make orphans our children first: the shell at the top of a task ends at once and may
    not be the only one that is waited for.
    """
    signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(_POLL_SECONDS)
    except ChildProcessError:  # none is left
        os._exit(128 + number)
    os.killpg(0, signal.SIGKILL)
    os._exit(128 + number)


def event_sink(descriptor: int) -> Callable[[Any, Any], None]:
    """Return the function that sends events to the worker; processes that the task forks may share it."""
    lock = bb.multiprocessing.Lock()

    def fire(event: Any, _d: Any) -> None:
        data = memoryview(framing.from_task(pickle.dumps(event)))
        with bb.utils.lock_timeout(lock):  # which also holds signals back: no half message
            while data:
                data = data[os.write(descriptor, data) :]

    return fire


def run(session: Session, request: Request, events: int) -> int:
    """Run the task and return its exit code; its events go into the pipe `events`."""
    bb.event.worker_pid = os.getpid()
    bb.event.worker_fire = event_sink(events)
    try:
        d = _datastore(session, request)
        if request.dry_run:
            return 0
        code = int(bb.build.exec_task(request.message["fn"], request.task, d, session.config.profile))
        if request.fakeroot:
            _release_fakeroot(d)
        return code
    except bb.BBHandledException:
        return 1
    except Exception:
        logger.error("%s could not be run:\n%s", request.tid, traceback.format_exc())
        return 1
    finally:
        sys.stderr.flush()


def _datastore(session: Session, request: Request) -> Any:
    """Parse the recipe and set this process up (umask, network, environment) as the task wants it."""
    message = request.message
    umask = request.flag("umask") or session.data["umask"]
    if umask:
        os.umask(bb.utils.to_filemode(umask))

    base = session.builder.mcdata[bb.runqueue.mc_from_tid(request.tid)]
    variables = {
        "BB_WORKERCONTEXT": "1",
        "BB_TASKDEPDATA": message["taskdepdata"],
        "BB_CURRENTTASK": request.task.removeprefix("do_"),
        "BUILDNAME": session.data["buildname"],
        "DATE": session.data["date"],
        "TIME": session.data["time"],
        **session.extra,
    }
    if session.config.limited_deps:
        variables["BB_LIMITEDDEPS"] = "1"
    for name, value in variables.items():
        base.setVar(name, value)

    bb.parse.siggen.set_taskdata(session.data["sigdata"])
    if session.hashes is not None:
        bb.parse.siggen.set_taskhashes(session.hashes)

    d = session.builder.parseRecipe(message["fn"], message["appends"], message["layername"])
    d.setVar("BB_TASKHASH", message["taskhash"])
    d.setVar("BB_UNIHASH", message["unihash"])
    bb.parse.siggen.setup_datacache_from_datastore(message["fn"], d)
    bb.utils.set_process_name(f"{d.getVar('PN')}:{request.task.removeprefix('do_')}")
    if message["quieterrors"]:
        d.setVarFlag(request.task, "quieterrors", "1")

    if not request.dry_run:
        if not bb.utils.to_boolean(d.getVarFlag(request.task, "network")):
            _leave_network()
        _replace_environment(d, request)
    return d


def _leave_network() -> None:
    """Cut this process and its children off every network, where the kernel lets a user do that.

    The ids come from the kernel's own table: under a fakeroot program getuid() says 0, and a
    mapping of an id that is not ours would be refused. A user unknown to the system keeps the
    network, because programs that look themselves up fail in such a namespace.
    """
    uid, gid = _real_ids()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        logger.debug("user %d is unknown: the network stays", uid)
        return
    bb.utils.disable_network(uid, gid)


def _real_ids() -> tuple[int, int]:
    """Return the user and group id of this process as the kernel sees them."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
        fields = dict(line.split(":", 1) for line in status if ":" in line)
    return int(fields["Uid"].split()[0]), int(fields["Gid"].split()[0])


def _replace_environment(d: Any, request: Request) -> None:
    """Leave only what the metadata exports, the fakeroot program's variables and the task's own exports."""
    fakeroot = request.fakeroot_environment
    for name, value in fakeroot.items():
        d.setVar(name, value)
        d.setVarFlag(name, "export", "1")
    # All values are expanded before the old environment goes: they may refer to it.
    wanted = dict(bb.data.exported_vars(d))
    wanted |= fakeroot
    for name in (d.getVarFlag(request.task, "exports") or "").split():
        value = d.getVar(name)
        if value is not None:
            wanted[name] = str(value)
    bb.utils.empty_environment()
    os.environ.update(wanted)


def _release_fakeroot(d: Any) -> None:
    """Tell the fakeroot program that the task is over (-S: pseudo's daemon writes its database)."""
    command = shlex.split(d.getVar("FAKEROOTCMD") or "")
    if command:
        subprocess.run([*command, "-S"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
