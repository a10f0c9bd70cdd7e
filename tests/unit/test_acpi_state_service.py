# SPDX-License-Identifier: Apache-2.0
"""The service as shipped, with a real bus and event log; systemd and host-power are played by the test."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, Variant
from dbus_fast.aio.message_bus import MessageBus

from dbus_harness import PATIENCE, CallError, PrivateBus, Service, call
from fleet_bmc_common.client import Follower, on_signal
from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree

NAME = "xyz.openbmc_project.Control.Power.ACPIPowerState"
PATH = "/xyz/openbmc_project/control/host0/acpi_power_state"
ACPI = NAME + ".ACPI."
DETAILS = "io.metafleet.AcpiState"
PROPERTIES = "org.freedesktop.DBus.Properties"
CHASSIS = "xyz.openbmc_project.State.Chassis"
HOST_POWER = "io.metafleet.HostPower"
MANAGER = "org.freedesktop.systemd1.Manager"
LAUNCH = ["-m", "fleet_bmc_common", "fleet_acpi_state"]

OFF = {"PowerGood": False, "PlatformReset": True, "PostComplete": False}
POST = {"PowerGood": True, "PlatformReset": False, "PostComplete": False}
DONE = {"PowerGood": True, "PlatformReset": False, "PostComplete": True}


class Systemd:
    """The service manager: its jobs end when the test lets them, at once by default."""

    def __init__(self, tree: ObjectTree) -> None:
        self.asked: list[str] = []
        self.stopping: list[str] = []  # jobs that stop what hung on the last state
        self.manager = Interface(
            MANAGER,
            methods={
                "Subscribe": Method("", "", lambda _: ()),
                "StartUnit": Method("ss", "o", self._start),
                "StopUnit": Method("ss", "o", self._start),
                "ListJobs": Method("", "a(usssoo)", self._jobs),
            },
            signals={"JobRemoved": "uoss"},
        )
        tree.add("/org/freedesktop/systemd1", self.manager)

    def _start(self, _sender: str, unit: str, mode: str) -> Body:
        assert mode == "replace"
        self.asked.append(unit)
        job = f"/org/freedesktop/systemd1/job/{len(self.asked)}"
        asyncio.get_running_loop().call_soon(self.end, job)
        return [job]

    def _jobs(self, _sender: str) -> Body:
        return [[[9, "old.service", "stop", "running", job, "/unit"] for job in self.stopping]]

    def end(self, job: str) -> None:
        if job in self.stopping:
            self.stopping.remove(job)
        self.manager.emit("JobRemoved", 9, job, "x", "done")


class World:
    """All that the service talks to, and what it shows."""

    def __init__(self, bus: MessageBus, rails: Mapping[str, bool]) -> None:
        self.bus = bus
        tree = ObjectTree(bus)
        self.systemd = Systemd(tree)
        self.rails = Interface(HOST_POWER, {name: Variant("b", value) for name, value in rails.items()})
        tree.add("/xyz/openbmc_project/state/chassis0", self.rails)
        tree.announce()
        self.seen: list[str] = []  # states, one after the other
        self.details: dict[str, Any] = {}
        self.prepared: list[str] = []
        self._news = asyncio.Event()

    async def start(self, *, with_host_power: bool = True) -> None:
        await self.bus.request_name("org.freedesktop.systemd1")
        if with_host_power:
            await self.bus.request_name(CHASSIS)
        await Follower(self.bus, NAME, PATH, NAME, self._on_state).start()
        await Follower(self.bus, NAME, PATH, DETAILS, self._on_details).start()
        await on_signal(self.bus, self._on_prepare, DETAILS, "PrepareForState")

    def _on_state(self, values: Mapping[str, Any] | None) -> None:
        if values:
            state = values["SysACPIStatus"].removeprefix(ACPI)
            if self.seen[-1:] != [state]:
                self.seen.append(state)
        self._news.set()

    def _on_details(self, values: Mapping[str, Any] | None) -> None:
        self.details = dict(values or {})
        self._news.set()

    def _on_prepare(self, signal: Message) -> None:
        self.prepared.append(signal.body[0].removeprefix(ACPI))
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_asked(self, *units: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.systemd.asked != list(units):
                await asyncio.sleep(0.01)

    async def set(self, system: str, device: str = "", source: str = "Host") -> None:
        states = [ACPI + state if state else "" for state in (system, device)]
        await call(self.bus, NAME, PATH, DETAILS, "Set", "sss", *states, source)

    async def events(self) -> list[list[Any]]:
        address = ("xyz.openbmc_project.Logging", "/xyz/openbmc_project/logging", "io.metafleet.EventLog")
        (events,) = await call(self.bus, *address, "Read", "uu", 0, 256)
        return list(events)

    async def records(self) -> list[int]:
        """Event offsets of the SEL records."""
        return [event[5][13] for event in await self.events() if event[5]]


Scenario = Callable[[World], Awaitable[None]]


class Stage:
    """Runs scenarios; `folder` is the service's state over restarts."""

    def __init__(self, bus: PrivateBus, folder: Path) -> None:
        self._bus = bus
        self.folder = folder
        self.settings = folder / "settings.json"
        (folder / "state").mkdir()
        self.errors = ""

    def play(
        self, scenario: Scenario, rails: Mapping[str, bool], *, log: bool = True, host_power: bool = True
    ) -> None:
        async def main() -> None:
            bus = await self._bus.connect()
            world = World(bus, rails)
            await world.start(with_host_power=host_power)
            loop = asyncio.get_running_loop()
            with ExitStack() as stack:
                if log:
                    argv = ["-m", "fleet_bmc_common", "fleet_event_log", str(self.folder / "log")]
                    events = stack.enter_context(Service(argv, self._bus.address))
                    await loop.run_in_executor(None, events.wait_for, "READY=1")
                argv = [*LAUNCH, str(self.folder / "state"), str(self.settings)]
                service = stack.enter_context(Service(argv, self._bus.address))
                await loop.run_in_executor(None, service.wait_for, "READY=1")
                await world.until(lambda: world.seen and world.details)
                await scenario(world)
                service.process.terminate()
                status, self.errors = await loop.run_in_executor(None, service.end)
                assert status == 0
            bus.disconnect()

        asyncio.run(main())

    def saved(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "state/state.json").read_text())
        return found


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with PrivateBus(open_to_all=True) as bus:
        yield Stage(bus, tmp_path)


