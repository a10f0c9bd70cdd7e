# SPDX-License-Identifier: Apache-2.0
"""Calls to other services on D-Bus, and their signals."""

import asyncio
from collections.abc import Callable
from typing import Any

from dbus_fast import DBusError, Message, MessageType
from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common.text import sendable

DBUS = "org.freedesktop.DBus"
DBUS_PATH = "/org/freedesktop/DBus"

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


async def on_signal(bus: MessageBus, handler: Callable[[Message], None], interface: str, member: str) -> None:
    """Hand each signal of this name to `handler` from now on, whoever sends it."""

    def listen(message: Message) -> bool:
        if (
            message.message_type is MessageType.SIGNAL
            and message.interface == interface
            and message.member == member
        ):
            handler(message)
        return False

    bus.add_message_handler(listen)
    rule = f"type='signal',interface='{interface}',member='{member}'"
    await call(bus, DBUS, DBUS_PATH, DBUS, "AddMatch", "s", rule)
