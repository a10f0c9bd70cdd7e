# SPDX-License-Identifier: Apache-2.0
"""Calls and signals between two connections on a real bus."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from dbus_fast import DBusError, Message, Variant
from dbus_fast.aio.message_bus import MessageBus

from dbus_harness import PATIENCE, PrivateBus
from fleet_bmc_common.client import DBUS, DBUS_PATH, Follower, call, get, on_signal, put
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


SWITCH = "/test/switch"


async def switch(bus: PrivateBus, name: str) -> tuple[MessageBus, Interface]:
    """A service with one property that can be set."""
    connection = await bus.connect()
    tree = ObjectTree(connection)

    def set_on(_sender: str, value: bool) -> None:
        interface.update(On=value)

    interface = Interface(
        name, {"On": Variant("b", False), "Label": Variant("s", WORDS)}, setters={"On": set_on}
    )
    tree.add(SWITCH, interface)
    tree.announce()
    await connection.request_name(name)
    return connection, interface


def test_get_and_put(bus: PrivateBus) -> None:
    async def main() -> None:
        service, _ = await switch(bus, "test.GetAndPut")
        client = await bus.connect()
        address = ("test.GetAndPut", SWITCH, "test.GetAndPut")
        await put(client, *address, "On", "b", True)
        assert await get(client, *address, "On") is True
        assert await get(client, *address, "Label") == WORDS
        with pytest.raises(DBusError, match="cannot be written"):
            await put(client, *address, "Label", "s", "other")
        service.disconnect()
        client.disconnect()

    asyncio.run(main())


def test_follower_knows_each_change_and_each_owner(bus: PrivateBus) -> None:
    async def main() -> None:
        name = "test.Followed"
        told: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def changed(values: Mapping[str, Any] | None) -> None:
            told.put_nowait(None if values is None else dict(values))

        async def next_told() -> dict[str, Any] | None:
            async with asyncio.timeout(PATIENCE):
                return await told.get()

        client = await bus.connect()
        follower = Follower(client, name, SWITCH, name, changed)
        await follower.start()
        assert follower.values is None
        assert told.empty()
        for _ in range(2):
            service, interface = await switch(bus, name)
            assert await next_told() == {"On": False, "Label": WORDS}
            interface.update(On=True)
            assert await next_told() == {"On": True, "Label": WORDS}
            assert follower.values == {"On": True, "Label": WORDS}
            service.disconnect()
            assert await next_told() is None
        service, _ = await switch(bus, name)
        assert await next_told() == {"On": False, "Label": WORDS}
        late = Follower(client, name, SWITCH, name, changed)
        await late.start()
        assert late.values == {"On": False, "Label": WORDS}
        # somebody else's signal for the same object is not believed
        liar = ObjectTree(client)
        fake = Interface(name, {"On": Variant("b", False)})
        liar.add(SWITCH, fake)
        liar.announce()
        fake.update(On=True)
        await get(client, name, SWITCH, name, "On")
        assert late.values == {"On": False, "Label": WORDS}
        service.disconnect()
        client.disconnect()

    asyncio.run(main())


def test_follower_misses_no_change_right_behind_the_answer(bus: PrivateBus) -> None:
    """The answer to GetAll and the signal after it arrive in one read."""

    async def main() -> None:
        name = "test.Quick"
        service, client = await bus.connect(), await bus.connect()
        values = Interface(name, {"On": Variant("b", False)})

        def answer(message: Message) -> bool:
            if message.member == "GetAll":
                service.send(Message.new_method_return(message, "a{sv}", [{"On": Variant("b", False)}]))
                values.update(On=True)
                return True
            return False

        service.add_message_handler(answer)
        tree = ObjectTree(service)
        tree.add(SWITCH, values)
        tree.announce()
        await service.request_name(name)
        follower = Follower(client, name, SWITCH, name, lambda _: None)
        await follower.start()
        await get(client, name, SWITCH, name, "On")  # the signal is here, too, when this is answered
        assert follower.values == {"On": True}
        service.disconnect()
        client.disconnect()

    asyncio.run(main())
