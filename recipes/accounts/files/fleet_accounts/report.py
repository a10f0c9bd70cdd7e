# SPDX-License-Identifier: Apache-2.0
"""What has to be mended, told to the event log as soon as there is one."""

import asyncio
from collections.abc import Sequence

from dbus_fast import DBusError, Message
from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common import log
from fleet_bmc_common.client import DBUS, on_signal
from fleet_bmc_common.events import SERVICE, append

MESSAGE = "io.metafleet.Accounts.Damaged"
_NOT_THERE = ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner")


async def tell(bus: MessageBus, problems: Sequence[str]) -> None:
    """Add an event for each problem; wait for the event log when it is not there yet."""
    appeared = asyncio.Event()

    def owner_changed(signal: Message) -> None:
        if signal.body[0] == SERVICE and signal.body[2]:
            appeared.set()

    await on_signal(bus, owner_changed, DBUS, "NameOwnerChanged", arg0=SERVICE)
    for problem in problems:
        while not await _add(bus, problem):
            await appeared.wait()
            appeared.clear()


async def _add(bus: MessageBus, problem: str) -> bool:
    """Whether this problem needs no further try."""
    try:
        await append(bus, MESSAGE, "Error", {"REASON": problem})
    except DBusError as error:
        if error.type in _NOT_THERE:
            return False
        log.warning(f"the event log does not take an event: {error.text}")
    except TimeoutError:
        log.warning("the event log does not answer")
    return True
