# SPDX-License-Identifier: Apache-2.0
"""The KCS transport over a socket that keeps messages apart, as the kernel's device does."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dbus_harness import PATIENCE
from fleet_bmc_common import ServiceError
from fleet_ipmi.codec import Rest
from fleet_ipmi.dispatch import Commands, Context, Dispatcher, Privilege
from fleet_ipmi.kcs import KcsDevice, Transport
from ipmi_fake import FakeBmc


class FakeDevice:
    """The BMC's end of a socket pair; what a test puts into `errors` is raised instead of writing."""

    def __init__(self) -> None:
        self.host, self._bmc = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.host.setblocking(False)
        self._bmc.setblocking(False)
        self.errors: list[int] = []
        self.read_errors: list[int] = []

    def fileno(self) -> int:
        return self._bmc.fileno()

    def read(self) -> bytes:
        data = self._bmc.recv(1024)
        if self.read_errors:
            number = self.read_errors.pop()
            raise OSError(number, os.strerror(number))
        return data

    def write(self, response: bytes) -> None:
        if self.errors:
            number = self.errors.pop()
            raise OSError(number, os.strerror(number))
        self._bmc.send(response)

    def close(self) -> None:
        self._bmc.close()


class World:
    def __init__(self) -> None:
        self.device = FakeDevice()
        self.entered = asyncio.Event()  # a slow command is in work
        self.leave = asyncio.Event()  # it may go on
        self.cancelled = 0
        command = Commands()

        @command(0x06, 0x01, "Echo", Privilege.ADMIN)
        def echo(context: Context, data: Rest) -> Rest:
            assert context.channel.in_band
            return data

        @command(0x06, 0x02, "Slow", Privilege.ADMIN)
        async def slow(_context: Context) -> None:
            self.entered.set()
            try:
                await self.leave.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        self.dispatcher = Dispatcher(FakeBmc(), command)
        self.transport = Transport(self.device, self.dispatcher)

    async def send(self, request: str) -> None:
        await asyncio.get_running_loop().sock_sendall(self.device.host, bytes.fromhex(request))

    async def receive(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return (await asyncio.get_running_loop().sock_recv(self.device.host, 1024)).hex(" ")


def play(scenario: Callable[[World], Awaitable[None]]) -> World:
    async def main() -> World:
        world = World()
        serving = asyncio.create_task(world.transport.run())
        try:
            playing = asyncio.ensure_future(scenario(world))
            await asyncio.wait({serving, playing}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                playing.cancel()
                serving.result()
            await playing
        finally:
            serving.cancel()
            world.device.host.close()
        return world

    return asyncio.run(main())


def test_one_request_after_the_other() -> None:
    async def scenario(world: World) -> None:
        for number in range(3):
            await world.send(f"18 01 0{number}")
            assert await world.receive() == f"1c 01 00 0{number}"

    world = play(scenario)
    assert (world.dispatcher.requests, world.dispatcher.refused, world.transport.late) == (3, 0, 0)


def test_the_answer_to_an_abandoned_request_is_dropped() -> None:
    async def scenario(world: World) -> None:
        await world.send("18 02")
        await world.entered.wait()
        await world.send("18 01 07")
        assert await world.receive() == "1c 01 00 07"
        world.leave.set()
        await world.send("18 01 08")
        assert await world.receive() == "1c 01 00 08", "not that to the first"

    world = play(scenario)
    assert (world.cancelled, world.transport.late) == (1, 1)


def test_a_host_that_does_not_wait_any_more() -> None:
    async def scenario(world: World) -> None:
        world.device.errors = [errno.EINVAL]
        await world.send("18 02")
        await world.entered.wait()
        world.leave.set()
        while world.device.errors:
            await asyncio.sleep(0)
        await world.send("18 01 08")
        assert await world.receive() == "1c 01 00 08"

    assert play(scenario).transport.late == 1


def test_a_request_that_was_taken_back() -> None:
    async def scenario(world: World) -> None:
        world.device.read_errors = [errno.EAGAIN]
        await world.send("18 01 07")
        await world.send("18 01 08")
        assert await world.receive() == "1c 01 00 08"

    assert play(scenario).dispatcher.requests == 1


def test_what_is_no_request_is_refused_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(world: World) -> None:
        for _ in range(2):
            await world.send("18")
            assert await world.receive() == "1c 00 c7"
        await world.send("18 01")
        assert await world.receive() == "1c 01 00"

    world = play(scenario)
    assert (world.dispatcher.requests, world.dispatcher.refused) == (3, 2)
    assert capsys.readouterr().err.count("a KCS request of 1 bytes was refused") == 1


@pytest.mark.parametrize("where", ["read", "write"])
def test_a_device_that_fails_ends_the_service(where: str) -> None:
    async def scenario(world: World) -> None:
        (world.device.errors if where == "write" else world.device.read_errors).append(errno.EIO)
        await world.send("18 01 07")
        await asyncio.Event().wait()

    with pytest.raises(ServiceError, match="the KCS device failed: Input/output error"):
        play(scenario)


def test_a_device_that_goes_away_ends_the_service() -> None:
    async def scenario(world: World) -> None:
        world.device.host.close()
        await asyncio.Event().wait()

    with pytest.raises(ServiceError, match="the KCS device failed: No such device"):
        play(scenario)


def test_the_kernels_device(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"the KCS device \S+ cannot be opened: No such file or directory"):
        KcsDevice(str(tmp_path / "ipmi-kcs3"))
    os.mkfifo(tmp_path / "ipmi-kcs3")
    device = KcsDevice(str(tmp_path / "ipmi-kcs3"))
    with pytest.raises(BlockingIOError):
        device.read()
    device.write(b"123")
    assert device.read() == b"123"
    device.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(device.fileno())
