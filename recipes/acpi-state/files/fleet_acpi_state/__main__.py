# SPDX-License-Identifier: Apache-2.0
"""Run the service. Its options are the folder of its state and the file of its settings."""

import asyncio
import os
import sys
import time

from fleet_acpi_state.interfaces import BUS_NAME, StateObject, milliseconds
from fleet_acpi_state.store import Store, StoreError
from fleet_acpi_state.targets import SystemdTargets
from fleet_acpi_state.tracker import NOBODY, RESTORED, Known, Limits, Tracker
from fleet_bmc_common import ServiceError, log
from fleet_bmc_common.objects import ObjectTree
from fleet_bmc_common.service import run
from fleet_bmc_common.settings import Setting, read

SETTINGS_FILE = "/usr/share/acpi-state/settings.json"
SETTINGS = {
    "s2_bound_seconds": Setting(900, 10, 86400, "the longest POST"),
    "grace_seconds": Setting(5, 1, 60, "between the host's word and its rails"),
    "acknowledge_seconds": Setting(1, 0.1, 4, "the longest that S2 waits for clients"),
}


async def start(objects: ObjectTree, tasks: asyncio.TaskGroup) -> None:
    """Read what was saved and show it."""
    folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("STATE_DIRECTORY", "/var/lib/acpi-state")
    settings = read(sys.argv[2] if len(sys.argv) > 2 else SETTINGS_FILE, SETTINGS)
    if not os.path.isdir(folder):  # noqa: PTH112 (pathlib costs start-up time)
        raise ServiceError(f"the folder {folder} of the saved state is not there")
    store = Store(folder)
    try:
        known = store.load()
    except StoreError as error:
        log.error(f"{error}; the state is inferred from the rails")
        known = Known()
    known = known._replace(contradicted=False, overdue=False)
    if known.source != NOBODY:
        known = known._replace(source=RESTORED)
    tracker = Tracker(
        known,
        Limits(settings["s2_bound_seconds"], settings["grace_seconds"]),
        clock=time.monotonic,
        wall=milliseconds,
        new_id=lambda: os.urandom(16).hex(),
    )
    targets = SystemdTargets(objects.bus)
    await targets.start()
    shown = StateObject(objects, tracker, store, targets, acknowledge=settings["acknowledge_seconds"])
    await shown.start(tasks)


if __name__ == "__main__":
    run(start, BUS_NAME)
