# SPDX-License-Identifier: Apache-2.0
"""A client of QEMU's qtest protocol: registers of the SoC, read and written beside the running guest.

Source: QEMU, softmmu/qtest.c (comment at the top). A command and its answer are one line each, in order.
"""

import asyncio
import socket
from collections import deque

from fleet_qemu.qmp import QmpClosed, QmpError


class Qtest:
    """One connection to a running QEMU. Make it with `Qtest.connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: deque[asyncio.Future[str]] = deque()
        self._closed = False
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, sock: socket.socket) -> "Qtest":
        """Take over a connected socket; QEMU says nothing before it is asked."""
        return cls(*await asyncio.open_unix_connection(sock=sock))

    async def readl(self, address: int) -> int:
        """Read the 32-bit register at a physical address. Raises QmpError when refused, QmpClosed."""
        return int(await self._ask(f"readl {address:#x}"), 16)

    async def writel(self, address: int, value: int) -> None:
        """Write a 32-bit register. Raises as `readl`."""
        await self._ask(f"writel {address:#x} {value:#x}")

    async def close(self) -> None:
        """Close the connection; whoever still waits gets QmpClosed."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._end()

    async def _ask(self, command: str) -> str:
        if self._closed:
            raise QmpClosed(f"QEMU is gone, {command!r} was not sent")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._writer.write(command.encode() + b"\n")
        verdict, _, value = (await answer).partition(" ")
        if verdict != "OK":
            raise QmpError(f"qtest {command}: {verdict} {value}".strip())
        return value

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                # whoever has given up keeps its place, so that the answers stay in step
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(line.decode(errors="replace").strip())
        except ConnectionError:
            pass  # QEMU was killed with data in flight: the same as an end of file
        finally:
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._writer.close()
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(QmpClosed("QEMU ended before it answered"))
