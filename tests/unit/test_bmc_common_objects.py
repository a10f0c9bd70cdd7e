# SPDX-License-Identifier: Apache-2.0
"""The object tree on a real bus, its client on a connection of its own."""

import asyncio
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from dbus_fast import DBusError, Message, MessageFlag, MessageType, SignatureBodyMismatchError, Variant
from dbus_fast.aio.message_bus import MessageBus

from dbus_harness import PATIENCE, CallError, PrivateBus, call
from fleet_bmc_common.objects import (
    INTROSPECTABLE,
    OBJECT_MANAGER,
    PEER,
    PROPERTIES,
    Interface,
    Method,
    ObjectTree,
)

ROOT = "/test/lamps"
LAMP = "/test/lamps/hall/ceiling"
NAME = "test.Lamp"

Scenario = Callable[["Room"], Awaitable[None]]
Play = Callable[[Scenario], None]


class Room:
    """A tree with one lamp, and a client."""

    def __init__(self, service: MessageBus, client: MessageBus) -> None:
        self.service, self.client = service, client
        self.tree = ObjectTree(service)
        self.signals: asyncio.Queue[Message] = asyncio.Queue()
        self.lamp = Interface(
            NAME,
            {
                "On": Variant("b", False),
                "Watts": Variant("d", 7.5),
                "Shades": Variant("as", ["warm"]),
                "Room": Variant("s", "hall"),
            },
            setters={"On": self.set_on, "Shades": self.set_shades, "Watts": self.set_watts},
            methods={
                "Blink": Method("ui", "ss", self.blink),
                "Fade": Method("u", "u", self.fade),
                "Break": Method("", "", self.fail),
                "Lie": Method("", "u", lambda _: ["no number"]),
            },
            signals={"Flickered": "us"},
        )
        self.tree.manage(ROOT)
        self.tree.add(LAMP, self.lamp, Interface("test.Plain"))
        self.calls: list[Any] = []

    def set_on(self, sender: str, value: bool) -> None:
        self.calls.append((sender, value))
        self.lamp.update(On=value)

    async def set_shades(self, _sender: str, value: list[str]) -> None:
        await asyncio.sleep(0)
        self.lamp.update(Shades=value)

    def set_watts(self, _sender: str, value: float) -> None:
        raise DBusError("test.Error.TooBright", f"{value} W is too much")

    def blink(self, sender: str, times: int, pause: int) -> list[str]:
        return [sender, f"{times} times, {pause} ms"]

    async def fade(self, _sender: str, seconds: int) -> list[int]:
        await asyncio.sleep(0)
        if seconds > 60:
            raise DBusError("test.Error.TooSlow", "nobody waits that long")
        if seconds == 13:
            raise RuntimeError("unlucky secret")
        return [seconds]

    def fail(self, _sender: str) -> list[Any]:
        raise RuntimeError("secret detail")

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        assert self.service.unique_name
        return await call(self.client, self.service.unique_name, path, interface, member, signature, *body)

    async def get(self, name: str, interface: str = NAME, path: str = LAMP) -> Any:
        return (await self.call(path, PROPERTIES, "Get", "ss", interface, name))[0].value

    async def set(self, name: str, value: Variant, interface: str = NAME, path: str = LAMP) -> None:
        await self.call(path, PROPERTIES, "Set", "ssv", interface, name, value)

    async def listen(self) -> None:
        """Collect all signals of the service; the bus answers after it has added the rule."""
        rule = f"type='signal',sender='{self.service.unique_name}'"
        self.client.add_message_handler(self._collect)
        bus = "org.freedesktop.DBus"
        await call(self.client, bus, "/", bus, "AddMatch", "s", rule)

    def _collect(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL and message.sender == self.service.unique_name:
            self.signals.put_nowait(message)
        return False

    async def signal(self) -> tuple[str, str, str, list[Any]]:
        async with asyncio.timeout(PATIENCE):
            message = await self.signals.get()
        return str(message.path), str(message.interface), str(message.member), message.body

    async def no_signal(self) -> None:
        """Prove that nothing was sent: replies come on the same connection after the signals."""
        await self.call(LAMP, PEER, "Ping")
        assert self.signals.empty()


@pytest.fixture(scope="module")
def bus() -> Iterator[PrivateBus]:
    # Everything between two connections of one user is allowed: this is about the tree, not about policies.
    with PrivateBus(open_to_all=True) as bus:
        yield bus


@pytest.fixture
def play(bus: PrivateBus) -> Play:
    def run(scenario: Scenario) -> None:
        async def main() -> None:
            service, client = await bus.connect(), await bus.connect()
            try:
                await scenario(Room(service, client))
            finally:
                service.disconnect()
                client.disconnect()

        asyncio.run(main())

    return run


def test_get(play: Play) -> None:
    async def scenario(room: Room) -> None:
        assert await room.get("On") is False
        assert await room.get("Watts") == 7.5
        assert await room.get("Shades") == ["warm"]

    play(scenario)


def test_get_all(play: Play) -> None:
    async def scenario(room: Room) -> None:
        everything = {
            "On": Variant("b", False),
            "Watts": Variant("d", 7.5),
            "Shades": Variant("as", ["warm"]),
            "Room": Variant("s", "hall"),
        }
        for interface, expected in (
            (NAME, everything),
            ("", everything),
            ("test.Plain", {}),
            (PROPERTIES, {}),
        ):
            assert await room.call(LAMP, PROPERTIES, "GetAll", "s", interface) == [expected]

    play(scenario)


def test_get_managed_objects(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.tree.add("/test/elsewhere", Interface("test.Plain"))
        room.tree.add("/test/lampsize", Interface("test.Plain"))
        (objects,) = await room.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")
        assert set(objects) == {LAMP}
        assert set(objects[LAMP]) == {NAME, "test.Plain"}
        assert objects[LAMP][NAME]["Watts"] == Variant("d", 7.5)

    play(scenario)


@pytest.mark.parametrize(
    ("path", "interface", "member", "signature", "body", "error"),
    [
        ("/no", PROPERTIES, "GetAll", "s", [""], "UnknownObject"),
        ("/test/lamp", INTROSPECTABLE, "Introspect", "", [], "UnknownObject"),
        (LAMP + "/bulb", NAME, "Blink", "ui", [1, 1], "UnknownObject"),
        (LAMP, "test.Other", "Blink", "ui", [1, 1], "UnknownInterface"),
        (ROOT, NAME, "Blink", "ui", [1, 1], "UnknownInterface"),
        (LAMP, OBJECT_MANAGER, "GetManagedObjects", "", [], "UnknownInterface"),
        (LAMP, PROPERTIES, "Get", "ss", ["test.Other", "On"], "UnknownInterface"),
        (LAMP, PROPERTIES, "GetAll", "s", ["test.Other"], "UnknownInterface"),
        (ROOT, PROPERTIES, "Get", "ss", [NAME, "On"], "UnknownInterface"),
        (LAMP, NAME, "Explode", "", [], "UnknownMethod"),
        (LAMP, PROPERTIES, "Take", "", [], "UnknownMethod"),
        (LAMP, NAME, "Blink", "u", [1], "InvalidArgs"),
        (LAMP, PROPERTIES, "Get", "s", [NAME], "InvalidArgs"),
        (LAMP, PROPERTIES, "Get", "ss", [NAME, "Colour"], "UnknownProperty"),
        (LAMP, PROPERTIES, "Get", "ss", [PEER, "On"], "UnknownProperty"),
        (LAMP, PROPERTIES, "Set", "ssv", [NAME, "Colour", Variant("s", "red")], "UnknownProperty"),
        (LAMP, PROPERTIES, "Set", "ssv", ["test.Other", "On", Variant("b", True)], "UnknownInterface"),
        (LAMP, PROPERTIES, "Set", "ssv", [NAME, "Room", Variant("s", "attic")], "PropertyReadOnly"),
        (LAMP, PROPERTIES, "Set", "ssv", [NAME, "Room", Variant("u", 1)], "PropertyReadOnly"),
        (LAMP, PROPERTIES, "Set", "ssv", [NAME, "On", Variant("u", 1)], "InvalidArgs"),
    ],
)
def test_standard_errors(
    play: Play, path: str, interface: str, member: str, signature: str, body: list[Any], error: str
) -> None:
    async def scenario(room: Room) -> None:
        with pytest.raises(CallError) as caught:
            await room.call(path, interface, member, signature, *body)
        assert caught.value.name == "org.freedesktop.DBus.Error." + error
        assert await room.get("Room") == "hall"
        assert room.calls == []

    play(scenario)


def test_interface_field_may_not_be_left_out(play: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await room.client.call(Message(room.service.unique_name, LAMP, None, "Blink"))
        assert reply is not None
        assert reply.error_name == "org.freedesktop.DBus.Error.UnknownInterface"

    play(scenario)


WORDS = "\N{HORIZONTAL ELLIPSIS} \N{LATIN SMALL LETTER E WITH ACUTE} \N{GRINNING FACE}"


def test_text_beyond_ascii_arrives_everywhere(play: Play) -> None:
    """dbus-fast 1.84 by itself would send too short a length, and the bus would cut the connection."""

    async def scenario(room: Room) -> None:
        room.tree.announce()
        await room.listen()
        room.lamp.update(Room=WORDS)
        assert (await room.signal())[3][1] == {"Room": Variant("s", WORDS)}
        assert await room.get("Room") == WORDS
        (objects,) = await room.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")
        assert objects[LAMP][NAME]["Room"].value == WORDS
        room.lamp.emit("Flickered", 1, WORDS)
        assert (await room.signal())[3] == [1, WORDS]
        room.lamp.update(Shades=[WORDS, "cold"])
        assert await room.get("Shades") == [WORDS, "cold"]
        with pytest.raises(CallError) as caught:
            await room.get(WORDS)
        assert WORDS in str(caught.value)

    play(scenario)


def test_set_calls_the_setter_with_the_caller(play: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.set("On", Variant("b", True))
        assert room.calls == [(room.client.unique_name, True)]
        assert await room.get("On") is True

    play(scenario)


def test_set_waits_for_a_coroutine(play: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.set("Shades", Variant("as", ["cold", "dim"]))
        assert await room.get("Shades") == ["cold", "dim"]

    play(scenario)


def test_setter_refuses(play: Play) -> None:
    async def scenario(room: Room) -> None:
        with pytest.raises(CallError, match=r"test\.Error\.TooBright.*60\.0 W is too much"):
            await room.set("Watts", Variant("d", 60.0))
        assert await room.get("Watts") == 7.5

    play(scenario)


def test_methods(play: Play) -> None:
    async def scenario(room: Room) -> None:
        sender = room.client.unique_name
        assert await room.call(LAMP, NAME, "Blink", "ui", 3, -5) == [sender, "3 times, -5 ms"]
        assert await room.call(LAMP, NAME, "Fade", "u", 5) == [5]
        with pytest.raises(CallError, match=r"test\.Error\.TooSlow"):
            await room.call(LAMP, NAME, "Fade", "u", 61)

    play(scenario)


@pytest.mark.parametrize(("member", "arguments"), [("Break", ()), ("Fade", ("u", 13)), ("Lie", ())])
def test_details_of_a_bug_go_to_the_journal_only(
    play: Play, member: str, arguments: tuple[Any, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario(room: Room) -> None:
        with pytest.raises(CallError) as caught:
            await room.call(LAMP, NAME, member, *arguments)
        assert str(caught.value) == (
            f'org.freedesktop.DBus.Error.Failed: ["{member} failed; the service\'s journal tells why"]'
        )
        assert await room.get("Room") == "hall"

    play(scenario)
    assert "Traceback" in capfd.readouterr().err


def test_no_reply_when_none_is_expected(play: Play) -> None:
    async def scenario(room: Room) -> None:
        replies: list[Message] = []
        room.client.add_message_handler(lambda message: replies.append(message))
        for member, signature, body in (("Blink", "ui", [1, 1]), ("Explode", "", []), ("Fade", "u", [1])):
            flags = MessageFlag.NO_REPLY_EXPECTED
            message = Message(
                room.service.unique_name, LAMP, NAME, member, flags=flags, signature=signature, body=body
            )
            await room.client.send(message)
        await room.call(LAMP, PEER, "Ping")
        await room.call(LAMP, PEER, "Ping")
        assert [reply.signature for reply in replies if reply.reply_serial] == ["", ""]

    play(scenario)


def test_peer_answers_on_any_path(play: Play) -> None:
    async def scenario(room: Room) -> None:
        assert await room.call("/nowhere", PEER, "Ping") == []
        (machine,) = await room.call("/", PEER, "GetMachineId")
        assert len(machine) == 32

    play(scenario)


def test_silence_until_announced(play: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.listen()
        room.lamp.update(On=True)
        room.lamp.emit("Flickered", 1, "early")
        room.tree.add("/test/lamps/desk", Interface("test.Plain"))
        await room.no_signal()

    play(scenario)


def test_update_announces_what_differs(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.tree.announce()
        await room.listen()
        room.lamp.update(On=True, Watts=7.5, Shades=["cold"])
        changed = {"On": Variant("b", True), "Shades": Variant("as", ["cold"])}
        assert await room.signal() == (LAMP, PROPERTIES, "PropertiesChanged", [NAME, changed, []])
        room.lamp.update(On=True)
        await room.no_signal()

    play(scenario)


def test_signal_comes_before_the_reply_of_set(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.tree.announce()
        await room.listen()
        await room.set("On", Variant("b", True))
        assert not room.signals.empty()

    play(scenario)


def test_emit(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.tree.announce()
        await room.listen()
        room.lamp.emit("Flickered", 3, "storm")
        assert await room.signal() == (LAMP, NAME, "Flickered", [3, "storm"])

    play(scenario)


@pytest.mark.parametrize("values", [("three", "storm"), (3,), (3, "storm", 1), (-1, "storm"), ()])
def test_emit_checks_values_before_the_bus_does(play: Play, values: tuple[Any, ...]) -> None:
    """A message that does not fit its signature would end the connection."""

    async def scenario(room: Room) -> None:
        with pytest.raises(SignatureBodyMismatchError):
            room.lamp.emit("Flickered", *values)
        with pytest.raises(SignatureBodyMismatchError):
            room.lamp.update(On="perhaps")
        assert await room.get("On") is False

    play(scenario)


def test_objects_come_and_go_by_their_closest_manager(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.tree.manage(ROOT + "/hall")
        room.tree.announce()
        await room.listen()
        plain = Interface("test.Plain", {"N": Variant("u", 1)})
        for path, manager in ((ROOT + "/desk", ROOT), (ROOT + "/hall/mirror", ROOT + "/hall")):
            room.tree.add(path, plain)
            added = [path, {"test.Plain": {"N": Variant("u", 1)}}]
            assert await room.signal() == (manager, OBJECT_MANAGER, "InterfacesAdded", added)
            room.tree.remove(path)
            removed = [path, ["test.Plain"]]
            assert await room.signal() == (manager, OBJECT_MANAGER, "InterfacesRemoved", removed)
            plain.update(N=plain.properties["N"].value + 1)
            plain.update(N=1)
        room.tree.add("/unmanaged", plain)
        await room.no_signal()
        with pytest.raises(CallError, match="UnknownObject"):
            await room.get("N", "test.Plain", ROOT + "/desk")

    play(scenario)


def test_a_path_is_used_once(play: Play) -> None:
    async def scenario(room: Room) -> None:
        with pytest.raises(ValueError, match=f"there is an object at {LAMP} already"):
            room.tree.add(LAMP, Interface("test.Plain"))

    play(scenario)


@pytest.mark.parametrize("path", ["", "lamps", "/lamps/", "/a//b", "/a-b"])
def test_paths_are_checked(play: Play, path: str) -> None:
    async def scenario(room: Room) -> None:
        with pytest.raises(TypeError, match="invalid object path"):
            room.tree.add(path)
        with pytest.raises(TypeError, match="invalid object path"):
            room.tree.manage(path)

    play(scenario)


def test_interface_names_are_checked() -> None:
    with pytest.raises(TypeError, match="invalid interface name"):
        Interface("lamp")


def test_introspection(play: Play) -> None:
    async def scenario(room: Room) -> None:
        root = ET.fromstring((await room.call(LAMP, INTROSPECTABLE, "Introspect"))[0])
        interfaces = {entry.attrib["name"]: entry for entry in root}
        assert set(interfaces) == {PEER, INTROSPECTABLE, PROPERTIES, NAME, "test.Plain"}
        lamp = interfaces[NAME]
        blink = [dict(entry.attrib) for entry in lamp.findall("method[@name='Blink']/arg")]
        inward, outward = {"direction": "in"}, {"direction": "out"}
        assert blink == [
            {"type": "u", **inward},
            {"type": "i", **inward},
            {"type": "s", **outward},
            {"type": "s", **outward},
        ]
        assert [entry.attrib["type"] for entry in lamp.findall("signal/arg")] == ["u", "s"]
        properties = {entry.attrib["name"]: entry.attrib for entry in lamp.findall("property")}
        assert (properties["On"]["type"], properties["On"]["access"]) == ("b", "readwrite")
        assert (properties["Room"]["type"], properties["Room"]["access"]) == ("s", "read")

    play(scenario)


@pytest.mark.parametrize(
    ("path", "children", "manager"),
    [
        ("/", ["test"], False),
        ("/test", ["lamps"], False),
        (ROOT, ["hall"], True),
        (ROOT + "/hall", ["ceiling"], False),
    ],
)
def test_introspection_of_the_way_to_an_object(
    play: Play, path: str, children: list[str], manager: bool
) -> None:
    async def scenario(room: Room) -> None:
        root = ET.fromstring((await room.call(path, INTROSPECTABLE, "Introspect"))[0])
        assert [entry.attrib["name"] for entry in root.findall("node")] == children
        assert (root.find(f"interface[@name='{OBJECT_MANAGER}']") is not None) is manager

    play(scenario)


@pytest.mark.skipif(shutil.which("busctl") is None, reason="busctl (package systemd) is not installed")
def test_busctl_understands_the_introspection(bus: PrivateBus, play: Play) -> None:
    async def scenario(room: Room) -> None:
        process = await asyncio.create_subprocess_exec(
            "busctl",
            f"--address={bus.address}",
            "--no-pager",
            "introspect",
            str(room.service.unique_name),
            LAMP,
            stdout=subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        lines = [line.split() for line in output.decode().splitlines()]
        assert [".Watts", "property", "d", "7.5", "emits-change", "writable"] in lines
        assert [".Blink", "method", "ui", "ss", "-"] in lines
        assert [".Flickered", "signal", "us", "-", "-"] in lines

    play(scenario)
