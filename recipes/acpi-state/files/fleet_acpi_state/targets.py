# SPDX-License-Identifier: Apache-2.0
"""systemd's targets of the host's states (org.freedesktop.systemd1(5))."""

import asyncio
from typing import Any, Protocol

from dbus_fast import DBusError, Message
from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common import ServiceError, log
from fleet_bmc_common.client import call, on_signal

_SYSTEMD = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_STOPPING = ("stop", "restart")


class Targets(Protocol):
    """Whoever starts and stops what hangs on the host's states."""

    async def reach(self, target: str) -> None:
        """Start `target` and stop what conflicts with it; return when that has stopped. Never raises."""

    async def leave(self, target: str) -> None:
        """Stop `target` and what is part of it; return when that has stopped. Never raises."""


class SystemdTargets:
    """`Targets` by the service manager."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._jobs: dict[str, asyncio.Event] = {}  # that are waited for
        self._ended: set[str] = set()  # since the last request, for those that end before we know of them

    async def start(self) -> None:
        """Hear of jobs that end. Raises ServiceError without a service manager."""
        await on_signal(self._bus, self._on_removed, _MANAGER, "JobRemoved", _PATH)
        try:
            await self._call("Subscribe")
        except (DBusError, TimeoutError) as error:
            raise ServiceError(f"no service manager on the bus: {error}") from None

    async def reach(self, target: str) -> None:
        """See Targets."""
        await self._do("StartUnit", target)

    async def leave(self, target: str) -> None:
        """See Targets."""
        await self._do("StopUnit", target)

    async def _do(self, member: str, target: str) -> None:
        self._ended.clear()
        try:
            (job,) = await self._call(member, "ss", target, "replace")
            (jobs,) = await self._call("ListJobs")
        except (DBusError, TimeoutError) as error:
            log.error(f"{target}: the service manager refuses {member}: {error}")
            return
        waited = {job, *(path for _, _, kind, _, path, _ in jobs if kind in _STOPPING)}
        for path in waited - self._ended:
            self._jobs[path] = asyncio.Event()
        for event in list(self._jobs.values()):
            await event.wait()

    def _on_removed(self, signal: Message) -> None:
        path = signal.body[1]
        self._ended.add(path)
        event = self._jobs.pop(path, None)
        if event:
            event.set()

    async def _call(self, member: str, signature: str = "", *body: str) -> list[Any]:
        return await call(self._bus, _SYSTEMD, _PATH, _MANAGER, member, signature, *body)
