# SPDX-License-Identifier: Apache-2.0
"""The service on a private system bus, with the real event log; the test plays lines and acpi-state."""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant
from dbus_fast.aio.message_bus import MessageBus

from dbus_harness import PATIENCE, CallError, PrivateBus, Service, call
from fleet_bmc_common.client import Follower
from fleet_bmc_common.objects import Interface, ObjectTree
from fleet_host_power import machine
from fleet_host_power.__main__ import usable

RECIPES = Path(__file__).parents[2] / "recipes"
HOST = "xyz.openbmc_project.State.Host"
CHASSIS = "xyz.openbmc_project.State.Chassis"
BOOT = "xyz.openbmc_project.State.Boot.Progress"
HOST_POWER = "io.metafleet.HostPower"
HOST_PATH = "/xyz/openbmc_project/state/host0"
CHASSIS_PATH = "/xyz/openbmc_project/state/chassis0"
PLACES = {HOST: HOST_PATH, BOOT: HOST_PATH, CHASSIS: CHASSIS_PATH, HOST_POWER: CHASSIS_PATH}
PROPERTIES = "org.freedesktop.DBus.Properties"

LOG = "xyz.openbmc_project.Logging"
LOG_PATH = "/xyz/openbmc_project/logging"
ACPI = "xyz.openbmc_project.Control.Power.ACPIPowerState"
ACPI_PATH = "/xyz/openbmc_project/control/host0/acpi_power_state"
ACPI_DETAILS = "io.metafleet.AcpiState"

STANDBY = ("SLP_S5", "PLTRST")
RUNNING = ("PS_PWROK", "POST_COMPLETE")
QUICK = {
    "power_ok_ms": 100,
    "force_off_ms": 1_000,
    "off_time_ms": 50,
    "power_pulse_ms": 50,
    "warm_reset_ms": 50,
}


class Acpi:
    """What acpi-state shows, in its order: details before the state."""

    def __init__(self, bus: MessageBus) -> None:
        tree = ObjectTree(bus)
        self._since = 1
        self._details = Interface(
            ACPI_DETAILS, {"Source": Variant("s", "None"), "Since": Variant("t", self._since)}
        )
        self._states = Interface(ACPI, {"SysACPIStatus": Variant("s", ACPI + ".ACPI.Unknown")})
        tree.add(ACPI_PATH, self._details, self._states)
        tree.announce()

    def say(self, state: str, source: str) -> None:
        state = f"{ACPI}.ACPI.{state}"
        if state != self._states.properties["SysACPIStatus"].value:
            self._since += 1
        self._details.update(Source=source, Since=self._since)
        self._states.update(SysACPIStatus=state)


