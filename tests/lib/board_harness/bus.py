# SPDX-License-Identifier: Apache-2.0
"""The BMC's D-Bus over SSH: ask it, and follow what changes on it."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fabric import Connection

from board_harness import ssh
from fleet_cli.bmc import (
    ACPI,
    CHASSIS,
    HOST,
    READY,
    Address,
    Bmc,
    Change,
    monitor_command,
    parse_change,
    shell,
)
from fleet_cli.timeline import PATHS

SECONDS = 120.0  # bound of what takes a few seconds on an idle machine

# Bus name -> the one to ask and its object manager. One process has host and chassis.
_MANAGERS = {
    ACPI.service: (ACPI.service, "/xyz/openbmc_project/control/host0"),
    HOST.service: (HOST.service, "/xyz/openbmc_project/state"),
    CHASSIS.service: (HOST.service, "/xyz/openbmc_project/state"),
}
_GET_OBJECTS = ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects")

T = TypeVar("T")


class SshBmc(Bmc):
    """What fleet_cli knows to ask a BMC, over a connection that is there already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, *commands: Sequence[str]) -> list[str]:
        """Run busctl with each of these words; a line of output for each. Raises ssh.CommandError."""
        return ssh.run(self._connection, " && ".join(map(shell, commands))).splitlines()

    def values(self, *addresses: Address) -> list[dict[str, Any]]:
        """All properties of these interfaces, with as few calls as there are services."""
        if any(address.service not in _MANAGERS for address in addresses):
            return super().values(*addresses)
        managers = list(dict.fromkeys(_MANAGERS[address.service] for address in addresses))
        lines = self.run(*(["call", *manager, *_GET_OBJECTS] for manager in managers))
        objects = {path: shown for line in lines for path, shown in json.loads(line)["data"][0].items()}
        return [
            {name: value["data"] for name, value in objects[address.path][address.interface].items()}
            for address in addresses
        ]


class Bus:
    """All changes of properties of some objects since the start, with the BMC's own times.

    It ends with the BMC's power: start another one after the boot.
    """

    def __init__(self, connection: Connection, *paths: str) -> None:
        """Follow these objects, those of the host's power if none is named."""
        self._channel = connection.transport.open_session()
        self._channel.set_combine_stderr(True)
        self._channel.exec_command(monitor_command(*(paths or PATHS)))
        self._news = threading.Condition()
        self._changes: list[Change] = []
        self._is_ready = False
        self._has_ended = False
        self._said = ""  # by busctl, and not understood
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        try:
            self._wait(lambda: self._is_ready or None, "the bus is watched", SECONDS)
        except AssertionError:
            self.close()
            raise

    @property
    def seen(self) -> int:
        """How many changes there have been: the place from which later ones count."""
        with self._news:
            return len(self._changes)

    def since(self, place: int) -> list[Change]:
        """The changes from a place on."""
        with self._news:
            return self._changes[place:]

    def wait(
        self, place: int, condition: Callable[[list[Change]], T | None], what: str, seconds: float = SECONDS
    ) -> T:
        """Wait until `condition` of the changes from a place on gives something.

        AssertionError naming `what` when it does not within `seconds`, or when the BMC has gone.
        """
        return self._wait(lambda: condition(self._changes[place:]), what, seconds)

    def close(self) -> None:
        """End it, on the board too, if that is still there."""
        if not self._channel.closed:
            with contextlib.suppress(OSError, EOFError):  # the board has gone
                self._channel.shutdown_write()  # the shell there ends busctl then
                self._thread.join(10)
        self._channel.close()
        self._thread.join()

    def _wait(self, condition: Callable[[], T | None], what: str, seconds: float) -> T:
        end = time.monotonic() + seconds
        with self._news:
            while (result := condition()) is None:
                assert not self._has_ended, f"{what}: the board's bus went away; {self._said.strip()}"
                assert self._news.wait(max(0.0, end - time.monotonic())), f"{what}: not within {seconds:g} s"
        return result

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the connection broke
            for line in self._channel.makefile("r"):
                self._take(line)
        with self._news:
            self._has_ended = True
            self._news.notify_all()

    def _take(self, line: str) -> None:
        change = parse_change(line)
        with self._news:
            if change:
                self._changes.append(change)
            elif READY in line:
                self._is_ready = True
            else:
                self._said = line
            self._news.notify_all()
