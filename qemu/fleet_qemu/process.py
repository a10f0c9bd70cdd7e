# SPDX-License-Identifier: Apache-2.0
"""One QEMU process: started paused, driven over QMP, ended by request or killed."""

import asyncio
import contextlib
import ctypes
import os
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

CommandLine = Callable[[int, int], list[str]]
"""Gives QEMU's command line from the descriptors of its QMP and its qtest socket."""


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Make a `preexec_fn`: the kernel sends the child this signal when we end, however we end."""
    parent = os.getpid()

    def prepare() -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(127)

    return prepare


class QemuProcess:
    """A QEMU that runs; make it with `start`."""

    def __init__(self, process: asyncio.subprocess.Process, qmp: Qmp, qtest: Qtest) -> None:
        self._process = process
        self.qmp = qmp
        self.qtest = qtest

    @classmethod
    async def start(
        cls, command: CommandLine, log: Path, keep_open: Iterable[int], on_event: EventListener
    ) -> "QemuProcess":
        """Start QEMU in the current folder, its output appended to `log`.

        `keep_open` are descriptors that QEMU inherits. Raises QemuError with what QEMU wrote when it does not
        start.
        """
        qmp, qmp_far = socket.socketpair()
        qtest, qtest_far = socket.socketpair()
        qmp.setblocking(False)
        qtest.setblocking(False)
        argv = command(qmp_far.fileno(), qtest_far.fileno())
        with log.open("ab") as output, qmp_far, qtest_far:
            offset = output.tell()
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(qmp_far.fileno(), qtest_far.fileno(), *keep_open),
                    preexec_fn=die_with_parent(signal.SIGKILL),
                )
            except OSError as error:
                raise QemuError(
                    f"{argv[0]} cannot be run ({error.strerror})", "install qemu-system-arm"
                ) from None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return cls(process, await Qmp.connect(qmp, on_event), await Qtest.connect(qtest))
        except (QmpClosed, TimeoutError) as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            qtest.close()
            reason = tail(log, offset) or str(error) or f"no answer in {CONNECT_SECONDS:.0f} s"
            raise QemuError(f"QEMU did not start: {reason}") from None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

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


def tail(log: Path, offset: int, lines: int = 5) -> str:
    """The last `lines` lines of `log` after byte `offset`, joined by "; ", without QEMU's routine notices."""
    with log.open("rb") as stream:
        stream.seek(offset)
        text = stream.read().decode(errors="replace")
    routine = ("char device redirected to", "has no peer")
    kept = [
        line.strip() for line in text.splitlines() if line.strip() and not any(r in line for r in routine)
    ]
    return "; ".join(kept[-lines:])
