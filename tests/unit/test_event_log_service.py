# SPDX-License-Identifier: Apache-2.0
"""The service as shipped (program, policy) on a private system bus."""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant

from dbus_harness import PATIENCE, CallError, PrivateBus, Service, call

NAME = "xyz.openbmc_project.Logging"
ROOT = "/xyz/openbmc_project/logging"
ENTRY = NAME + ".Entry"
EVENT_LOG = "io.metafleet.EventLog"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"

LAUNCH = ["-m", "fleet_bmc_common", "fleet_event_log"]
POLICY = Path(__file__).parents[2] / f"recipes/event-log/files/{NAME}.conf"
S5 = bytes.fromhex("0000 02 00000000 2000 04 22 50 6f 05ffff")


class Client:
    """What a test asks of the service."""

    def __init__(self, bus: PrivateBus) -> None:
        self.bus = bus

    def call(
        self, interface: str, member: str, signature: str = "", *body: Any, path: str = ROOT
    ) -> list[Any]:
        return self.bus.call(NAME, path, interface, member, signature, *body)

    def append(self, message: str, severity: str = "Notice", sel: bytes = b"", **data: str) -> int:
        (number,) = self.call(EVENT_LOG, "Append", "ssa{ss}ay", message, severity, data, sel)
        return int(number)

    def read(self, first: int = 0, count: int = 1000) -> list[list[Any]]:
        (entries,) = self.call(EVENT_LOG, "Read", "uu", first, count)
        return list(entries)

    def messages(self) -> list[str]:
        return [entry[3] for entry in self.read()]

    def property(self, name: str) -> Any:
        (value,) = self.call(PROPERTIES, "Get", "ss", EVENT_LOG, name)
        return value.value

    def objects(self) -> dict[str, Any]:
        (objects,) = self.call(OBJECT_MANAGER, "GetManagedObjects")
        return {path: value for path, value in objects.items() if "/entry/" in path}


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    users = {"fleet-event-log": os.getuid(), "root": os.getuid()}
    with PrivateBus([POLICY], users=users) as bus:
        yield bus


@pytest.fixture
def client(bus: PrivateBus, tmp_path: Path) -> Iterator[Client]:
    with Service([*LAUNCH, str(tmp_path)], bus.address) as service:
        service.wait_for("READY=1")
        yield Client(bus)
        assert service.stop() == 0


def test_openbmc_names(client: Client) -> None:
    data = {"POWER_GOOD": "0"}
    level = ENTRY + ".Level.Error"
    (path,) = client.call(NAME + ".Create", "Create", "ssa{ss}", "io.metafleet.HostDead", level, data)
    assert path == ROOT + "/entry/1"
    (objects,) = [client.objects()]
    assert set(objects) == {path}
    assert set(objects[path]) == {ENTRY, "xyz.openbmc_project.Object.Delete"}
    shown = objects[path][ENTRY]
    assert shown["Message"] == Variant("s", "io.metafleet.HostDead")
    assert shown["Severity"] == Variant("s", level)
    assert shown["AdditionalData"] == Variant("a{ss}", data)
    assert shown["Id"] == Variant("u", 1)
    assert shown["Timestamp"].signature == "t"
    assert client.call(PROPERTIES, "GetAll", "s", ENTRY, path=path) == [shown]
    client.call("xyz.openbmc_project.Object.Delete", "Delete", path=path)
    assert client.objects() == {}
    client.append("another")
    client.call("xyz.openbmc_project.Collection.DeleteAll", "DeleteAll")
    assert client.messages() == []
    assert client.property("LastCleared") > 0


def test_entries_outlive_the_service(bus: PrivateBus, tmp_path: Path) -> None:
    for number in range(1, 4):
        with Service([*LAUNCH, str(tmp_path)], bus.address) as service:
            service.wait_for("READY=1")
            client = Client(bus)
            assert client.append(f"start {number}", text="…") == number
            service.process.kill()  # what was answered is on disk
            service.process.wait(PATIENCE)
    with Service([*LAUNCH, str(tmp_path)], bus.address) as service:
        service.wait_for("READY=1")
        entries = Client(bus).read()
        assert [entry[3] for entry in entries] == ["start 1", "start 2", "start 3"]
        assert entries[0][4] == {"text": "…"}


def test_sel_records(client: Client) -> None:
    client.append("no record")
    (first,) = client.call(EVENT_LOG, "AddSelRecord", "ay", S5)
    second = client.append("with one", sel=S5)
    assert (first, second) == (2, 3)
    assert client.property("SelRecords") == 2
    following, record = client.call(EVENT_LOG, "GetSelRecord", "q", 0)
    assert (following, record[:2], record[7:]) == (3, b"\x02\x00", S5[7:])
    assert int.from_bytes(record[3:7], "little") > 1_700_000_000
    assert client.call(EVENT_LOG, "GetSelRecord", "q", 3)[0] == 0xFFFF
    assert client.call(EVENT_LOG, "GetSelRecord", "q", 0xFFFF) == client.call(
        EVENT_LOG, "GetSelRecord", "q", 3
    )
    assert client.read(2, 1)[0][4]["SENSOR_TYPE"] == "34"
    assert client.call(EVENT_LOG, "DeleteSelRecord", "q", 2) == [2]
    for number in (1, 2, 4, 0xFFFE):
        with pytest.raises(CallError, match=r"io\.metafleet\.EventLog\.Error\.NoSuchEntry"):
            client.call(EVENT_LOG, "GetSelRecord", "q", number)


