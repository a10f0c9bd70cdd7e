# SPDX-License-Identifier: Apache-2.0
"""Events reach the real event log."""

import asyncio
from pathlib import Path

import pytest
from dbus_fast import DBusError

from dbus_harness import PrivateBus, Service, call
from fleet_bmc_common.events import SERVICE, append

LOG = (SERVICE, "/xyz/openbmc_project/logging", "io.metafleet.EventLog")


def test_an_event_is_in_the_log(tmp_path: Path) -> None:
    async def main(bus: PrivateBus) -> None:
        client = await bus.connect()
        await append(client, "io.metafleet.Test", "Warning", {"WHY": "…"}, bytes(16))
        (entries,) = await call(client, *LOG, "Read", "uu", 0, 10)
        assert [entry[2:5] for entry in entries] == [["Warning", "io.metafleet.Test", {"WHY": "…"}]]
        assert len(entries[0][5]) == 16
        with pytest.raises(DBusError, match="severity 'Loud'"):
            await append(client, "io.metafleet.Test", "Loud", {})
        client.disconnect()

    argv = ["-m", "fleet_bmc_common", "fleet_event_log", str(tmp_path)]
    with PrivateBus(open_to_all=True) as bus, Service(argv, bus.address) as service:
        service.wait_for("READY=1")
        asyncio.run(main(bus))


def test_a_log_that_is_not_there_is_an_error() -> None:
    async def main(bus: PrivateBus) -> None:
        client = await bus.connect()
        with pytest.raises(DBusError, match="not provided"):
            await append(client, "io.metafleet.Test", "Warning", {})
        client.disconnect()

    with PrivateBus(open_to_all=True) as bus:
        asyncio.run(main(bus))
