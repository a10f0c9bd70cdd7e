# SPDX-License-Identifier: Apache-2.0
"""The mapper as shipped, on a private bus with services that come, change and go."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant
from dbus_fast.aio.message_bus import MessageBus

from dbus_harness import CallError, PrivateBus, Service, call
from fleet_bmc_common.objects import OBJECT_MANAGER, Interface, ObjectTree
from fleet_mapper.scan import parse

NAME = "xyz.openbmc_project.ObjectMapper"
PATH = "/xyz/openbmc_project/object_mapper"
LAUNCH = ["-m", "fleet_bmc_common", "fleet_mapper"]
POLICY = Path(__file__).parents[2] / f"recipes/mapper/files/{NAME}.conf"
FAN = "/xyz/openbmc_project/fans/one"


@pytest.fixture(scope="module")
def bus() -> Iterator[PrivateBus]:
    with (
        PrivateBus([POLICY], users={"fleet-mapper": os.getuid()}, open_to_all=True) as bus,
        Service([*LAUNCH], bus.address) as service,
    ):
        service.wait_for("READY=1")
        yield bus
        assert service.stop() == 0


class World:
    """A client, and a service that has a fan."""

    def __init__(self, service: MessageBus, client: MessageBus) -> None:
        self.service, self.client = service, client
        self.tree = ObjectTree(service)
        self.tree.manage("/xyz/openbmc_project/fans")
        self.tree.add(FAN, Interface("a.Fan", {"Speed": Variant("u", 1)}), Interface("a.Item"))
        self.tree.add("/xyz/openbmc_project/plain", Interface("a.Plain"))
        self.tree.announce()

    async def ask(self, member: str, signature: str, *body: Any) -> Any:
        return (await call(self.client, NAME, PATH, NAME, member, signature, *body))[0]


def play(bus: PrivateBus, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        service, client = await bus.connect(), await bus.connect()
        world = World(service, client)
        await service.request_name("xyz.openbmc_project.Fans")
        try:
            await scenario(world)
        finally:
            service.disconnect()
            client.disconnect()

    asyncio.run(main())


def test_questions(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        owner = {"xyz.openbmc_project.Fans": ["a.Fan", "a.Item"]}
        assert await world.ask("GetObject", "sas", FAN, []) == owner
        assert await world.ask("GetObject", "sas", FAN, ["a.Item", "a.Other"]) == owner
        root = "/xyz/openbmc_project"
        assert await world.ask("GetSubTreePaths", "sias", root, 0, ["a.Fan", "a.Plain"]) == [
            FAN,
            root + "/plain",
        ]
        assert await world.ask("GetSubTree", "sias", root, 0, ["a.Fan"]) == {FAN: owner}
        above = await world.ask("GetAncestors", "sas", FAN, [])
        assert above == {root + "/fans": {"xyz.openbmc_project.Fans": [OBJECT_MANAGER]}}
        for member, signature, body in (
            ("GetObject", "sas", [FAN, ["a.Other"]]),
            ("GetObject", "sas", [root + "/fan", []]),
            ("GetSubTree", "sias", ["/nowhere", 0, []]),
            ("GetSubTreePaths", "sias", ["/nowhere", 0, []]),
            ("GetAncestors", "sas", ["/nowhere", []]),
        ):
            with pytest.raises(CallError, match=r"xyz\.openbmc_project\.Common\.Error\.ResourceNotFound"):
                await world.ask(member, signature, *body)

    play(bus, scenario)


def test_objects_come_and_go(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        paths: Any = ["GetSubTreePaths", "sias", "/xyz/openbmc_project", 0, ["a.Fan"]]
        assert await world.ask(*paths) == [FAN]
        other = "/xyz/openbmc_project/fans/two"
        world.tree.add(other, Interface("a.Fan"))
        assert await world.ask(*paths) == [FAN, other]
        world.tree.remove(FAN)
        assert await world.ask(*paths) == [other]

    play(bus, scenario)


def test_services_come_and_go(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        paths: Any = ["GetSubTreePaths", "sias", "/", 0, ["a.Lamp"]]
        assert await world.ask(*paths) == []
        for path in ("/lamps/one", "/lamps/two"):
            connection = await bus.connect()
            tree = ObjectTree(connection)
            tree.add(path, Interface("a.Lamp"))
            await connection.request_name("io.metafleet.Lamps")
            assert await world.ask(*paths) == [path]
            connection.disconnect()
            await connection.wait_for_disconnect()  # type: ignore[no-untyped-call]
            while await world.ask(*paths):
                pass

    play(bus, scenario)


def test_services_that_nobody_has_started_are_found() -> None:
    inventory = "xyz.openbmc_project.Inventory.Manager"
    board = "/xyz/openbmc_project/inventory/system/board/bmc"
    broken = "xyz.openbmc_project.Broken"
    started = {
        inventory: ["-m", "fleet_bmc_common", "fleet_inventory", str(Path(__file__).parent)],
        broken: ["-c", "raise SystemExit(1)"],
    }
    with (
        PrivateBus(open_to_all=True, activatable=started) as bus,
        Service(LAUNCH, bus.address) as service,
    ):
        service.wait_for("READY=1")
        for _ in range(2):
            (found,) = bus.call(NAME, PATH, NAME, "GetObject", "sas", board, [])
            assert list(found) == [inventory]


def test_a_service_that_answers_errors_does_not_hide_the_others(bus: PrivateBus) -> None:
    async def scenario(world: World) -> None:
        broken = await bus.connect()
        await broken.request_name("io.metafleet.Broken")  # it has no objects: every call is an error
        assert await world.ask("GetSubTreePaths", "sias", "/", 0, ["a.Fan"]) == [FAN]
        broken.disconnect()

    play(bus, scenario)


def test_parse_takes_the_node_itself_and_no_more() -> None:
    text = """<!DOCTYPE node PUBLIC "a" "b"><node name="/x">
    <interface name="a.B"><method name="M"/></interface><node name="c"><interface name="no"/></node>
    <node name="d"/></node>"""
    assert parse(text) == (["a.B"], ["c", "d"])
