# SPDX-License-Identifier: Apache-2.0
"""The qtest client against a scripted far end."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from fleet_qemu.qmp import QmpClosed, QmpError
from fleet_qemu.qtest import Qtest

Far = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def talk(script: Callable[[Qtest, Far], Awaitable[None]]) -> None:
    async def run() -> None:
        near, far_socket = socket.socketpair()
        far = await asyncio.open_unix_connection(sock=far_socket)
        qtest = await Qtest.connect(near)
        try:
            async with asyncio.timeout(30):
                await script(qtest, far)
        finally:
            await qtest.close()
            far[1].close()

    asyncio.run(run())


def test_read_and_write() -> None:
    async def script(qtest: Qtest, far: Far) -> None:
        read = asyncio.create_task(qtest.readl(0x1E789044))
        assert await far[0].readline() == b"readl 0x1e789044\n"
        far[1].write(b"OK 0x00000000000000c8\n")
        assert await read == 0xC8
        write = asyncio.create_task(qtest.writel(0x1E789044, 8))
        assert await far[0].readline() == b"writel 0x1e789044 0x8\n"
        far[1].write(b"OK\n")
        await write

    talk(script)


def test_answers_stay_in_step_when_somebody_gives_up() -> None:
    async def script(qtest: Qtest, far: Far) -> None:
        first = asyncio.create_task(qtest.readl(1))
        second = asyncio.create_task(qtest.readl(2))
        await far[0].readline()
        first.cancel()
        await far[0].readline()
        far[1].write(b"OK 0x1\nOK 0x2\n")
        assert await second == 2

    talk(script)


def test_refused() -> None:
    async def script(qtest: Qtest, far: Far) -> None:
        read = asyncio.create_task(qtest.readl(1))
        await far[0].readline()
        far[1].write(b"FAIL Unknown command\n")
        with pytest.raises(QmpError, match="readl 0x1: FAIL Unknown command"):
            await read

    talk(script)


def test_qemu_ends() -> None:
    async def script(qtest: Qtest, far: Far) -> None:
        read = asyncio.create_task(qtest.readl(1))
        await far[0].readline()
        far[1].close()
        with pytest.raises(QmpClosed):
            await read
        with pytest.raises(QmpClosed, match="was not sent"):
            await qtest.readl(1)

    talk(script)