class World:
    """The host around the service, and what the service shows."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.driven: list[str] = []  # changes of outputs, as they came
        self.seen: dict[str, list[Any]] = {}  # property: its values, one after the other
        self._lines: asyncio.StreamWriter | None = None
        self._news = asyncio.Event()

    async def serve(self, path: str, asserted: tuple[str, ...]) -> asyncio.Server:
        """Be the lines of a service that comes to `path`."""

        async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._lines = writer
            writer.write((" ".join(asserted) + "\n").encode())
            while word := await reader.readline():
                self.driven.append(word.decode().strip())
                self._news.set()
            writer.close()

        return await asyncio.start_unix_server(on_connect, path)

    async def follow(self) -> None:
        for interface, path in PLACES.items():
            await Follower(self.bus, HOST, path, interface, self._on_values).start()

    def _on_values(self, values: Mapping[str, Any] | None) -> None:
        for name, value in (values or {}).items():
            shown = self.seen.setdefault(name, [])
            if isinstance(value, str):
                value = value.rsplit(".", 1)[-1] if value.startswith("xyz.") else value
            if not shown or shown[-1] != value:
                shown.append(value)
        self._news.set()

    def __getitem__(self, name: str) -> Any:
        return self.seen[name][-1]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def shows(self, **values: Any) -> None:
        try:
            await self.until(lambda: all(self[name] == value for name, value in values.items()))
        except TimeoutError:
            pytest.fail(f"{values} is not what is shown: {self.seen}; driven: {self.driven}")

    def set(self, *signs: str) -> None:
        assert self._lines is not None
        self._lines.write("".join(f"{sign}\n" for sign in signs).encode())

    async def ask(self, interface: str, value: str) -> None:
        member = "RequestedHostTransition" if interface == HOST else "RequestedPowerTransition"
        await self.put(interface, member, f"{interface}.Transition.{value}")

    async def put(self, interface: str, member: str, value: str) -> None:
        body = (interface, member, Variant("s", value))
        await call(self.bus, HOST, PLACES[interface], PROPERTIES, "Set", "ssv", *body)

    async def progress(self, stage: str) -> None:
        await self.put(BOOT, "BootProgress", f"{BOOT}.ProgressStages.{stage}")

    async def has_read(self) -> None:
        """Wait until the service has read what an owner of a name, who has just come, has to show.

        Each round trip takes the service one step on; when it has just begun, it needs four for each of the
        two interfaces that it follows.
        """
        for _ in range(12):
            await call(self.bus, HOST, "/", "org.freedesktop.DBus.Peer", "Ping")

    async def events(self) -> list[list[Any]]:
        (entries,) = await call(self.bus, LOG, LOG_PATH, "io.metafleet.EventLog", "Read", "uu", 0, 100)
        return list(entries)

    async def logged(self, count: int) -> list[list[Any]]:
        """Wait for so many events, asking again at each piece of news that the log has."""
        changes = asyncio.Event()
        follower = Follower(self.bus, LOG, LOG_PATH, "io.metafleet.EventLog", lambda _: changes.set())
        await follower.start()
        async with asyncio.timeout(PATIENCE):
            while len(entries := await self.events()) < count:
                changes.clear()
                await changes.wait()
        return entries


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with PrivateBus(open_to_all=True) as bus:
        yield bus


def play(
    bus: PrivateBus,
    story: Callable[[World], Awaitable[None]],
    *,
    asserted: tuple[str, ...] = STANDBY,
    timers: Mapping[str, int] | None = None,
    lines: tuple[str, ...] = (*machine.INPUTS, *machine.OUTPUTS),
    with_log: bool = False,
) -> str:
    """Play a story against the service; its standard error."""

    async def run(folder: str) -> str:
        settings = Path(folder) / "settings.json"
        settings.write_text(json.dumps(QUICK if timers is None else timers))
        connection = await bus.connect()
        world = World(connection)
        path = f"{folder}/lines"
        server = await world.serve(path, asserted)
        with ExitStack() as stack:
            if with_log:
                log = stack.enter_context(
                    Service(["-m", "fleet_bmc_common", "fleet_event_log", f"{folder}/log"], bus.address)
                )
                await asyncio.to_thread(log.wait_for, "READY=1")
            service = stack.enter_context(
                Service(["-m", "host_power_lines", str(settings), path, *lines], bus.address)
            )
            await asyncio.to_thread(service.wait_for, "READY=1")
            await world.follow()
            await story(world)
            assert service.process.poll() is None
            assert await asyncio.to_thread(service.stop) == 0
            await world.until(lambda: world.driven[-1:] == ["closed"])
            assert service.process.stderr is not None
            errors = service.process.stderr.read()
        server.close()
        connection.disconnect()
        return errors

    with tempfile.TemporaryDirectory(prefix="host-power-") as folder:
        return asyncio.run(run(folder))


async def power_on(world: World) -> None:
    await world.ask(HOST, "On")
    await world.until(lambda: "+POWER_OUT" in world.driven)
    world.set("-SLP_S5", "+PS_PWROK", "-PLTRST")
    await world.shows(State="On")


# --- Stories ---


def test_names_types_and_values_at_standby(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        (objects,) = await call(
            world.bus,
            CHASSIS,
            "/xyz/openbmc_project/state",
            "org.freedesktop.DBus.ObjectManager",
            "GetManagedObjects",
        )
        assert {path: set(interfaces) for path, interfaces in objects.items()} == {
            HOST_PATH: {HOST, BOOT},
            CHASSIS_PATH: {CHASSIS, HOST_POWER},
        }
        host, chassis = objects[HOST_PATH], objects[CHASSIS_PATH]
        assert host[HOST] == {
            "RequestedHostTransition": Variant("s", HOST + ".Transition.Off"),
            "CurrentHostState": Variant("s", HOST + ".HostState.Off"),
            "RestartCause": Variant("s", HOST + ".RestartCause.Unknown"),
        }
        assert host[BOOT] == {
            "BootProgress": Variant("s", BOOT + ".ProgressStages.Unspecified"),
            "BootProgressLastUpdate": Variant("t", 0),
        }
        changed = chassis[CHASSIS].pop("LastStateChangeTime")
        assert changed.signature == "t"
        assert changed.value > 1_600_000_000_000
        assert chassis[CHASSIS] == {
            "RequestedPowerTransition": Variant("s", CHASSIS + ".Transition.Off"),
            "CurrentPowerState": Variant("s", CHASSIS + ".PowerState.Off"),
            "CurrentPowerStatus": Variant("s", CHASSIS + ".PowerStatus.Undefined"),
        }
        assert chassis[HOST_POWER] == {
            "PowerGood": Variant("b", False),
            "PlatformReset": Variant("b", True),
            "PostComplete": Variant("b", False),
            "SoftOff": Variant("b", True),
            "State": Variant("s", "Off"),
            "Fault": Variant("s", ""),
        }

    assert play(bus, story) == ""


def test_a_boot_and_a_shutdown(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        await power_on(world)
        await world.shows(CurrentPowerStatus="Good", RestartCause="RemoteCommand", PlatformReset=False)
        world.set("+POST_COMPLETE")
        await world.shows(CurrentHostState="Running", BootProgress="SystemInitComplete")
        assert world["BootProgressLastUpdate"] > 1_600_000_000_000_000
        await world.until(lambda: world.driven == ["+POWER_OUT", "-POWER_OUT"])
        await world.ask(HOST, "Off")
        await world.until(lambda: world.driven == ["+POWER_OUT", "-POWER_OUT"] * 2)
        world.set("+PLTRST", "-POST_COMPLETE", "+SLP_S5", "-PS_PWROK")
        await world.shows(State="Off", CurrentPowerState="Off", CurrentHostState="Off")
        await world.shows(BootProgress="Unspecified", RequestedHostTransition="Off")
        assert world.seen["CurrentPowerState"] == ["Off", "TransitioningToOn", "On", "Off"]
        assert world.seen["CurrentHostState"] == [
            *("Off", "TransitioningToRunning", "Running", "TransitioningToOff", "Off"),
        ]
        times = world.seen["LastStateChangeTime"]
        assert times == sorted(times)
        assert await world.events() == []

    assert play(bus, story, with_log=True) == ""


def test_a_cycle(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        await world.ask(HOST, "Reboot")
        await world.until(lambda: world.driven == ["+POWER_OUT"])
        await world.shows(CurrentPowerState="TransitioningToOff", State="ForceCycle")
        world.set("-PS_PWROK", "+SLP_S5")
        await world.until(lambda: world.driven == ["+POWER_OUT", "-POWER_OUT", "+POWER_OUT", "-POWER_OUT"])
        world.set("-SLP_S5", "+PS_PWROK")
        await world.shows(State="On", CurrentHostState="TransitioningToRunning", BootProgress="Unspecified")
        assert world.seen["State"] == ["On", "ForceCycle", "CycleOff", "PoweringOn", "On"]

    assert play(bus, story, asserted=RUNNING, timers={**QUICK, "power_ok_ms": 60_000}) == ""


def test_warm_reset_is_never_off(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        await world.ask(HOST, "ForceWarmReboot")
        await world.until(lambda: world.driven == ["+RESET_OUT"])
        world.set("+PLTRST", "-POST_COMPLETE")
        await world.until(lambda: world.driven == ["+RESET_OUT", "-RESET_OUT"])
        world.set("-PLTRST", "+POST_COMPLETE")
        await world.shows(CurrentHostState="Running", BootProgress="SystemInitComplete", PlatformReset=False)
        assert world.seen["BootProgress"] == ["SystemInitComplete", "Unspecified", "SystemInitComplete"]
        assert world["RestartCause"] == "RemoteCommand"
        world.set("+PLTRST", "-POST_COMPLETE", "-PLTRST")  # and one of the operating system's own
        await world.shows(RestartCause="SoftReset", State="On")
        assert set(world.seen["CurrentHostState"]) == {"Running", "TransitioningToRunning"}
        assert world.seen["CurrentPowerState"] == ["On"]

    assert play(bus, story, asserted=RUNNING) == ""


def test_loss_of_power_and_failed_power_on_are_logged(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        world.set("-PS_PWROK")
        await world.shows(State="Off", CurrentHostState="Off")
        await world.logged(1)
        await world.ask(CHASSIS, "On")
        await world.shows(State="Off", Fault="power-on failed: PS_PWROK did not come within 100 ms")
        lost, failed = await world.logged(2)
        assert lost[2:5] == ["Warning", "io.metafleet.HostPower.PowerLost", {"STATE": "On"}]
        assert failed[2:4] == ["Error", "io.metafleet.HostPower.PowerOnFailed"]
        assert failed[4] == {"STATE": "PoweringOn", "FAULT": world["Fault"]}

    assert play(bus, story, asserted=RUNNING, with_log=True) == ""


def test_without_an_event_log_the_journal_has_the_event(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        world.set("-PS_PWROK")
        await world.shows(State="Off")
        await world.ask(HOST, "On")  # goes on all the same
        await world.until(lambda: "+POWER_OUT" in world.driven)
        world.set("+PS_PWROK")
        await world.shows(State="On")

    errors = play(bus, story, asserted=RUNNING, timers={})
    assert re.fullmatch(r"event io\.metafleet\.HostPower\.PowerLost \(STATE=On\) is not in .*\n", errors)


def test_forced_off_that_fails(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        await world.ask(CHASSIS, "Off")
        await world.shows(State="On", CurrentPowerState="On", CurrentHostState="Running")
        await world.until(lambda: world.driven == ["+POWER_OUT", "-POWER_OUT"])
        assert "PS_PWROK did not drop while POWER_OUT was held for 1000 ms" in world["Fault"]
        assert [event[3] for event in await world.logged(1)] == ["io.metafleet.HostPower.PowerOffFailed"]

    assert play(bus, story, asserted=RUNNING, with_log=True) == ""


def test_what_is_refused(bus: PrivateBus) -> None:
    refused = r"io\.metafleet\.HostPower\.Error\.NotInThisState"

    async def story(world: World) -> None:
        for interface, value in ((HOST, "Reboot"), (HOST, "ForceWarmReboot"), (CHASSIS, "PowerCycle")):
            with pytest.raises(CallError, match=f"{refused}.*the host is off"):
                await world.ask(interface, value)
        with pytest.raises(
            CallError, match=r"InvalidArgs.*allowed: .*Transition\. followed by one of Off, On"
        ):
            await world.ask(HOST, "Of")
        with pytest.raises(CallError, match="InvalidArgs"):
            await world.put(CHASSIS, "RequestedPowerTransition", "On")
        with pytest.raises(CallError, match="PropertyReadOnly"):
            await world.put(HOST, "CurrentHostState", f"{HOST}.HostState.Running")
        with pytest.raises(CallError, match=f"{refused}.*no power"):
            await world.progress("MemoryInit")
        await world.ask(HOST, "Off")  # is so already
        await world.ask(CHASSIS, "Off")
        assert (world["RequestedHostTransition"], world["RequestedPowerTransition"]) == ("Off", "Off")
        assert world.driven == []
        await power_on(world)
        with pytest.raises(CallError, match=r"InvalidArgs.*one of Unspecified, PrimaryProcInit, .*, OEM"):
            await world.progress("Lunch")
        await world.ask(HOST, "On")  # is so already
        await world.until(lambda: world.driven == ["+POWER_OUT", "-POWER_OUT"])

    assert play(bus, story, timers={"power_pulse_ms": 50}) == ""


def test_boot_progress_is_told(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        await power_on(world)
        assert world["BootProgress"] == "Unspecified"
        for stage in ("PrimaryProcInit", "MemoryInit"):
            await world.progress(stage)
            await world.shows(BootProgress=stage)
        world.set("+POST_COMPLETE")
        await world.shows(BootProgress="SystemInitComplete")
        await world.progress("OSStart")
        await world.progress("BusInit")  # late
        world.set("-PS_PWROK", "+SLP_S5")
        await world.shows(BootProgress="Unspecified", State="Off")
        assert world.seen["BootProgress"] == [
            *("Unspecified", "PrimaryProcInit", "MemoryInit", "SystemInitComplete", "OSStart", "Unspecified"),
        ]

    play(bus, story, timers={})


def test_s0_that_was_told_means_running(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        acpi = Acpi(world.bus)
        await world.bus.request_name(ACPI)
        await world.has_read()
        acpi.say("S5_G2", "Rails")
        await power_on(world)
        acpi.say("S2_D2", "Host")
        acpi.say("S0_G0_D0", "Host")
        await world.shows(CurrentHostState="Running", BootProgress="OSRunning")
        # a reset, which acpi-state has not heard of yet
        world.set("+PLTRST", "-PLTRST")
        await world.shows(CurrentHostState="TransitioningToRunning", BootProgress="Unspecified")
        # acpi-state starts again and says what it knew
        await world.bus.release_name(ACPI)
        acpi.say("S0_G0_D0", "Restored")
        await world.bus.request_name(ACPI)
        await world.has_read()
        assert world["BootProgress"] == "Unspecified"
        acpi.say("S2_D2", "Inferred")
        # what it infers from POST_COMPLETE is no news
        world.set("+POST_COMPLETE")
        acpi.say("S0_G0_D0", "Inferred")
        await world.shows(CurrentHostState="Running", BootProgress="SystemInitComplete")
        # until somebody says it
        acpi.say("S0_G0_D0", "Operator")
        await world.shows(BootProgress="OSRunning")
        await world.bus.release_name(ACPI)
        assert world.seen["BootProgress"] == [
            *("Unspecified", "OSRunning", "Unspecified", "SystemInitComplete", "OSRunning"),
        ]

    assert play(bus, story, timers={}) == ""


def test_start_with_the_host_on(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        await world.shows(State="On", CurrentPowerState="On", CurrentHostState="Running")
        await world.shows(RequestedHostTransition="On", RequestedPowerTransition="On")
        await world.shows(BootProgress="SystemInitComplete", RestartCause="Unknown", Fault="")
        acpi = Acpi(world.bus)
        acpi.say("S0_G0_D0", "Restored")
        await world.bus.request_name(ACPI)
        await world.shows(BootProgress="OSRunning")
        await world.bus.release_name(ACPI)
        assert world.driven == []
        assert await world.events() == []

    assert play(bus, story, asserted=(*RUNNING, "POWER_BUTTON"), with_log=True) == ""


def test_buttons_are_passed_on(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        world.set("+POWER_BUTTON")
        await world.until(lambda: world.driven == ["+POWER_OUT"])
        await world.shows(RestartCause="PowerButton", State="PoweringOn")
        world.set("-POWER_BUTTON")
        await world.until(lambda: world.driven == ["+POWER_OUT", "-POWER_OUT"])
        world.set("-SLP_S5", "+PS_PWROK", "-PLTRST", "+RESET_BUTTON", "-RESET_BUTTON")
        await world.until(lambda: world.driven[2:] == ["+RESET_OUT", "-RESET_OUT"])
        await world.shows(RestartCause="ResetButton")

    assert play(bus, story, timers={}) == ""


def test_nothing_stays_pressed_when_the_service_stops(bus: PrivateBus) -> None:
    async def story(world: World) -> None:
        await world.ask(CHASSIS, "Off")
        await world.until(lambda: world.driven == ["+POWER_OUT"])

    # `play` waits for "closed", which releases the outputs (test_host_power_gpio.py)
    assert play(bus, story, asserted=RUNNING, timers={}) == ""


def test_a_line_that_cannot_be_driven_ends_the_service(bus: PrivateBus) -> None:
    errors = []

    async def run(folder: str) -> None:
        connection = await bus.connect()
        world = World(connection)
        server = await world.serve(f"{folder}/lines", STANDBY)
        argv = [
            "-m",
            "host_power_lines",
            f"{folder}/none",
            f"{folder}/lines",
            "PS_PWROK",
            "POWER_OUT",
            "BROKEN",
        ]
        with Service(argv, bus.address) as service:
            await asyncio.to_thread(service.wait_for, "READY=1")
            await world.ask(HOST, "On")
            errors.append(await asyncio.to_thread(service.end))
        server.close()
        connection.disconnect()

    with tempfile.TemporaryDirectory(prefix="host-power-") as folder:
        asyncio.run(run(folder))
    assert errors == [(1, "the GPIO line POWER_OUT cannot be driven: Input/output error\n")]


# --- The program ---


def test_a_mistake_in_the_settings_stops_the_program(bus: PrivateBus, tmp_path: Path) -> None:
    file = tmp_path / "host-power.json"
    file.write_text('{"power_puls_ms": 100}')
    with Service(["-m", "fleet_bmc_common", "fleet_host_power", str(file)], bus.address) as service:
        status, errors = service.end()
    assert status == 1
    assert errors.startswith(f"{file}: unknown key 'power_puls_ms'; allowed: power_pulse_ms, ")
    assert errors.count("\n") == 1


def test_a_board_that_lacks_lines(capfd: pytest.CaptureFixture[str]) -> None:
    from fleet_bmc_common import ServiceError
    from fleet_bmc_common.board import Gpio

    gpios = {name: Gpio(name, True, name in machine.OUTPUTS) for name in (*machine.INPUTS, *machine.OUTPUTS)}
    assert set(usable(gpios)) == set(gpios)
    assert capfd.readouterr().err == ""
    some = {name: gpios[name] for name in ("PS_PWROK", "POWER_OUT", "RESET_BUTTON")}
    assert usable(some) == ["PS_PWROK", "POWER_OUT"]  # a reset button has nothing to be passed on to
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[4] for line in lines] == [
        *("SLP_S5", "PLTRST", "POST_COMPLETE", "RESET_OUT", "POWER_BUTTON"),
    ]
    for missing in ("PS_PWROK", "POWER_OUT"):
        with pytest.raises(ServiceError, match=f"names no GPIO line {missing}; "):
            usable({name: gpio for name, gpio in gpios.items() if name != missing})


def test_others_may_read_and_not_write() -> None:
    policy = RECIPES / f"host-power/files/{HOST}.conf"
    users = {"fleet-host-power": os.getuid(), "root": os.getuid() + 1}

    async def story(world: World) -> None:
        await world.shows(State="Off")
        await call(world.bus, CHASSIS, CHASSIS_PATH, PROPERTIES, "GetAll", "s", HOST_POWER)
        for member in ("Off", "On"):
            with pytest.raises(CallError, match="AccessDenied"):
                await world.ask(HOST, member)
        with pytest.raises(CallError, match="AccessDenied"):
            await world.ask(CHASSIS, "Off")
        with pytest.raises(CallError, match="AccessDenied"):
            await world.progress("OSRunning")

    with PrivateBus([policy], users=users) as bus:
        assert play(bus, story) == ""
