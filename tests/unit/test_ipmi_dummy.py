# SPDX-License-Identifier: Apache-2.0
"""The socket of ipmitool's interface `dummy`: structures, and clients that send something else."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dbus_harness import PATIENCE
from fleet_ipmi.dispatch import Dispatcher
from fleet_ipmi.dummy import REQUEST, RESPONSE, serve
from ipmi_fake import AREAS, FakeBmc

GOODBYE = REQUEST.pack(0x3F, 0, 0xFF, 0, 0, 0)


class Client:
    """One connection of a client."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> "Client":
        self.reader, self.writer = await asyncio.open_unix_connection(self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, netfn: int, command: int, data: bytes = b"", lun: int = 0) -> tuple[int, ...]:
        self.writer.write(REQUEST.pack(netfn, lun, command, 0, len(data), 0x7FFF12345678) + data)
        async with asyncio.timeout(PATIENCE):
            *fields, length, _ = RESPONSE.unpack(await self.reader.readexactly(RESPONSE.size))
            return *fields, *(await self.reader.readexactly(length))

    async def is_cut_off(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read() == b""


def play(tmp_path: Path, scenario: Callable[[Path], Awaitable[None]]) -> Dispatcher:
    async def main() -> Dispatcher:
        path = tmp_path / "socket"
        dispatcher = Dispatcher(FakeBmc(), *AREAS)
        serving = asyncio.create_task(serve(str(path), dispatcher))
        while not path.exists():
            await asyncio.sleep(0)
        try:
            await scenario(path)
        finally:
            serving.cancel()
        return dispatcher

    return asyncio.run(main())


def test_sizes_are_those_of_the_client() -> None:
    assert (REQUEST.size, RESPONSE.size) == (16, 24)


def test_requests(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        async with Client(path) as one, Client(path) as other:
            assert await one.ask(0x06, 0x07) == (0x07, 0x07, 0, 0, 0, 0, 0)
            assert await other.ask(0x06, 0x06, b"\x82\x82", lun=2) == (0x07, 0x06, 0, 2, 0)
            assert await one.ask(0x06, 0x06, b"\x82") == (0x07, 0x06, 0, 0, 0xC7)
            one.writer.write(GOODBYE)
            assert await one.is_cut_off()
            assert await other.ask(0x2C, 0x01) == (0x2D, 0x01, 0, 0, 0xC1)

    assert play(tmp_path, scenario).requests == 4


@pytest.mark.parametrize(
    "nonsense",
    [
        REQUEST.pack(0x40, 0, 1, 0, 0, 0),
        REQUEST.pack(0x07, 0, 1, 0, 0, 0),
        REQUEST.pack(0x06, 4, 1, 0, 0, 0),
        REQUEST.pack(0x06, 0, 1, 0, 1001, 0),
        b"\xff" * 16,
    ],
)
def test_nonsense_closes_that_client_only(tmp_path: Path, nonsense: bytes) -> None:
    async def scenario(path: Path) -> None:
        async with Client(path) as good, Client(path) as bad:
            assert (await good.ask(0x06, 0x01))[4] == 0
            bad.writer.write(nonsense)
            assert await bad.is_cut_off()
            assert (await good.ask(0x06, 0x01))[4] == 0

    assert play(tmp_path, scenario).refused == 1


@pytest.mark.parametrize("torn", [b"", b"\x06", REQUEST.pack(0x06, 0, 6, 0, 2, 0) + b"\x80"])
def test_a_client_that_leaves_in_the_middle(tmp_path: Path, torn: bytes) -> None:
    async def scenario(path: Path) -> None:
        async with Client(path) as good:
            async with Client(path) as bad:
                bad.writer.write(torn)
                bad.writer.write_eof()
                assert await bad.is_cut_off()
            assert (await good.ask(0x06, 0x01))[4] == 0

    assert play(tmp_path, scenario).requests == 1
