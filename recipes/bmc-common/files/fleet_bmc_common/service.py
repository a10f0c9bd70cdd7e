# SPDX-License-Identifier: Apache-2.0
"""The main program of a service: on the bus, ready, watched, and stopped cleanly.

    async def start(objects, tasks):
        objects.manage("/xyz/openbmc_project/example")
        objects.add("/xyz/openbmc_project/example/one", Interface(...))
        tasks.create_task(poll())

    run(start, "xyz.openbmc_project.Example")

A task of ``tasks`` that raises ends the service; at SIGTERM all of them are cancelled.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

from dbus_fast import (
    AuthError,
    DBusError,
    ErrorType,
    InvalidAddressError,
    NameFlag,
    RequestNameReply,
)
from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common import ServiceError, log
from fleet_bmc_common.notify import READY, STOPPING, WATCHDOG, notify, watchdog_period
from fleet_bmc_common.objects import ObjectTree

Start = Callable[[ObjectTree, asyncio.TaskGroup], Awaitable[None]]


def run(start: Start, *names: str) -> NoReturn:
    """Run a service on the system bus (``DBUS_SYSTEM_BUS_ADDRESS`` overrides where that is) and exit.

    ``start`` puts the objects into the tree before any of ``names`` is requested, so whoever sees a name
    finds its objects. Then systemd is told READY. Exit status: 0 after SIGTERM or SIGINT, 1 with one line per
    ServiceError; anything else is a bug and leaves a traceback.
    """
    status = 0
    try:
        asyncio.run(_serve(start, names))
    except* ServiceError as group:
        status = 1
        for error in _flatten(group):
            log.error(str(error))
    sys.exit(status)


async def _serve(start: Start, names: tuple[str, ...]) -> None:
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        main.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    bus = None
    try:
        bus = await _connect()
        objects = ObjectTree(bus)
        async with asyncio.TaskGroup() as tasks:
            period = watchdog_period()
            if period is not None:
                tasks.create_task(_feed_watchdog(period))
            tasks.create_task(_end_with_bus(bus))
            await start(objects, tasks)
            objects.announce()
            for name in names:
                await _own(bus, name)
            notify(READY)
    except asyncio.CancelledError:
        if not stopping:
            raise
        notify(STOPPING)
    finally:
        if bus is not None:
            bus.disconnect()


async def _connect() -> MessageBus:
    # /run itself: the library's default goes through /var/run, which a fresh writable partition lacks.
    address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or "unix:path=/run/dbus/system_bus_socket"
    try:
        return await MessageBus(address).connect()
    except (OSError, InvalidAddressError, AuthError) as error:
        raise ServiceError(f"cannot connect to the system bus at {address}: {error}") from None


async def _own(bus: MessageBus, name: str) -> None:
    """Become the only owner of a bus name, or say why not."""
    try:
        reply = await bus.request_name(name, NameFlag.DO_NOT_QUEUE)
    except DBusError as error:
        if error.type != ErrorType.ACCESS_DENIED.value:
            raise
        raise ServiceError(
            f"the bus does not let user {os.geteuid()} own {name}; install the service's policy file in "
            "/usr/share/dbus-1/system.d and run the service as the user that it names"
        ) from None
    if reply is not RequestNameReply.PRIMARY_OWNER:
        raise ServiceError(f"{name} is taken by another process; stop that one first (busctl status {name})")


async def _end_with_bus(bus: MessageBus) -> None:
    """End the service when the bus goes away; systemd starts it again when there is a bus."""
    try:
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ServiceError(f"lost the system bus: {error}") from None
    raise ServiceError("lost the system bus")


async def _feed_watchdog(period: float) -> None:
    """Feed the watchdog from the event loop itself, so that a hung loop is noticed."""
    while True:
        notify(WATCHDOG)
        await asyncio.sleep(period)


def _flatten(group: BaseExceptionGroup[ServiceError]) -> list[ServiceError]:
    found = []
    for error in group.exceptions:
        found += _flatten(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
