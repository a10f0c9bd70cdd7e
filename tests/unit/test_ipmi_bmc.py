# SPDX-License-Identifier: Apache-2.0
"""The rest of the BMC on D-Bus: what is asked of whom, and what becomes of their errors."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from dbus_fast import DBusError, ErrorType, Variant
from dbus_fast.aio.message_bus import MessageBus

from dbus_harness import PATIENCE, PrivateBus
from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree
from fleet_ipmi import bmc as names
from fleet_ipmi.bmc import MOST_UNDER_WAY, DBusBmc
from fleet_ipmi.outside import (
    AwayError,
    BadValueError,
    BmcError,
    Firmware,
    LogInfo,
    NoSuchRecordError,
    NotNowError,
    Power,
    StorageError,
)
from ipmi_peers import AcpiState, HostPower


@pytest.fixture(scope="module")
def bus() -> Iterator[PrivateBus]:
    with PrivateBus(open_to_all=True) as bus:
        yield bus


class World:
    def __init__(self, own: MessageBus, others: MessageBus) -> None:
        self.others = others
        self.bmc = DBusBmc(own, Firmware(1, 2, bytes(4)))
        self.tree = ObjectTree(others)
        self.tree.announce()
        self.acpi = AcpiState(self.tree)
        self.host = HostPower(self.tree)


def play(bus: PrivateBus, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        own, others = await bus.connect(), await bus.connect()
        try:
            async with asyncio.timeout(PATIENCE):
                await scenario(World(own, others))
        finally:
            own.disconnect()
            others.disconnect()

    asyncio.run(main())


def test_acpi_state(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        await world.acpi.start()
        assert await world.bmc.acpi_state() == ("S5_G2", "S5_G2")
        await world.bmc.set_acpi_state("S2_D2", "", "Host")
        assert await world.bmc.acpi_state() == ("S2_D2", "S5_G2")
        await world.bmc.set_acpi_state("", "S0_G0_D0", "Operator")
        assert await world.bmc.acpi_state() == ("S2_D2", "S0_G0_D0")
        prefix = names.ACPI + ".ACPI."
        assert world.acpi.told == [(prefix + "S2_D2", "", "Host"), ("", prefix + "S0_G0_D0", "Operator")]
        with pytest.raises(BadValueError, match="no such state here"):
            await world.bmc.set_acpi_state("LEGACY_ON", "", "Host")

    play(bus, scenario)


def test_power(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        await world.host.start()
        assert await world.bmc.power() == Power("Off", failed=False)
        world.host.power.update(Fault="the power did not come")
        assert await world.bmc.power() == Power("Off", failed=True)
        assert await world.bmc.restart_cause() == "Unknown"
        await world.bmc.request_host("On")
        assert (await world.bmc.power()).state == "On"
        assert await world.bmc.restart_cause() == "RemoteCommand"
        await world.bmc.request_chassis("Off")
        with pytest.raises(NotNowError, match="makes no sense now"):
            await world.bmc.request_chassis("Off")
        assert world.host.asked == [
            "xyz.openbmc_project.State.Host.Transition.On",
            "xyz.openbmc_project.State.Chassis.Transition.Off",
        ]

    play(bus, scenario)


def test_boot_progress_is_told_in_order(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        await world.host.start()
        told: list[str] = []
        last = asyncio.Event()

        def keep(_sender: str, value: str) -> None:
            told.append(value.rpartition(".")[2])
            if value.endswith(".OSStart"):
                last.set()

        world.host.progress.setters = {"BootProgress": keep}
        stages = ["PrimaryProcInit", "MemoryInit", "PCIInit", "OSStart"]
        for stage in stages:
            world.bmc.boot_progress(stage)
        await last.wait()
        assert told == stages

    play(bus, scenario)


def test_boot_progress_that_nobody_takes_is_logged_once(
    bus: PrivateBus, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(world: World) -> None:
        for _ in range(MOST_UNDER_WAY + 5):
            world.bmc.boot_progress("MemoryInit")
        assert len(world.bmc._telling) == MOST_UNDER_WAY
        await asyncio.gather(*world.bmc._telling)

    play(bus, scenario)
    assert capsys.readouterr().err.count("boot progress MemoryInit could not be told") == 1


def test_who_is_away(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        asked: list[Awaitable[Any]] = [
            world.bmc.acpi_state(),
            world.bmc.set_acpi_state("S2_D2", "", "Host"),
            world.bmc.power(),
            world.bmc.restart_cause(),
            world.bmc.request_host("On"),
            world.bmc.log_info(),
            world.bmc.sel_record(0),
            world.bmc.clear_log(),
            world.bmc.set_time(1),
        ]
        for one in asked:
            with pytest.raises(AwayError, match=r"^xyz\.openbmc_project\."):
                await one

    play(bus, scenario)


def test_who_goes_away_with_the_request(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        await world.acpi.start()
        world.acpi.hangs = True
        asking = asyncio.create_task(world.bmc.set_acpi_state("S2_D2", "", "Host"))
        while not world.acpi.told:
            await asyncio.sleep(0.01)
        world.others.disconnect()
        with pytest.raises(AwayError):
            await asking

    play(bus, scenario)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("io.metafleet.EventLog.Error.NoSuchEntry", NoSuchRecordError),
        ("xyz.openbmc_project.Common.File.Error.Write", StorageError),
        (ErrorType.INVALID_ARGS, BadValueError),
        (ErrorType.UNKNOWN_OBJECT, AwayError),
        (ErrorType.ACCESS_DENIED, DBusError),  # our own policy is wrong: a bug
    ],
)
def test_errors_of_the_log(bus: PrivateBus, name: Any, error: type[BmcError]) -> None:
    async def scenario(world: World) -> None:
        def refuse(_sender: str, _record: bytes) -> Body:
            raise DBusError(name, "the reason")

        world.tree.add(
            names.LOG_PATH, Interface(names.EVENT_LOG, methods={"AddSelRecord": Method("ay", "q", refuse)})
        )
        await world.others.request_name(names.LOG)
        with pytest.raises(error, match="the reason"):
            await world.bmc.add_sel_record(bytes(16))

    play(bus, scenario)


def test_log_and_time(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        numbers = {"Entries": 7, "SelRecords": 5, "Capacity": 4096}
        times = {"LastAdded": 1_000, "LastCleared": 2_000}
        values = {name: Variant("u", value) for name, value in numbers.items()}
        values |= {name: Variant("t", value) for name, value in times.items()}
        methods = {
            "GetSelRecord": Method("q", "qay", lambda _, number: [number + 1, bytes(16)]),
            "DeleteSelRecord": Method("q", "q", lambda _, number: [number]),
        }
        elapsed: list[int] = []
        clock = Interface(
            names.EPOCH_TIME,
            {"Elapsed": Variant("t", 0)},
            setters={"Elapsed": lambda _, value: elapsed.append(value)},
        )
        world.tree.add(names.LOG_PATH, Interface(names.EVENT_LOG, values, methods=methods))
        world.tree.add(names.TIME_PATH, clock)
        await world.others.request_name(names.LOG)
        await world.others.request_name(names.TIME)
        assert await world.bmc.log_info() == LogInfo(5, 7, 4096, 1_000, 2_000)
        assert await world.bmc.sel_record(3) == (4, bytes(16))
        assert await world.bmc.delete_sel_record(3) == 3
        await world.bmc.set_time(1_790_000_000)
        assert elapsed == [1_790_000_000_000_000]
        assert world.bmc.time() > 1_700_000_000
        assert world.bmc.firmware() == Firmware(1, 2, bytes(4))

    play(bus, scenario)