def test_a_cycle(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.seen[-1] == "S5_G2")
        world.rails.update(**POST)
        await world.until(lambda: world.seen[-1] == "S2_D2")
        assert world.details["Source"] == "Inferred"
        await world.set("S2_D2", "S2_D2")
        await world.until(lambda: world.details["Source"] == "Host")
        world.rails.update(**DONE)
        await world.set("S0_G0_D0", "S0_G0_D0")
        await world.until(lambda: world.seen[-1] == "S0_G0_D0")
        assert world.details["Cycle"] == 1
        assert re.fullmatch("[0-9a-f]{32}", world.details["BootId"])
        assert world.details["PreviousState"] == ACPI + "S2_D2"
        world.rails.update(**OFF)
        await world.until(lambda: world.seen[-1] == "S5_G2")
        assert world.details["Source"] == "Rails"
        targets = [f"host-{state}-state.target" for state in ("s5", "s2", "s0", "s5")]
        await world.until_asked(*targets)
        assert await world.records() == [5, 2, 0, 5]
        assert world.prepared[-3:] == ["S2_D2", "S0_G0_D0", "S5_G2"]
        assert [event[4]["SOURCE"] for event in await world.events()] == [
            "Rails",
            "Inferred",
            "Host",
            "Rails",
        ]

    stage.play(scenario, OFF)
    assert stage.errors == ""


def test_the_state_outlives_the_service(stage: Stage) -> None:
    async def first(world: World) -> None:
        await world.set("S0_G0_D0")
        await world.until(lambda: world.seen[-1] == "S0_G0_D0")
        async with asyncio.timeout(PATIENCE):
            while not (stage.folder / "state/state.json").exists() or stage.saved()["system"] != "S0_G0_D0":
                await asyncio.sleep(0.01)

    async def second(world: World) -> None:
        assert world.seen == ["S0_G0_D0"]
        assert world.details["Source"] == "Restored"
        await world.until_asked("host-s0-state.target")
        world.rails.update(**OFF)
        await world.until(lambda: world.seen[-1] == "S5_G2")

    stage.play(first, POST)
    before = stage.saved()
    stage.play(second, DONE)
    assert stage.saved()["boot_id"] == before["boot_id"]
    assert stage.saved()["cycle"] == 1


def test_s2_waits_for_those_who_delay_it(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.seen[-1] == "S2_D2")
        await world.set("S0_G0_D0")
        await call(world.bus, NAME, PATH, DETAILS, "Delay", "ss", ACPI + "S2_D2", "sensors")
        world.prepared.clear()
        told = asyncio.create_task(world.set("S2_D2"))
        await world.until(lambda: world.prepared == ["S2_D2"])
        await call(world.bus, NAME, PATH, "org.freedesktop.DBus.Peer", "Ping")
        assert not told.done()
        await call(world.bus, NAME, PATH, DETAILS, "Release", "s", ACPI + "S2_D2")
        await told
        assert "LateClient" not in str(await world.events())

    stage.settings.write_text('{"acknowledge_seconds": 4}')
    stage.play(scenario, POST)


