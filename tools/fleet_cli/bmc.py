# SPDX-License-Identifier: Apache-2.0
"""What the BMC says on its D-Bus, asked over SSH with the board's own busctl."""

import json
import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from fleet_cli.errors import Failed, UserError
from fleet_qemu import Board

SECONDS = 60.0  # for one call; the emulated CPU is slow at key exchange


class Address(NamedTuple):
    """An interface of an object of a service."""

    service: str
    path: str
    interface: str


_XYZ = "xyz.openbmc_project."
ACPI = Address(
    _XYZ + "Control.Power.ACPIPowerState",
    "/xyz/openbmc_project/control/host0/acpi_power_state",
    _XYZ + "Control.Power.ACPIPowerState",
)
ACPI_DETAILS = ACPI._replace(interface="io.metafleet.AcpiState")
HOST = Address(_XYZ + "State.Host", "/xyz/openbmc_project/state/host0", _XYZ + "State.Host")
PROGRESS = HOST._replace(interface=_XYZ + "State.Boot.Progress")
CHASSIS = Address(_XYZ + "State.Chassis", "/xyz/openbmc_project/state/chassis0", _XYZ + "State.Chassis")
HOST_POWER = CHASSIS._replace(interface="io.metafleet.HostPower")
EVENT_LOG = Address(_XYZ + "Logging", "/xyz/openbmc_project/logging", "io.metafleet.EventLog")
PROPERTIES = "org.freedesktop.DBus.Properties"

READY = "Monitoring bus message stream."  # what busctl says when it misses nothing any more


class Change(NamedTuple):
    """Properties of an interface that have changed.

    `time` is seconds since the epoch by the board's clock, `arrived` is this machine's monotonic clock.
    """

    time: float
    interface: str
    values: dict[str, Any]
    arrived: float = 0.0


def get_all_command(address: Address) -> list[str]:
    """Words for busctl that read all properties of an interface."""
    return ["call", address.service, address.path, PROPERTIES, "GetAll", "s", address.interface]


def put_command(address: Address, name: str, signature: str, value: str) -> list[str]:
    """Words for busctl that set a property."""
    return ["set-property", *address, name, signature, value]


def shell(words: Sequence[str]) -> str:
    """The command line of busctl with these words."""
    return shlex.join(["busctl", "--json=short", *words])


def monitor_command(*paths: str) -> str:
    """Shell that prints a line for each changed property of these objects, until its standard input ends."""
    matches = [
        f"--match=type='signal',interface='{PROPERTIES}',member='PropertiesChanged',path='{path}'"
        for path in paths
    ]
    # A background process has no standard input, so it is kept as descriptor 3.
    watch = f"exec 3<&0; {shell(['monitor', *matches])} 2>&1 & m=$!; "
    return watch + "{ cat <&3; kill $m; } > /dev/null 2>&1 & wait $m"


def parse_change(line: str) -> Change | None:
    """Read a line of busctl's monitor; None for one that is not about properties."""
    try:
        message = json.loads(line)
        if message["member"] != "PropertiesChanged":
            return None
        interface, values, _ = message["payload"]["data"]
        plain = {name: value["data"] for name, value in values.items()}
        return Change(message["timestamp-realtime"] / 1e6, interface, plain)
    except (ValueError, KeyError, TypeError):
        return None


def parse_values(line: str) -> dict[str, Any]:
    """Read busctl's answer to GetAll."""
    (values,) = json.loads(line)["data"]
    return {name: value["data"] for name, value in values.items()}


def last(name: str) -> str:
    """The last part of a D-Bus enumeration's value."""
    return name.rpartition(".")[2]


class Bmc:
    """The D-Bus of one board's BMC."""

    def __init__(self, board: Board) -> None:
        self._number = board.run.number
        self._ssh = board.ssh_command()

    def run(self, *commands: Sequence[str]) -> list[str]:
        """Run busctl with each of these words, in one login; a line of output for each.

        Raises UserError when the board does not let us in, Failed when the BMC refuses.
        """
        script = " && ".join(shell(words) for words in commands)
        try:
            done = subprocess.run(
                [*self._ssh, script],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS * len(commands),
            )
        except subprocess.TimeoutExpired:
            raise Failed(
                f"board {self._number} does not answer", "'./fleet console --log' shows what it does"
            ) from None
        if done.returncode == 255:
            raise UserError(
                f"board {self._number} does not let us in: {done.stderr.strip()}",
                "wait until it is up ('./fleet status'), or start it again with './fleet run'",
            )
        if done.returncode != 0:
            raise Failed(_refusal(done.stderr), "'./fleet events' may tell more")
        return done.stdout.splitlines()

    def wait_until_running(self, seconds: float) -> None:
        """Wait until the board's services have started. Raises Failed when they do not within `seconds`."""
        try:
            done = subprocess.run(
                [*self._ssh, "systemctl is-system-running --wait"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
            state = done.stdout.strip()
        except subprocess.TimeoutExpired:
            state = "still starting"
        if state != "running":
            raise Failed(
                f"the services of board {self._number} are not running: {state or 'no answer'}",
                "'./fleet ssh -- systemctl --failed' names them, './fleet collect' gets the journal",
            )

    def values(self, *addresses: Address) -> list[dict[str, Any]]:
        """All properties of these interfaces."""
        return [parse_values(line) for line in self.run(*map(get_all_command, addresses))]

    def put(self, address: Address, name: str, value: str) -> None:
        """Set a property that is a string."""
        self.run(put_command(address, name, "s", value))

    def monitor(self, *paths: str) -> "Monitor":
        """Watch the properties of these objects; a context manager that misses nothing from its start on."""
        return Monitor([*self._ssh, monitor_command(*paths)])


class Monitor:
    """Changes of properties as they happen."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._changes: queue.Queue[Change | None] = queue.Queue()
        self._ready = threading.Event()
        self._watching = False
        self._said = ""
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Monitor":
        self._thread.start()
        if not self._ready.wait(SECONDS) or not self._watching:
            self.__exit__()
            raise Failed(f"the board's bus cannot be watched: {self._said.strip() or 'no answer'}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    def next(self, seconds: float) -> Change | None:
        """The next change; None when there is none within `seconds`. Raises Failed when the board is gone."""
        try:
            change = self._changes.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if change is None:
            raise Failed("the board went away", "'./fleet status' and './fleet console --log' tell more")
        return change

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if READY in line:
                self._watching = True
                self._ready.set()
            elif change := parse_change(line):
                self._changes.put(change._replace(arrived=time.monotonic()))
            else:
                self._said = line
        self._changes.put(None)
        self._ready.set()


def _refusal(text: str) -> str:
    """What the BMC said, without busctl's own words."""
    lines = text.strip().splitlines() or ["busctl failed"]
    for words in ("Call failed: ", "Failed to set property "):
        if words in lines[-1]:
            return f"the BMC refuses: {lines[-1].partition(': ')[2]}"
    return lines[-1]
