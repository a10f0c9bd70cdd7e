# SPDX-License-Identifier: Apache-2.0
"""The socket for ipmitool's interface `dummy`, also with the real ipmitool."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fleet_qemu.ipmi_socket import DATA_BYTES, REQUEST, RESPONSE, IpmiSocket
from fleet_qemu.kcs_host import KcsTimeout

SECONDS = 60.0
DEVICE_ID = bytes.fromhex("1c 01 00 20 01 02 03 02 bf 00 00 00 34 12 00 00 00 00")

Far = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class FakeBmc:
    """Answers Get Device ID and echoes what goes to netFn 30h; to netFn 3Ah it is silent."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    async def transact(self, request: bytes) -> bytes:
        self.seen.append(request)
        match request[0] >> 2:
            case 0x06 if request[1] == 1:
                return DEVICE_ID
            case 0x30:
                return bytes([request[0] | 4, request[1], 0, *request[2:]])
            case 0x3A:
                raise KcsTimeout("nothing")
        return bytes([request[0] | 4, request[1], 0xC1])


def serve(folder: Path, script: Callable[[FakeBmc, str], Awaitable[None]]) -> None:
    async def run() -> None:
        bmc = FakeBmc()
        server = IpmiSocket(bmc.transact)
        path = str(folder / "ipmi.sock")
        await server.open(path)
        try:
            async with asyncio.timeout(SECONDS):
                await script(bmc, path)
        finally:
            await server.close()

    asyncio.run(run())


def request(netfn: int, command: int, data: bytes = b"", lun: int = 0) -> bytes:
    return REQUEST.pack(netfn, lun, command, 0, len(data), 0x1234) + data


async def ask(far: Far, message: bytes) -> tuple[int, ...]:
    """Completion code and data of the answer to a message."""
    far[1].write(message)
    netfn, command, _, _, code, length, _ = RESPONSE.unpack(await far[0].readexactly(RESPONSE.size))
    assert (netfn, command) == (message[0] | 1, message[2])
    return (code, *await far[0].readexactly(length))


def test_layout() -> None:
    """That of a 64-bit compiler, where stock ipmitool is."""
    assert (REQUEST.size, RESPONSE.size) == (16, 24)
    assert REQUEST.pack(6, 0, 1, 0, 0x0102, 0)[4:6] == struct.pack("=H", 0x0102)


def test_requests_of_one_client(tmp_path: Path) -> None:
    async def script(bmc: FakeBmc, path: str) -> None:
        far = await asyncio.open_unix_connection(path)
        assert await ask(far, request(0x30, 5, b"\x01\x02", lun=3)) == (0, 1, 2)
        assert await ask(far, request(0x30, 5, bytes(DATA_BYTES))) == (0, *bytes(DATA_BYTES))
        assert await ask(far, request(0x2C, 0)) == (0xC1,)
        assert bmc.seen[0] == b"\xc3\x05\x01\x02"
        far[1].close()

    serve(tmp_path, script)


def test_a_bmc_that_does_not_answer(tmp_path: Path) -> None:
    async def script(_: FakeBmc, path: str) -> None:
        far = await asyncio.open_unix_connection(path)
        assert await ask(far, request(0x3A, 1)) == (0xC3,)
        assert await ask(far, request(0x30, 1)) == (0,)  # and the next request works
        far[1].close()

    serve(tmp_path, script)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 16,
        request(0x40, 1),
        request(0x07, 1),
        request(0x06, 1, lun=4),
        REQUEST.pack(6, 0, 1, 0, DATA_BYTES + 1, 0),
        request(0x3F, 0xFF),  # ipmitool's farewell
    ],
)
def test_garbage_closes_that_client_only(tmp_path: Path, garbage: bytes) -> None:
    async def script(bmc: FakeBmc, path: str) -> None:
        good = await asyncio.open_unix_connection(path)
        bad = await asyncio.open_unix_connection(path)
        bad[1].write(garbage)
        assert await bad[0].read() == b""
        assert bmc.seen == []
        assert await ask(good, request(0x30, 1)) == (0,)
        for far in (good, bad):
            far[1].close()

    serve(tmp_path, script)


def test_a_client_that_goes_in_the_middle(tmp_path: Path) -> None:
    async def script(bmc: FakeBmc, path: str) -> None:
        for length in (0, 7, 16, 18):
            far = await asyncio.open_unix_connection(path)
            far[1].write(request(0x30, 1, b"abcd")[:length])
            far[1].close()
            await far[1].wait_closed()
        far = await asyncio.open_unix_connection(path)
        assert await ask(far, request(0x30, 1)) == (0,)
        assert len(bmc.seen) == 1
        far[1].close()

    serve(tmp_path, script)


def test_a_socket_that_a_killed_supervisor_left(tmp_path: Path) -> None:
    (tmp_path / "ipmi.sock").touch()

    async def script(_: FakeBmc, path: str) -> None:
        far = await asyncio.open_unix_connection(path)
        far[1].close()

    serve(tmp_path, script)


def test_ipmitool(tmp_path: Path) -> None:
    async def script(bmc: FakeBmc, path: str) -> None:
        async def ipmitool(*words: str) -> str:
            process = await asyncio.create_subprocess_exec(
                *("ipmitool", "-I", "dummy", *words),
                env={"PATH": "/usr/bin:/bin:/usr/sbin", "IPMI_DUMMY_SOCK": path},
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0
            return output.decode()

        assert "Product ID                : 4660 (0x1234)" in await ipmitool("mc", "info")
        assert (await ipmitool("raw", "0x30", "2", "1", "2", "3")).split() == ["01", "02", "03"]
        assert bmc.seen[-1] == b"\xc0\x02\x01\x02\x03"

    serve(tmp_path, script)