def test_s2_waits_for_what_hung_on_the_state_before(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.seen[-1] == "S2_D2")
        await world.set("S0_G0_D0")
        await world.until_asked("host-s2-state.target", "host-s0-state.target")
        world.systemd.stopping.append("/job/old")
        told = asyncio.create_task(world.set("S2_D2"))
        await world.until_asked("host-s2-state.target", "host-s0-state.target", "host-s2-state.target")
        await call(world.bus, NAME, PATH, "org.freedesktop.DBus.Peer", "Ping")
        assert not told.done()
        world.systemd.end("/job/old")
        await told

    stage.settings.write_text('{"acknowledge_seconds": 4}')
    stage.play(scenario, POST)


def test_s2_does_not_wait_for_ever_and_names_who_is_late(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.seen[-1] == "S2_D2")
        await world.set("S0_G0_D0")
        await call(world.bus, NAME, PATH, DETAILS, "Delay", "ss", ACPI + "S2_D2", "slow sensors")
        await world.set("S2_D2")
        async with asyncio.timeout(PATIENCE):
            while (last := (await world.events())[-1])[3] != DETAILS + ".LateClient":
                await asyncio.sleep(0.01)
        assert last[4] == {"CLIENT": "slow sensors", "STATE": "S2_D2"}
        await world.set("S0_G0_D0")
        # who has left is not waited for
        other = await stage._bus.connect()
        await call(other, NAME, PATH, DETAILS, "Delay", "ss", ACPI + "S2_D2", "gone")
        other.disconnect()
        await call(world.bus, NAME, PATH, DETAILS, "Drop", "s", ACPI + "S2_D2")
        await world.set("S2_D2")
        assert (await world.events())[-1][3] == DETAILS + ".Changed"

    stage.settings.write_text('{"acknowledge_seconds": 0.1}')
    stage.play(scenario, POST)


