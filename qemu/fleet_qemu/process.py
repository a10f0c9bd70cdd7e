# SPDX-License-Identifier: Apache-2.0
"""One QEMU process: started paused, driven over QMP, ended by request or killed."""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import re
import signal
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from fleet_qemu.errors import QemuError
from fleet_qemu.qmp import EventListener, Qmp, QmpClosed, QmpError
from fleet_qemu.qtest import Qtest

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)

CONNECT_SECONDS = 60.0  # QEMU answers within 0.5 s; on a machine loaded many times over it takes longer
QUIT_SECONDS = 10.0
DRAIN_SECONDS = 30.0  # a busy disk may take seconds
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z ")

LOG_BYTES = 1 << 20  # room in the pipe of QEMU's log; QEMU waits when it is full

CommandLine = Callable[[int, int, int], list[str]]
"""Gives QEMU's command line from the descriptors of its QMP and qtest sockets and of the pipe for its log."""


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Make a `preexec_fn`: the kernel sends the child this signal when we end, however we end."""
    parent = os.getpid()

    def prepare() -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(127)

    return prepare


class LogPipe:
    """QEMU's log (`-D`), delivered piece by piece as it comes: QEMU waits for nobody who uses it."""

    def __init__(self, listener: Callable[[bytes], None]) -> None:
        self._listener = listener
        self._near, self.far = os.pipe()
        os.set_blocking(self._near, False)
        with contextlib.suppress(OSError):  # a smaller one works, too
            fcntl.fcntl(self._near, fcntl.F_SETPIPE_SZ, LOG_BYTES)
        asyncio.get_running_loop().add_reader(self._near, self._read)

    def drain(self) -> None:
        """Deliver all that is in the pipe at this moment."""
        taken = 0
        while taken < LOG_BYTES and (size := self._read()):
            taken += size

    def close(self) -> None:
        """Deliver the rest and close."""
        if self._near >= 0:
            self.drain()
            self._end()
            os.close(self._near)
            self._near = -1

    def _read(self) -> int:
        try:
            data = os.read(self._near, LOG_BYTES)
        except BlockingIOError:
            return 0
        if data:
            self._listener(data)
        else:
            self._end()  # QEMU has ended
        return len(data)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._near)


class QemuProcess:
    """A QEMU that runs; make it with `start`."""

    def __init__(self, process: asyncio.subprocess.Process, qmp: Qmp, qtest: Qtest, log: LogPipe) -> None:
        self._process = process
        self.qmp = qmp
        self.qtest = qtest
        self._log = log

    @classmethod
    async def start(
        cls,
        command: CommandLine,
        log: Path,
        keep_open: Iterable[int],
        on_event: EventListener,
        on_log: Callable[[bytes], None],
    ) -> "QemuProcess":
        """Start QEMU in the current folder, its output appended to `log`.

        `keep_open` are descriptors that QEMU inherits. `on_log` gets what switched-on trace events log.
        Raises QemuError with what QEMU wrote when it does not start.
        """
        qmp, qmp_far = socket.socketpair()
        qtest, qtest_far = socket.socketpair()
        qmp.setblocking(False)
        qtest.setblocking(False)
        pipe = LogPipe(on_log)
        argv = command(qmp_far.fileno(), qtest_far.fileno(), pipe.far)
        with log.open("ab") as output, qmp_far, qtest_far:
            offset = output.tell()
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(qmp_far.fileno(), qtest_far.fileno(), pipe.far, *keep_open),
                    preexec_fn=die_with_parent(signal.SIGKILL),
                )
            except OSError as error:
                pipe.close()
                raise QemuError(
                    f"{argv[0]} cannot be run ({error.strerror})", "install qemu-system-arm"
                ) from None
            finally:
                os.close(pipe.far)  # the end of QEMU is the end of its log
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return cls(process, await Qmp.connect(qmp, on_event), await Qtest.connect(qtest), pipe)
        except (QmpClosed, TimeoutError) as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            qtest.close()
            pipe.close()
            reason = tail(log, offset) or str(error) or f"no answer in {CONNECT_SECONDS:.0f} s"
            raise QemuError(f"QEMU did not start: {reason}") from None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def drain_log(self) -> None:
        """Deliver what QEMU has logged so far."""
        self._log.drain()

    async def wait(self) -> int:
        """Wait for its end; the exit code, negative when a signal ended it."""
        return await self._process.wait()

    async def cut(self) -> None:
        """End it as a power cut ends a board: at once, but what the flash chip has taken stays.

        QEMU tells the guest that a page is programmed before the host has written it to the file. So the
        processors are stopped where they are and writes in flight are finished before SIGKILL, or pages would
        be lost that a real chip has kept. Killed at once when it does not answer within DRAIN_SECONDS.
        """
        with contextlib.suppress(QmpClosed, QmpError, TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.qmp.execute("stop")
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, with all that is in flight."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._close()

    async def quit(self) -> None:
        """End it in order: QEMU finishes the writes in flight. Killed after QUIT_SECONDS."""
        with contextlib.suppress(QmpClosed, TimeoutError):
            async with asyncio.timeout(QUIT_SECONDS):
                await self.qmp.execute("quit")
                await self._process.wait()
        await self.kill()

    async def _close(self) -> None:
        await self.qmp.close()
        await self.qtest.close()
        self._log.close()


def tail(log: Path, offset: int, lines: int = 5) -> str:
    """The last `lines` lines of `log` after byte `offset`, joined by "; ".

    QEMU's routine notices and its time stamps are left out.
    """
    with log.open("rb") as stream:
        stream.seek(offset)
        text = stream.read().decode(errors="replace")
    routine = ("char device redirected to", "has no peer")
    said = (_STAMP.sub("", line.strip()) for line in text.splitlines())
    kept = [line for line in said if line and not any(notice in line for notice in routine)]
    return "; ".join(kept[-lines:])
