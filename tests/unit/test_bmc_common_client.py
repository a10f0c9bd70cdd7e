# SPDX-License-Identifier: Apache-2.0
"""Calls and signals between two connections on a real bus."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from dbus_fast import DBusError, Message
from dbus_fast.aio.message_bus import MessageBus

from dbus_harness import PATIENCE, PrivateBus
from fleet_bmc_common.client import DBUS, DBUS_PATH, call, on_signal
from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree

PATH = "/test/echo"
NAME = "test.Echo"
WORDS = "\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.fixture(scope="module")
def bus() -> Iterator[PrivateBus]:
    with PrivateBus(open_to_all=True) as bus:
        yield bus


def play(bus: PrivateBus, scenario: Callable[[MessageBus, str, Interface], Awaitable[None]]) -> None:
    async def echo(_sender: str, text: str) -> Body:
        if text == "fail":
            raise DBusError("test.Error.Asked", WORDS)
        if text == "hang":
            await asyncio.Event().wait()
        return [text]

    async def main() -> None:
        service, client = await bus.connect(), await bus.connect()
        tree = ObjectTree(service)
        interface = Interface(NAME, methods={"Say": Method("s", "s", echo)}, signals={"Said": "s"})
        tree.add(PATH, interface)
        tree.announce()
        try:
            await scenario(client, str(service.unique_name), interface)
        finally:
            service.disconnect()
            client.disconnect()

    asyncio.run(main())


def test_call(bus: PrivateBus) -> None:
    async def scenario(client: MessageBus, service: str, _interface: Interface) -> None:
        assert await call(client, service, PATH, NAME, "Say", "s", WORDS) == [WORDS]
        with pytest.raises(DBusError) as caught:
            await call(client, service, PATH, NAME, "Say", "s", "fail")
        assert (caught.value.type, caught.value.text) == ("test.Error.Asked", WORDS)
        with pytest.raises(TimeoutError):
            await call(client, service, PATH, NAME, "Say", "s", "hang", seconds=0.05)
        with pytest.raises(DBusError, match=r"was not provided"):
            await call(client, "test.Nobody", PATH, NAME, "Say", "s", "")

    play(bus, scenario)


def test_on_signal(bus: PrivateBus) -> None:
    async def scenario(client: MessageBus, service: str, interface: Interface) -> None:
        heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

        def hear(signal: Message) -> None:
            heard.put_nowait((str(signal.sender), signal.body[0]))

        await on_signal(client, hear, NAME, "Said")
        await on_signal(client, hear, DBUS, "NameOwnerChanged")
        interface.emit("Said", WORDS)
        async with asyncio.timeout(PATIENCE):
            assert await heard.get() == (service, WORDS)
        await call(client, DBUS, DBUS_PATH, DBUS, "RequestName", "su", "test.New", 0)
        async with asyncio.timeout(PATIENCE):
            while await heard.get() != (DBUS, "test.New"):
                pass  # connections of other tests may still be going

    play(bus, scenario)
