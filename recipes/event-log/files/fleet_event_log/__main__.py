# SPDX-License-Identifier: Apache-2.0
"""Run the service. Its only option is the folder of the log; the service manager's is the default."""

import asyncio
import os
import sys

from fleet_bmc_common import ServiceError, log
from fleet_bmc_common.objects import ObjectTree
from fleet_bmc_common.service import run
from fleet_event_log.interfaces import BUS_NAME, LogObjects
from fleet_event_log.ring import EventLog
from fleet_event_log.storage import Folder


async def start(objects: ObjectTree, _tasks: asyncio.TaskGroup) -> None:
    """Read the log and show it."""
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("STATE_DIRECTORY", "/var/lib/event-log")
    try:
        events = EventLog(Folder(path))
    except OSError as error:
        raise ServiceError(f"the log's folder {path} cannot be used: {error.strerror}") from None
    while events.problems:
        log.warning(events.problems.pop(0))
    LogObjects(events, objects)


if __name__ == "__main__":
    run(start, BUS_NAME)
