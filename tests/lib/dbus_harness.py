# SPDX-License-Identifier: Apache-2.0
"""A private system bus, and systemd's part, for tests of services: real daemon, real processes, no mocks."""

import asyncio
import getpass
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from dbus_fast import Message, MessageType
from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common.text import sendable

# Generous: a loaded machine may be slow, and only a failure waits that long.
PATIENCE = 60.0

_SYSTEM_CONFIGURATION = Path("/usr/share/dbus-1/system.conf")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; fail when it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class CallError(Exception):
    """An error reply; ``name`` is the D-Bus error name."""

    def __init__(self, reply: Message) -> None:
        self.name = str(reply.error_name)
        super().__init__(f"{self.name}: {reply.body}")


class PrivateBus:
    """A dbus-daemon with the policy of the machine's system bus and those of the services under test."""

    def __init__(
        self,
        policies: Iterable[Path] = (),
        users: Mapping[str, int] | None = None,
        *,
        open_to_all: bool = False,
        activatable: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Start the daemon.

        ``users`` gives the numbers of users in ``policies`` that this machine lacks; ``open_to_all`` lets
        everyone own every name and call every method. ``activatable``: names, and what this Python runs when
        somebody asks for one.
        """
        self._open = open_to_all
        self._folder = Path(tempfile.mkdtemp(prefix="bus-"))
        self._write_activation(activatable or {})
        configuration = self._folder / "bus.conf"
        configuration.write_bytes(self._configuration(policies, users or {}))
        self._daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--print-address"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._daemon.stdout is not None
        self.address = self._daemon.stdout.readline().strip()
        assert self.address, "dbus-daemon did not start"

    def _configuration(self, policies: Iterable[Path], users: Mapping[str, int]) -> bytes:
        root = ET.Element("busconfig")
        for tag, text in (
            ("type", "system"),
            ("listen", f"unix:path={self._folder}/socket"),
            ("auth", "EXTERNAL"),
            ("servicedir", str(self._folder)),
        ):
            ET.SubElement(root, tag).text = text
        for source in (_SYSTEM_CONFIGURATION, *policies):
            for policy in ET.parse(source).getroot().iter("policy"):
                if policy.get("user") in users:
                    policy.set("user", str(users[policy.attrib["user"]]))
                root.append(policy)
        if self._open:
            everything = ET.SubElement(root, "policy", context="mandatory")
            for rule in ({"own": "*"}, {"send_destination": "*"}):
                ET.SubElement(everything, "allow", rule)
        return ET.tostring(root)

    def _write_activation(self, activatable: Mapping[str, Iterable[str]]) -> None:
        for name, argv in activatable.items():
            script = self._folder / f"{name}.sh"
            environ = f"DBUS_SYSTEM_BUS_ADDRESS=$DBUS_STARTER_ADDRESS PYTHONPATH={':'.join(sys.path)}"
            script.write_text(f"#!/bin/sh\n{environ} exec {shlex.join([sys.executable, *argv])}\n")
            script.chmod(0o755)
            (self._folder / f"{name}.service").write_text(
                f"[D-BUS Service]\nName={name}\nExec={script}\nUser={getpass.getuser()}\n"
            )

    def stop(self) -> None:
        self._daemon.terminate()
        self._daemon.wait(PATIENCE)
        if self._daemon.stdout is not None:
            self._daemon.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def connect(self) -> MessageBus:
        return await MessageBus(bus_address=self.address).connect()

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        """Call a method from a connection of its own and return the results; CallError for an error reply."""

        async def run() -> list[Any]:
            bus = await self.connect()
            try:
                return await call(bus, destination, path, interface, member, signature, *body)
            finally:
                bus.disconnect()

        return asyncio.run(run())

    def owner(self, name: str) -> bool:
        """Whether somebody owns ``name``."""
        arguments = ("NameHasOwner", "s", name)
        return bool(self.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus", *arguments)[0])


async def call(
    bus: MessageBus,
    destination: str,
    path: str,
    interface: str,
    member: str,
    signature: str = "",
    *body: Any,
) -> list[Any]:
    """Call a method and return the results; CallError for an error reply."""
    message = Message(destination, path, interface, member, signature=signature, body=sendable(list(body)))
    async with asyncio.timeout(PATIENCE):
        reply = await bus.call(message)
    assert reply is not None
    if reply.message_type is MessageType.ERROR:
        raise CallError(reply)
    return list(reply.body)


class Service:
    """A service process whose service manager is the test (sd_notify(3))."""

    def __init__(self, argv: list[str], bus_address: str, environ: Mapping[str, str] | None = None) -> None:
        """Start ``argv`` with this Python; ``environ`` is added to the environment."""
        self._folder = Path(tempfile.mkdtemp(prefix="notify-"))
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(self._folder / "socket"))
        self.process = subprocess.Popen(
            [sys.executable, *argv],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "NOTIFY_SOCKET": str(self._folder / "socket"),
                "DBUS_SYSTEM_BUS_ADDRESS": bus_address,
                **(environ or {}),
            },
            stderr=subprocess.PIPE,
            text=True,
        )

    def notifications(self, patience: float = PATIENCE) -> Iterator[str]:
        """Yield what the service tells its manager; end after ``patience`` seconds of silence or with it."""
        while True:
            deadline = time.monotonic() + patience
            while not select.select([self._manager], [], [], 0.05)[0]:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    if not select.select([self._manager], [], [], 0)[0]:
                        return
                    break
            yield from self._manager.recv(4096).decode().splitlines()

    def wait_for(self, notification: str) -> None:
        """Wait until the service sends ``notification``; fail with what it said when it does not."""
        for line in self.notifications():
            if line == notification:
                return
        self.process.kill()
        raise AssertionError(f"no {notification} from the service; it said: {self.process.communicate()[1]}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def end(self) -> tuple[int, str]:
        """Wait for the process to end by itself; return its exit status and its standard error."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE)
        self._manager.close()
        shutil.rmtree(self._folder, ignore_errors=True)
