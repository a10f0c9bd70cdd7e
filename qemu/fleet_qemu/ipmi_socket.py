# SPDX-License-Identifier: Apache-2.0
"""The socket for stock ipmitool's interface `dummy`: `IPMI_DUMMY_SOCK=ipmi.sock ipmitool -I dummy …`.

ipmitool sends its request as a C structure, then the data; the answer comes the same way. The structures are
those of src/plugins/dummy/dummy.h, in the compiler's own layout, with a pointer in each that means nothing.
"""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fleet_qemu.kcs_host import KcsError

SOCKET = "ipmi.sock"

REQUEST = struct.Struct("@BBBBHP")  # netfn, lun, command, target command, length of data, pointer
RESPONSE = struct.Struct("@BBBBBiP")  # netfn, command, sequence number, lun, completion code, length, pointer

DATA_BYTES = 253  # of a request that has netFn and command besides; see kcs_host.REQUEST_BYTES
_TIMEOUT = 0xC3  # completion code "timeout while processing command" (IPMI 2.0, table 5-2)
_BYE = (0x3F, 0xFF)  # netfn and command with which ipmitool takes its leave

Transact = Callable[[bytes], Awaitable[bytes]]
"""Carries a request to the BMC and returns the response, both from netFn/LUN on; raises KcsError."""


class Ipmitool(NamedTuple):
    """How stock ipmitool is run as the host's software.

    It has to run in `folder`: the socket's name is relative, because its path may be 107 bytes at most.
    """

    argv: list[str]
    folder: Path
    environment: dict[str, str]  # beside what there is

    @classmethod
    def of(cls, folder: Path, words: Sequence[str]) -> "Ipmitool":
        """With these words, for the board in `folder`."""
        return cls(["ipmitool", "-I", "dummy", *words], folder, {"IPMI_DUMMY_SOCK": SOCKET})


class DummyRequest(NamedTuple):
    """The head of a request; `length` bytes of data follow."""

    netfn: int
    lun: int
    command: int
    target_command: int
    length: int
    pointer: int

    @property
    def is_sane(self) -> bool:
        """Whether ipmitool can have sent it: an even network function, and no more than fits."""
        return self.netfn < 0x40 and self.netfn % 2 == 0 and self.lun < 4 and self.length <= DATA_BYTES


def response(request: DummyRequest, code: int, data: bytes) -> bytes:
    """What ipmitool reads as the answer to `request`."""
    head = (request.netfn | 1, request.command, 0, request.lun, code, len(data), 0)
    return RESPONSE.pack(*head) + data


class IpmiSocket:
    """Serves the socket in the current folder until `close`."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def open(self, path: str = SOCKET) -> None:
        """Listen."""
        Path(path).unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, path)

    async def close(self) -> None:
        """Stop listening, hang up."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(task := asyncio.create_task(self._serve(reader, writer)))
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                request = DummyRequest(*REQUEST.unpack(await reader.readexactly(REQUEST.size)))
                if (request.netfn, request.command) == _BYE or not request.is_sane:
                    return  # nobody knows where the next request begins
                data = await reader.readexactly(request.length)
                writer.write(await self._answer(request, data))
                await writer.drain()

    async def _answer(self, request: DummyRequest, data: bytes) -> bytes:
        try:
            answer = await self._transact(bytes([request.netfn << 2 | request.lun, request.command]) + data)
        except KcsError:
            return response(request, _TIMEOUT, b"")
        return response(request, answer[2], answer[3:])
