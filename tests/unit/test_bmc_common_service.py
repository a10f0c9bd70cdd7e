# SPDX-License-Identifier: Apache-2.0
"""The main program: small services as real processes on a private bus, the test as their service manager."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbus_harness import PATIENCE, CallError, PrivateBus, Service, wait_until

NAME = "test.Lamp"
PATH = "/test/lamps/ceiling"

# What a small service is made of; %s is the body of its start function.
_PROGRAM = """
import asyncio, sys, time
from dbus_fast import Variant
from fleet_bmc_common import ServiceError
from fleet_bmc_common.objects import Interface, Method
from fleet_bmc_common.service import run

def hang(sender):
    time.sleep(3600)

async def forever(tasks):
    try:
        await asyncio.sleep(3600)
    finally:
        print("task cleaned up", file=sys.stderr)

async def start(objects, tasks):
    objects.manage("/test/lamps")
    lamp = Interface("test.Lamp", {"On": Variant("b", True)}, methods={"Hang": Method("", "", hang)})
    objects.add("/test/lamps/ceiling", lamp)
    %s

run(start, *sys.argv[1:])
"""


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with PrivateBus(open_to_all=True) as bus:
        yield bus


def _service(
    address: str, body: str = "pass", names: tuple[str, ...] = (NAME,), environ: dict[str, str] | None = None
) -> Service:
    return Service(["-c", _PROGRAM % body, *names], address, environ)


def _assert_one_line(service: Service, pattern: str) -> None:
    """The service failed with one line that a person understands."""
    status, errors = service.end()
    assert status == 1
    assert re.fullmatch(pattern + "\n", errors)


def test_ready_means_that_names_and_objects_are_there(bus: PrivateBus) -> None:
    with _service(bus.address, names=(NAME, "test.Light")) as service:
        service.wait_for("READY=1")
        for name in (NAME, "test.Light"):
            interface, member = "org.freedesktop.DBus.Properties", "Get"
            assert bus.call(name, PATH, interface, member, "ss", NAME, "On")[0].value is True


def test_objects_are_there_before_the_name(bus: PrivateBus, tmp_path: Path) -> None:
    """While start runs nobody owns the name, so no client can find it without objects."""
    marker = tmp_path / "started"
    body = f"open({str(marker)!r}, 'w').close(); await asyncio.sleep(3600)"
    with _service(bus.address, body) as service:
        wait_until(marker.exists)
        assert not bus.owner(NAME)
        assert service.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(bus: PrivateBus, number: signal.Signals) -> None:
    with _service(bus.address, "tasks.create_task(forever(tasks))") as service:
        service.wait_for("READY=1")
        service.process.send_signal(number)
        service.wait_for("STOPPING=1")
        assert service.end() == (0, "task cleaned up\n")
    assert not bus.owner(NAME)


def test_watchdog_is_fed_by_the_loop(bus: PrivateBus) -> None:
    with _service(bus.address, environ={"WATCHDOG_USEC": "100000"}) as service:
        service.wait_for("READY=1")
        for _ in range(5):
            service.wait_for("WATCHDOG=1")


def test_watchdog_of_a_hung_loop_starves(bus: PrivateBus) -> None:
    with _service(bus.address, environ={"WATCHDOG_USEC": "100000"}) as service:
        service.wait_for("READY=1")
        service.wait_for("WATCHDOG=1")

        def kill_when_starved() -> None:
            # What was under way is read; then forty feeding times pass in silence.
            list(service.notifications(patience=2.0))
            service.process.kill()

        killer = threading.Thread(target=kill_when_starved)
        killer.start()
        with pytest.raises(CallError, match="NoReply"):
            bus.call(NAME, PATH, NAME, "Hang")
        killer.join(PATIENCE)


def test_nobody_feeds_a_watchdog_that_is_not_there(bus: PrivateBus) -> None:
    with _service(bus.address, environ={"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}) as service:
        service.wait_for("READY=1")
        assert service.stop() == 0
        assert "WATCHDOG=1" not in list(service.notifications(patience=0))


def test_name_is_taken(bus: PrivateBus) -> None:
    with _service(bus.address) as first:
        first.wait_for("READY=1")
        with _service(bus.address) as second:
            _assert_one_line(second, r"test\.Lamp is taken by another process; stop that one first .*")
            assert "READY=1" not in list(second.notifications())
        assert first.stop() == 0


def test_policy_does_not_give_the_name() -> None:
    with PrivateBus() as bus, _service(bus.address) as service:
        _assert_one_line(service, rf"the bus does not let user {os.geteuid()} own test\.Lamp; install .*")


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("unix:path=/nowhere/bus", "No such file or directory"),
        ("nonsense", "address did not contain a transport"),
        ("tcp:host=127.0.0.1,port=1", "Connect"),
    ],
)
def test_no_bus(address: str, complaint: str) -> None:
    with _service(address) as service:
        _assert_one_line(service, f"cannot connect to the system bus at {address}: .*{complaint}.*")


def test_bus_goes_away(bus: PrivateBus) -> None:
    with _service(bus.address) as service:
        service.wait_for("READY=1")
        bus.stop()
        _assert_one_line(service, "lost the system bus.*")


@pytest.mark.parametrize(
    "body",
    [
        "raise ServiceError('lamps.json: no lamp; add one')",
        "async def fail(): raise ServiceError('lamps.json: no lamp; add one')\n    tasks.create_task(fail())",
    ],
    ids=["start", "task"],
)
def test_service_error_is_one_line(bus: PrivateBus, body: str) -> None:
    with _service(bus.address, body) as service:
        _assert_one_line(service, r"lamps\.json: no lamp; add one")


def test_bug_leaves_a_traceback(bus: PrivateBus) -> None:
    with _service(bus.address, "raise KeyError('bug')") as service:
        status, errors = service.end()
        assert status == 1
        assert "Traceback" in errors
        assert "KeyError: 'bug'" in errors


def test_bad_watchdog_setting(bus: PrivateBus) -> None:
    with _service(bus.address, environ={"WATCHDOG_USEC": "soon"}) as service:
        _assert_one_line(service, "WATCHDOG_USEC is 'soon'; it must be a positive number of microseconds")


def test_runs_without_a_service_manager(bus: PrivateBus) -> None:
    with _service(bus.address, environ={"NOTIFY_SOCKET": ""}) as service:
        wait_until(lambda: bus.owner(NAME))
        assert service.stop() == 0


def test_error_is_marked_for_the_journal(bus: PrivateBus) -> None:
    journal = "import os; s = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}'"
    with Service(["-c", journal + _PROGRAM % "raise ServiceError('wrong')"], bus.address) as service:
        _assert_one_line(service, "<3>wrong")
