# SPDX-License-Identifier: Apache-2.0
"""Run the service; the bus starts it when somebody asks for it.

Its only option is the folder of the users; the service manager's is the default.
"""

import asyncio
import os
import sys

from fleet_accounts import provision, report
from fleet_accounts.accounts import Accounts
from fleet_accounts.interfaces import BUS_NAME, AccountObjects
from fleet_accounts.lockout import Lockout
from fleet_accounts.secret import Vault
from fleet_accounts.storage import Folder
from fleet_accounts.store import Store, StoreError
from fleet_bmc_common import ServiceError, log
from fleet_bmc_common.objects import ObjectTree
from fleet_bmc_common.service import run


async def start(objects: ObjectTree, tasks: asyncio.TaskGroup) -> None:
    """Read the users, make those that the board was provisioned with, and show them."""
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("STATE_DIRECTORY", "/var/lib/accounts")
    try:
        folder = Folder(path)
    except OSError as error:
        raise ServiceError(f"the users' folder {path} cannot be used: {error.strerror}") from None
    store, vault = Store(folder), Vault(folder)
    try:
        made = provision.take(folder, store, vault)
    except StoreError as error:
        raise ServiceError(str(error)) from None
    if made:
        log.info(f"users made as provisioned: {', '.join(made)}")
    for problem in store.problems:
        log.error(problem)
    AccountObjects(Accounts(store, vault, Lockout()), objects)
    if store.problems:
        tasks.create_task(report.tell(objects.bus, store.problems))


if __name__ == "__main__":
    run(start, BUS_NAME)