def test_without_an_event_log_states_change_all_the_same(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        world.rails.update(**POST)
        await world.until(lambda: world.seen[-1] == "S2_D2")
        await world.set("S0_G0_D0")
        await world.until_asked(*(f"host-{state}-state.target" for state in ("s5", "s2", "s0")))

    stage.play(scenario, OFF, log=False)
    assert stage.errors.count("the event log takes nothing") == 1


def test_without_host_power_words_count(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        assert world.seen == ["Unknown"]
        await world.set("S0_G0_D0", source="Operator")
        await world.until(lambda: world.seen[-1] == "S0_G0_D0")
        await world.bus.request_name(CHASSIS)
        await world.until(lambda: world.seen[-1] == "S5_G2")

    stage.play(scenario, OFF, host_power=False)


def test_a_lie_is_shown_and_logged_once(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        for _ in range(3):
            await world.set("S0_G0_D0")
        await world.until(lambda: world.details["Contradicted"])
        assert world.seen[-1] == "S5_G2"
        await world.set("S5_G2")
        await world.until(lambda: not world.details["Contradicted"])
        await world.set("S0_G0_D0")
        async with asyncio.timeout(PATIENCE):
            while (found := [event[3].removeprefix(DETAILS) for event in await world.events()])[1:] == []:
                await asyncio.sleep(0.01)
        assert found[:2] == [".Changed", ".Contradicted"]
        await world.until(lambda: world.details["Contradicted"])
        assert found.count(".Contradicted") <= 2

    stage.play(scenario, OFF)


def test_openbmc_properties_can_be_set(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        for name, state in (("SysACPIStatus", "S0_G0_D0"), ("DevACPIStatus", "S1_D1")):
            value = Variant("s", ACPI + state)
            await call(world.bus, NAME, PATH, PROPERTIES, "Set", "ssv", NAME, name, value)
        (values,) = await call(world.bus, NAME, PATH, PROPERTIES, "GetAll", "s", NAME)
        assert [value.value.removeprefix(ACPI) for value in values.values()] == ["S0_G0_D0", "S1_D1"]
        assert world.details["Source"] == "Operator"

    stage.play(scenario, POST)


@pytest.mark.parametrize("name", ["SysACPIStatus", "DevACPIStatus"])
def test_a_property_cannot_be_empty(name: str, stage: Stage) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(CallError, match=r"InvalidArgs.*'' is no ACPI state"):
            await call(world.bus, NAME, PATH, PROPERTIES, "Set", "ssv", NAME, name, Variant("s", ""))

    stage.play(scenario, POST)


@pytest.mark.parametrize(
    ("member", "signature", "body", "words"),
    [
        ("Set", "sss", ["S0_G0_D0", "", "Host"], "'S0_G0_D0' is no ACPI state; allowed: xyz"),
        ("Set", "sss", [ACPI + "S0_G0_D0", ACPI + "S5_G2", "Host"], "devices cannot be in S5_G2"),
        ("Set", "sss", [ACPI + "S0_G0_D0", "", "Rails"], "source 'Rails' is not one of Host, Operator"),
        ("Set", "ss", [ACPI + "S0_G0_D0", ""], "Set takes 'sss', not 'ss'"),
        ("Delay", "ss", ["S2", "x"], "'S2' is no ACPI state"),
        ("Release", "s", [ACPI + "S2_D2"], "you do not delay"),
        ("Drop", "s", [ACPI + "S2_D2"], "you do not delay"),
    ],
)
def test_what_is_refused(member: str, signature: str, body: list[str], words: str, stage: Stage) -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.seen[-1] == "S2_D2")
        with pytest.raises(CallError, match=r"InvalidArgs.*" + re.escape(words)):
            await call(world.bus, NAME, PATH, DETAILS, member, signature, *body)
        assert world.seen[-1] == "S2_D2"

    stage.play(scenario, POST, log=False)


def test_a_damaged_state_is_told_and_replaced(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.seen[-1] == "S0_G0_D0")
        await world.until_asked("host-s0-state.target")

    (stage.folder / "state/state.json").write_text('{"format": 1')
    stage.play(scenario, DONE, log=False)
    assert "state.json is damaged" in stage.errors
    assert stage.saved()["system"] == "S0_G0_D0"


def test_a_state_that_cannot_be_saved_is_told_once(stage: Stage) -> None:
    async def scenario(world: World) -> None:
        for path in (stage.folder / "state").iterdir():
            path.unlink()
        (stage.folder / "state").rmdir()
        for state in ("S0_G0_D0", "S2_D2", "S0_G0_D0"):
            await world.set(state)
            await world.until(lambda state=state: world.seen[-1] == state)  # type: ignore[misc]
        await world.until_asked(*(f"host-{state}-state.target" for state in ("s2", "s0", "s2", "s0")))

    stage.play(scenario, POST, log=False)
    assert stage.errors.count("state.json cannot be written: No such file or directory") == 1


def test_settings_that_are_wrong_stop_the_service(stage: Stage) -> None:
    stage.settings.write_text('{"acknowledge": 1}')
    argv = [*LAUNCH, str(stage.folder / "state"), str(stage.settings)]
    with Service(argv, stage._bus.address) as service:
        status, errors = service.end()
    assert status == 1
    assert re.fullmatch(
        r"\S+settings.json: unknown key 'acknowledge'; allowed: s2_bound_seconds, .*\n", errors
    )


def test_without_a_service_manager_the_service_says_so(stage: Stage) -> None:
    with Service([*LAUNCH, str(stage.folder / "state")], stage._bus.address) as service:
        status, errors = service.end()
    assert status == 1
    assert "no service manager on the bus" in errors
    assert "Traceback" not in errors


def test_a_stop_while_the_state_is_saved(stage: Stage) -> None:
    """The thread that saves and the stop do not get in each other's way; what is newest is kept."""
    log = stage.folder / "saves"
    slow = stage.folder / "slow"
    slow.mkdir()
    # A store as slow as flash: Python runs this before the service.
    (slow / "sitecustomize.py").write_text(
        f"""
import os, time
fsync = os.fsync
def slow_fsync(descriptor):
    with open({str(log)!r}, "a") as file:
        file.write("s")
    time.sleep(0.3)
    fsync(descriptor)
os.fsync = slow_fsync
"""
    )
    argv = [*LAUNCH, str(stage.folder / "state"), str(stage.settings)]

    async def main() -> None:
        bus = await stage._bus.connect()
        world = World(bus, POST)
        await world.start()
        loop = asyncio.get_running_loop()
        environ = {"PYTHONPATH": os.pathsep.join([str(slow), *sys.path])}
        with Service(argv, stage._bus.address, environ) as service:
            await loop.run_in_executor(None, service.wait_for, "READY=1")
            async with asyncio.timeout(PATIENCE):
                while not log.exists():
                    await asyncio.sleep(0.01)
            service.process.terminate()
            status, errors = await loop.run_in_executor(None, service.end)
        assert status == 0
        assert "cannot be written" not in errors
        bus.disconnect()

    asyncio.run(main())
    assert stage.saved()["system"] == "S2_D2"
