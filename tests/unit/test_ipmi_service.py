# SPDX-License-Identifier: Apache-2.0
"""Stock ipmitool against the service as shipped, with the real event log and small services for power."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType

from dbus_harness import PATIENCE, CallError, PrivateBus, Service, call
from fleet_bmc_common.objects import PROPERTIES, ObjectTree
from fleet_ipmi.bmc import ACPI, CHASSIS, HOST, PROGRESS
from ipmi_peers import AcpiState, HostPower, Systemd

NAME = "xyz.openbmc_project.Ipmi.Host"
PATH = "/xyz/openbmc_project/Ipmi"
INTERFACE = "io.metafleet.Ipmi"
POLICY = Path(__file__).parents[2] / f"recipes/ipmi/files/{NAME}.conf"
EVENT_LOG = ["-m", "fleet_bmc_common", "fleet_event_log"]
ACPI_STATE = ["-m", "fleet_bmc_common", "fleet_acpi_state"]


class World:
    """A bus with the services on it, and ipmitool."""

    def __init__(self, bus: PrivateBus, socket: Path) -> None:
        self.bus = bus
        self._socket = socket
        self.acpi: AcpiState
        self.host: HostPower
        self.systemd: Systemd

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Run ipmitool; its exit status, what it says, and its complaints."""
        process = await asyncio.create_subprocess_exec(
            "ipmitool",
            *("-I", "dummy", *words),
            env={**os.environ, "IPMI_DUMMY_SOCK": str(self._socket), "TZ": "UTC"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    async def ipmitool(self, *words: str) -> str:
        """Run ipmitool, which must succeed; what it says."""
        status, output, errors = await self.run(*words)
        assert status == 0, output + errors
        return output

    async def property(self, name: str) -> int:
        bus = await self.bus.connect()
        try:
            return int((await call(bus, NAME, PATH, PROPERTIES, "Get", "ss", INTERFACE, name))[0].value)
        finally:
            bus.disconnect()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[World]:
    with (
        PrivateBus(open_to_all=True) as bus,
        Service([*EVENT_LOG, str(tmp_path / "log")], bus.address) as log,
        Service(["-m", "fleet_ipmi", "--dummy", str(tmp_path / "socket")], bus.address) as service,
    ):
        log.wait_for("READY=1")
        service.wait_for("READY=1")
        yield World(bus, tmp_path / "socket")
        assert service.stop() == 0


def play(world: World, scenario: Callable[[World], Awaitable[None]], *, alone: bool = False) -> None:
    async def main() -> None:
        connection = await world.bus.connect()
        tree = ObjectTree(connection)
        tree.announce()
        world.acpi, world.host, world.systemd = AcpiState(tree), HostPower(tree), Systemd(tree)
        if not alone:
            await world.acpi.start()
            await world.host.start()
        try:
            await scenario(world)
        finally:
            connection.disconnect()

    asyncio.run(main())


def table(text: str) -> dict[str, str]:
    """Lines of the form `name : value`."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def test_device_and_acpi_state(services: World) -> None:
    async def scenario(world: World) -> None:
        info = table(await world.ipmitool("mc", "info"))
        assert info["IPMI Version"] == "2.0"
        assert info["Device ID"] == "32"
        assert info["Manufacturer ID"] == "0"
        assert re.fullmatch(r"\d+\.\d\d", info["Firmware Revision"])
        assert "passed" in (await world.ipmitool("mc", "selftest"))
        await world.ipmitool("raw", "6", "6", "0x82", "0x82")
        assert await world.ipmitool("raw", "6", "7") == " 02 02\n"
        assert world.acpi.told == [(f"{ACPI}.ACPI.S2_D2", f"{ACPI}.ACPI.S2_D2", "Operator")]
        for wrong, code in ((("0x8b", "0x80"), "0xc9"), (("0x82",), "0xc7"), (("0xa0", "0"), "0xc9")):
            status, _, errors = await world.run("raw", "6", "6", *wrong)
            assert (status, f"rsp={code}" in errors) == (1, True), errors
        assert await world.ipmitool("raw", "6", "7") == " 02 02\n"
        status, _, errors = await world.run("mc", "reset", "cold")
        assert (status, "Invalid command" in errors) == (1, True), errors

    play(services, scenario)


def test_the_real_acpi_state(services: World, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")

    async def scenario(world: World) -> None:
        await world.systemd.start()
        argv = [*ACPI_STATE, str(tmp_path), str(tmp_path / "settings.json")]
        with Service(argv, world.bus.address) as service:
            await asyncio.to_thread(service.wait_for, "READY=1")
            await world.ipmitool("raw", "6", "6", "0x85", "0x83")
            assert await world.ipmitool("raw", "6", "7") == " 05 03\n"
            await world.ipmitool("raw", "6", "6", "0x82", "0x82")
            assert await world.ipmitool("raw", "6", "7") == " 02 02\n"
            lines = (await world.ipmitool("sel", "elist")).splitlines()
            assert "ACPI_STATUS | S2: sleeping, processor context lost | Asserted" in lines[-1]
            assert await asyncio.to_thread(service.stop) == 0

    play(services, scenario, alone=True)


def test_chassis(services: World) -> None:
    async def scenario(world: World) -> None:
        assert await world.ipmitool("chassis", "power", "status") == "Chassis Power is off\n"
        status, _, errors = await world.run("chassis", "power", "cycle")
        assert (status, "Command not supported in present state" in errors) == (1, True), errors
        for word, expected in (("on", "on"), ("cycle", "on"), ("reset", "on"), ("soft", "off")):
            await world.ipmitool("chassis", "power", word)
            assert await world.ipmitool("chassis", "power", "status") == f"Chassis Power is {expected}\n"
        await world.ipmitool("chassis", "power", "on")
        shown = table(await world.ipmitool("chassis", "status"))
        assert shown["System Power"] == "on"
        assert shown["Last Power Event"] == "command"
        assert shown["Power Control Fault"] == "false"
        assert "chassis power control command" in (await world.ipmitool("chassis", "restart_cause"))
        await world.ipmitool("chassis", "power", "off")
        host, chassis = f"{HOST}.Transition.", f"{CHASSIS}.Transition."
        assert world.host.asked == [
            *(host + word for word in ("On", "Reboot", "ForceWarmReboot", "Off", "On")),
            chassis + "Off",
        ]
        world.host.power.update(Fault="the power did not come")
        assert table(await world.ipmitool("chassis", "status"))["Power Control Fault"] == "true"
        status, _, errors = await world.run("chassis", "power", "diag")
        assert (status, "Invalid data field" in errors) == (1, True), errors

    play(services, scenario)


def test_sel(services: World, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert table(await world.ipmitool("sel", "info"))["Entries"] == "0"
        events = tmp_path / "events"
        events.write_text(
            "0x04 0x22 0x50 0x6f 0x05 0xff 0xff # soft off\n0x04 0x0f 0x51 0x6f 0xc2 0x01 0xff\n"
        )
        await world.ipmitool("sel", "add", str(events))
        await world.ipmitool("event", "1")
        lines = (await world.ipmitool("sel", "list")).splitlines()
        assert [line.split("|")[0].strip() for line in lines] == ["1", "2", "3"]
        assert re.search(r"System ACPI Power State #0x50 \| S5/G2: soft-off \| Asserted", lines[0])
        assert "System Firmwares #0x51 | Memory initialization" in lines[1]
        assert re.search(r"Temperature #0x30 \| Upper Critical going high", lines[2])
        assert "Pre-Init" not in lines[0]
        info = table(await world.ipmitool("sel", "info"))
        assert info["Entries"] == "3"
        assert info["Supported Cmds"] == "'Delete' 'Reserve' 'Get Alloc Info'"
        assert info["# of Alloc Units"] == "4096"
        await world.ipmitool("sel", "delete", "2")
        assert len((await world.ipmitool("sel", "list")).splitlines()) == 2
        await world.ipmitool("sel", "clear")
        status, output, errors = await world.run("sel", "list")
        assert (status, "SEL has no entries" in output + errors) == (0, True)
        assert re.search(r"\d\d:\d\d:\d\d", await world.ipmitool("sel", "time", "get"))
        status, _, errors = await world.run("sel", "time", "set", "01/01/2030 00:00:00")
        assert status == 1, "nobody keeps the time"

    play(services, scenario)


def test_names_of_sensors(services: World) -> None:
    async def scenario(world: World) -> None:
        log, path = "xyz.openbmc_project.Logging", "/xyz/openbmc_project/logging"
        connection = await world.bus.connect()
        for record in ("0000020000000020000422506f05ffff", "000002000000000100040f516fc213ff"):
            data = bytes.fromhex(record)
            await call(connection, log, path, "io.metafleet.EventLog", "AddSelRecord", "ay", data)
        connection.disconnect()
        lines = (await world.ipmitool("sel", "elist")).splitlines()
        assert "System ACPI Power State ACPI_STATUS | S5/G2: soft-off | Asserted" in lines[0]
        assert "System Firmwares FW_PROGRESS | System boot initiated" in lines[1]
        sensors = (await world.ipmitool("sdr", "elist")).splitlines()
        assert [line.split("|")[0].strip() for line in sensors] == ["ACPI_STATUS"]
        assert "S5/G2: soft-off" in sensors[0]
        assert "FW_PROGRESS" in await world.ipmitool("sdr", "elist", "event")

    play(services, scenario)


def test_boot_progress(services: World) -> None:
    async def scenario(world: World) -> None:
        changed: asyncio.Queue[str] = asyncio.Queue()
        connection = await world.bus.connect()

        def hear(message: Message) -> bool:
            if message.message_type is MessageType.SIGNAL and message.body and message.body[0] == PROGRESS:
                changed.put_nowait(message.body[1]["BootProgress"].value)
            return False

        connection.add_message_handler(hear)
        dbus = "org.freedesktop.DBus"
        await call(connection, dbus, "/", dbus, "AddMatch", "s", f"arg0='{PROGRESS}'")
        event = ("0x0f", "0x51", "0x6f", "0xc2", "0x19", "0xff")
        for command, stage in (
            (("0x04", "0x02", "0x04", *event), "PrimaryProcInit"),
            (
                ("0x0a", "0x44", *("0",) * 2, "2", *("0",) * 4, "1", "0", "4", *event[:4], "0x07", "0xff"),
                "PCIInit",
            ),
        ):
            await world.ipmitool("raw", *command)
            async with asyncio.timeout(PATIENCE):
                assert await changed.get() == f"{PROGRESS}.ProgressStages.{stage}"
        connection.disconnect()
        assert len((await world.ipmitool("sel", "list")).splitlines()) == 2

    play(services, scenario)


def test_services_that_are_away(services: World) -> None:
    async def scenario(world: World) -> None:
        for words in (
            ("raw", "0", "1"),
            ("raw", "6", "7"),
            ("raw", "6", "6", "0x80", "0x80"),
            ("raw", "0", "2", "1"),
        ):
            status, _, errors = await world.run(*words)
            assert (status, "rsp=0xce" in errors) == (1, True), errors
        # an event is kept, whether boot progress can be told or not
        await world.ipmitool("raw", "4", "2", "4", "0x0f", "0x51", "0x6f", "0xc2", "1", "0xff")
        assert len((await world.ipmitool("sel", "list")).splitlines()) == 1
        await world.acpi.start()
        world.acpi.hangs = True
        status, _, errors = await world.run("raw", "6", "6", "0x80", "0x80")
        assert (status, "rsp=0xc3" in errors) == (1, True), errors
        world.acpi.hangs = False
        await world.ipmitool("raw", "6", "6", "0x82", "0x82")
        assert await world.ipmitool("raw", "6", "7") == " 02 02\n"

    play(services, scenario, alone=True)


def test_counters(services: World) -> None:
    async def scenario(world: World) -> None:
        assert [await world.property(name) for name in ("Requests", "Refused", "LastRequest")] == [0, 0, 0]
        signals: list[Any] = []
        connection = await world.bus.connect()
        connection.add_message_handler(
            lambda message: signals.append(message.body) if message.path == PATH else None
        )
        dbus = "org.freedesktop.DBus"
        await call(connection, dbus, "/", dbus, "AddMatch", "s", f"path='{PATH}'")
        await world.run("raw", "6", "7")
        before = await world.property("Requests")
        assert before > 0
        await world.run("raw", "6", "0x7f")
        assert await world.property("Refused") >= 1
        assert await world.property("Requests") > before
        assert await world.property("LastRequest") > 1_700_000_000_000
        await call(connection, dbus, "/", dbus, "GetId")  # signals that came before are here now
        assert signals == []
        connection.disconnect()

    play(services, scenario)


def test_nonsense_closes_that_client_only(services: World, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(b"\xff" * 100)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
        writer.close()
        assert await world.property("Refused") == 1
        assert await world.ipmitool("raw", "6", "7") == " 05 2a\n"

    play(services, scenario)


def test_anyone_may_read_and_nobody_write(tmp_path: Path) -> None:
    with (
        PrivateBus([POLICY], users={"fleet-ipmi": os.getuid()}) as bus,
        Service(["-m", "fleet_ipmi", "--dummy", str(tmp_path / "socket")], bus.address) as service,
    ):
        service.wait_for("READY=1")
        (values,) = bus.call(NAME, PATH, PROPERTIES, "GetAll", "s", INTERFACE)
        assert set(values) == {"Requests", "Refused", "LastRequest"}
        with pytest.raises(CallError, match="AccessDenied"):
            bus.call(NAME, PATH, PROPERTIES, "Set", "ssv", INTERFACE, "Requests", values["Requests"])
        assert service.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the board file /usr/share/fleet/board.json cannot be read"),
        (["--dummy"], r"usage: python3 -m fleet_ipmi \[--dummy PATH\]"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments: list[str], words: str) -> None:
    with (
        PrivateBus(open_to_all=True) as bus,
        Service(["-m", "fleet_bmc_common", "fleet_ipmi", *arguments], bus.address) as service,
    ):
        status, errors = service.end()
    assert status == 1
    assert re.match(words, errors), errors
    assert len(errors.splitlines()) == 1
