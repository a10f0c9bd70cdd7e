# SPDX-License-Identifier: Apache-2.0
"""Calls to other services on D-Bus, their properties and their signals."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from dbus_fast import DBusError, Message, MessageType, Variant
from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common.text import sendable

DBUS = "org.freedesktop.DBus"
DBUS_PATH = "/org/freedesktop/DBus"
PROPERTIES = "org.freedesktop.DBus.Properties"

SECONDS = 25.0  # as long as libdbus and sd-bus wait for an answer


async def call(
    bus: MessageBus,
    destination: str,
    path: str,
    interface: str,
    member: str,
    signature: str = "",
    *body: Any,
    seconds: float = SECONDS,
) -> list[Any]:
    """Call a method and return its results.

    Raises DBusError for an error reply, and TimeoutError when there is none within `seconds`.
    """
    values = sendable(list(body))
    message = Message(destination, path, interface, member, signature=signature, body=values)
    async with asyncio.timeout(seconds):
        reply = await bus.call(message)
    assert reply is not None
    if reply.message_type is MessageType.ERROR:
        text = str(reply.body[0]) if reply.signature.startswith("s") else ""
        raise DBusError(str(reply.error_name), text)
    return list(reply.body)


async def get(bus: MessageBus, destination: str, path: str, interface: str, name: str) -> Any:
    """Return the value of a property. Raises as `call` does."""
    (value,) = await call(bus, destination, path, PROPERTIES, "Get", "ss", interface, name)
    return value.value


async def put(
    bus: MessageBus, destination: str, path: str, interface: str, name: str, signature: str, value: Any
) -> None:
    """Set a property, whose type is `signature`. Raises as `call` does."""
    variant = Variant(signature, value)
    await call(bus, destination, path, PROPERTIES, "Set", "ssv", interface, name, variant)


async def on_signal(
    bus: MessageBus,
    handler: Callable[[Message], None],
    interface: str,
    member: str,
    path: str = "",
    *,
    arg0: str = "",
) -> None:
    """Hand each signal of this name to `handler` from now on, whoever sends it.

    `path` and `arg0` (the first argument, a string) tell the bus not to wake us for others.
    """

    def listen(message: Message) -> bool:
        if (
            message.message_type is MessageType.SIGNAL
            and message.interface == interface
            and message.member == member
            and path in ("", message.path)
        ):
            handler(message)
        return False

    bus.add_message_handler(listen)
    rule = f"type='signal',interface='{interface}',member='{member}'"
    rule += f",path='{path}'" if path else ""
    rule += f",arg0='{arg0}'" if arg0 else ""
    await call(bus, DBUS, DBUS_PATH, DBUS, "AddMatch", "s", rule)


class Follower:
    """The properties of another service's interface, as they are now, over all its restarts."""

    def __init__(
        self,
        bus: MessageBus,
        destination: str,
        path: str,
        interface: str,
        changed: Callable[[Mapping[str, Any] | None], None],
    ) -> None:
        """Follow `interface` at `path` of whoever owns the name `destination`.

        `changed` is called after each change with all values, and with None when nobody owns the name.
        """
        self.values: dict[str, Any] | None = None
        self._bus = bus
        self._destination = destination
        self._path = path
        self._interface = interface
        self._changed = changed
        self._owner = ""
        self._behind: list[dict[str, Any]] = []  # changes that came while all values were read
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; what there is already has been told when this returns."""
        await on_signal(self._bus, self._on_properties, PROPERTIES, "PropertiesChanged", self._path)
        await on_signal(self._bus, self._on_owner, DBUS, "NameOwnerChanged", arg0=self._destination)
        try:
            (owner,) = await call(self._bus, DBUS, DBUS_PATH, DBUS, "GetNameOwner", "s", self._destination)
        except DBusError:
            return  # nobody yet
        if not self._owner:
            self._owner = owner
            await self._read(owner)

    def _on_owner(self, signal: Message) -> None:
        name, _, owner = signal.body
        if name != self._destination:
            return
        self._owner = owner
        if owner:
            self._reading = asyncio.create_task(self._read(owner))
        elif self.values is not None:
            self.values = None
            self._changed(None)

    def _on_properties(self, signal: Message) -> None:
        if (signal.sender, signal.path, signal.body[0]) != (self._owner, self._path, self._interface):
            return
        change = {name: value.value for name, value in signal.body[1].items()}
        if self.values is None:
            self._behind.append(change)
        else:
            self.values |= change
            self._changed(self.values)

    async def _read(self, owner: str) -> None:
        self.values = None
        self._behind.clear()
        try:
            (values,) = await call(self._bus, owner, self._path, PROPERTIES, "GetAll", "s", self._interface)
        except (DBusError, TimeoutError):
            return  # it has gone again, which NameOwnerChanged tells
        if owner == self._owner:
            self.values = {name: value.value for name, value in values.items()}
            # Those that were sent before the answer are in it already, in the same order.
            for change in self._behind:
                self.values |= change
            self._changed(self.values)
