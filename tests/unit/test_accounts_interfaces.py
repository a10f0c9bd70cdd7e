# SPDX-License-Identifier: Apache-2.0
"""What only time brings: the end of a lock-out is announced."""

import asyncio

import pytest
from dbus_fast import Message

from accounts_fakes import FlakyFolder
from dbus_harness import PATIENCE, PrivateBus, call
from fleet_accounts import interfaces, lockout
from fleet_accounts.accounts import Accounts
from fleet_accounts.interfaces import ACCOUNTS, ATTRIBUTES, BUS_NAME, ROOT, AccountObjects
from fleet_accounts.lockout import FAILURES, Lockout
from fleet_accounts.secret import Vault
from fleet_accounts.store import Store
from fleet_bmc_common.objects import ObjectTree

LOCKED = "UserLockedForFailedAttempt"


async def states(private: PrivateBus, wanted: int) -> list[bool]:
    """Lock a user out, and delete another who is locked out; so many states as they are announced."""
    found: asyncio.Queue[bool] = asyncio.Queue()

    def hear(message: Message) -> bool:
        if message.member == "PropertiesChanged" and message.body[0] == ATTRIBUTES:
            found.put_nowait(message.body[1][LOCKED].value)
        return False

    service, client = await private.connect(), await private.connect()
    try:
        folder = FlakyFolder()
        accounts = Accounts(Store(folder), Vault(folder), Lockout())
        tree = ObjectTree(service)
        accounts.create("gone", [], "priv-user", True)
        accounts.create("root", [], "priv-admin", True)
        AccountObjects(accounts, tree)
        tree.announce()
        await service.request_name(BUS_NAME)
        for _ in range(FAILURES):
            await call(client, BUS_NAME, ROOT, ACCOUNTS, "CountLogin", "sb", "gone", False)
        await call(client, BUS_NAME, ROOT + "/gone", "xyz.openbmc_project.Object.Delete", "Delete")
        client.add_message_handler(hear)
        bus = "org.freedesktop.DBus"
        rule = f"type='signal',path='{ROOT}/root'"
        await call(client, bus, "/", bus, "AddMatch", "s", rule)
        for _ in range(FAILURES):
            await call(client, BUS_NAME, ROOT, ACCOUNTS, "CheckPassword", "ss", "root", "wrong")
        async with asyncio.timeout(PATIENCE):
            return [await found.get() for _ in range(wanted)]
    finally:
        service.disconnect()
        client.disconnect()


def test_the_end_of_a_lock_out_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "SECONDS", 0.2)
    monkeypatch.setattr(lockout, "SECONDS", 0.2)
    with PrivateBus(open_to_all=True) as bus:
        assert asyncio.run(states(bus, 2)) == [True, False]
