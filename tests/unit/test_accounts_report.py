# SPDX-License-Identifier: Apache-2.0
"""Problems reach the event log, also one that starts later."""

import asyncio
from typing import Any

import pytest
from dbus_fast import DBusError

from dbus_harness import PATIENCE, PrivateBus
from fleet_accounts import report
from fleet_bmc_common import events
from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree

PATH = "/xyz/openbmc_project/logging"


async def tell(
    private: PrivateBus, log_is_late: bool, error: DBusError | None = None
) -> list[tuple[Any, ...]]:
    """Tell two problems; what the event log was told."""
    told: list[tuple[Any, ...]] = []

    def append(_sender: str, *event: Any) -> Body:
        told.append(event)
        if error is not None:
            raise error
        return [len(told)]

    log, service = await private.connect(), await private.connect()
    try:
        tree = ObjectTree(log)
        methods = {"Append": Method("ssa{ss}ay", "u", append)}
        tree.add(PATH, Interface("io.metafleet.EventLog", methods=methods))
        if not log_is_late:
            await log.request_name(events.SERVICE)
        async with asyncio.timeout(PATIENCE):
            telling = asyncio.create_task(report.tell(service, ["one", "two"]))
            if log_is_late:
                other = await private.connect()
                await other.request_name("io.metafleet.Other")  # wakes nobody
                other.disconnect()
                await log.request_name(events.SERVICE)
            await telling
    finally:
        log.disconnect()
        service.disconnect()
    return told


@pytest.mark.parametrize("log_is_late", [False, True])
def test_problems_become_events(log_is_late: bool) -> None:
    with PrivateBus(open_to_all=True) as bus:
        told = asyncio.run(tell(bus, log_is_late))
    assert told == [(report.MESSAGE, "Error", {"REASON": reason}, b"") for reason in ("one", "two")]


def test_an_event_log_that_refuses_is_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    with PrivateBus(open_to_all=True) as bus:
        told = asyncio.run(tell(bus, False, DBusError("a.b.Full", "no room")))
    assert len(told) == 2
    assert capsys.readouterr().err.count("the event log does not take an event: no room") == 2