def test_an_empty_log_has_no_record(client: Client) -> None:
    for number in (0, 0xFFFF):
        with pytest.raises(CallError, match="NoSuchEntry"):
            client.call(EVENT_LOG, "GetSelRecord", "q", number)
    with pytest.raises(CallError, match="NoSuchEntry"):
        client.call(EVENT_LOG, "Delete", "u", 1)


@pytest.mark.usefixtures("client")
def test_signals(bus: PrivateBus) -> None:
    found: list[tuple[str, Any]] = []

    async def run() -> None:
        connection = await bus.connect()

        def hear(message: Message) -> bool:
            if message.message_type is MessageType.SIGNAL and str(message.path).startswith(ROOT):
                found.append((str(message.member), message.body))
            return False

        connection.add_message_handler(hear)
        dbus = "org.freedesktop.DBus"
        await call(connection, dbus, "/", dbus, "AddMatch", "s", f"type='signal',path_namespace='{ROOT}'")
        await call(connection, NAME, ROOT, EVENT_LOG, "Append", "ssa{ss}ay", "m", "Error", {}, b"")
        await call(connection, NAME, ROOT, EVENT_LOG, "Delete", "u", 1)
        await call(connection, NAME, ROOT, "xyz.openbmc_project.Collection.DeleteAll", "DeleteAll")
        connection.disconnect()

    asyncio.run(run())
    names = [name for name, _ in found]
    assert names == [
        *("PropertiesChanged", "InterfacesAdded", "Added"),
        *("PropertiesChanged", "InterfacesRemoved", "Deleted"),
        *("PropertiesChanged", "Cleared"),
    ]
    assert found[1][1][0] == ROOT + "/entry/1"
    assert found[2][1][0] == 1
    assert found[2][1][2:] == ["Error", "m", {}, b""]


def test_many_at_once_are_written_together(bus: PrivateBus, client: Client) -> None:
    async def run() -> list[int]:
        connection = await bus.connect()
        numbers = []
        for start in range(0, 300, 100):  # the bus allows 128 calls under way
            calls = [
                call(connection, NAME, ROOT, EVENT_LOG, "Append", "ssa{ss}ay", f"m{number}", "Error", {}, b"")
                for number in range(start, start + 100)
            ]
            numbers += [answer[0] for answer in await asyncio.gather(*calls)]
        connection.disconnect()
        return numbers

    assert asyncio.run(run()) == list(range(1, 301))
    assert client.messages() == [f"m{number}" for number in range(256)]  # as many as Read gives at a time
    assert [entry[0] for entry in client.read(257)] == list(range(257, 301))
    assert len(client.objects()) == 200


@pytest.mark.parametrize(
    ("member", "signature", "body", "words"),
    [
        ("Append", "ssa{ss}ay", ["m", "Loud", {}, b""], "severity 'Loud' is not known; allowed: Emergency"),
        ("Append", "ssa{ss}ay", ["", "Error", {}, b""], "needs a message"),
        ("Append", "ssa{ss}ay", ["m", "Error", {}, b"123"], "16 bytes, not 3"),
        ("Append", "ssa{ss}ay", ["m" * 3000, "Error", {}, b""], "too long"),
        ("Append", "ss", ["m", "Error"], "takes 'ssa{ss}ay', not 'ss'"),
        ("AddSelRecord", "ay", [b""], "a SEL record has 16 bytes"),
    ],
)
def test_what_is_refused(client: Client, member: str, signature: str, body: list[Any], words: str) -> None:
    with pytest.raises(CallError, match=r"InvalidArgs.*" + re.escape(words)):
        client.call(EVENT_LOG, member, signature, *body)
    assert client.messages() == []


def test_a_write_error_is_told_and_logged_once(bus: PrivateBus, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with Service([*LAUNCH, str(folder)], bus.address) as service:
        service.wait_for("READY=1")
        client = Client(bus)
        client.append("before")
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        # the file that is open has lost its name, which is noticed when a new one is needed
        for _ in range(2):
            with pytest.raises(CallError, match=r"xyz\.openbmc_project\.Common\.File\.Error\.Write"):
                client.call("xyz.openbmc_project.Collection.DeleteAll", "DeleteAll")
        assert client.messages() == ["before"]
        service.process.terminate()
        status, errors = service.end()
        assert status == 0
        assert errors.count("the log cannot be written: No such file or directory") == 1


def test_a_folder_that_cannot_be_used_is_named(bus: PrivateBus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Service([*LAUNCH, str(tmp_path / "file")], bus.address) as service:
        status, errors = service.end()
    assert status == 1
    assert re.fullmatch(r"the log's folder \S+/file cannot be used: File exists\n", errors)


def test_others_may_read_and_not_write(bus: PrivateBus, tmp_path: Path) -> None:
    with (
        PrivateBus([POLICY], users={"fleet-event-log": os.getuid(), "root": os.getuid() + 1}) as bus,
        Service([*LAUNCH, str(tmp_path)], bus.address) as service,
    ):
        service.wait_for("READY=1")
        client = Client(bus)
        assert client.messages() == []
        assert client.property("Entries") == 0
        for member, signature, body in (
            ("Append", "ssa{ss}ay", ["m", "Error", {}, b""]),
            ("Delete", "u", [1]),
            ("AddSelRecord", "ay", [S5]),
        ):
            with pytest.raises(CallError, match="AccessDenied"):
                client.call(EVENT_LOG, member, signature, *body)
