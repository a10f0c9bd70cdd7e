# SPDX-License-Identifier: Apache-2.0
"""Run the service on the board's KCS channel or, with `--dummy PATH`, on a socket for `ipmitool -I dummy`."""

import asyncio
import sys

from dbus_fast import Variant

from fleet_bmc_common import ServiceError, board
from fleet_bmc_common.objects import Interface, ObjectTree
from fleet_bmc_common.service import run
from fleet_ipmi import app, chassis, sensor_event, storage
from fleet_ipmi.bmc import DBusBmc
from fleet_ipmi.dispatch import Dispatcher
from fleet_ipmi.kcs import KcsDevice, Transport

BUS_NAME = "xyz.openbmc_project.Ipmi.Host"
PATH = "/xyz/openbmc_project/Ipmi"
INTERFACE = "io.metafleet.Ipmi"


async def start(objects: ObjectTree, tasks: asyncio.TaskGroup) -> None:
    """Show the counters and open the way in."""
    counters = Interface(
        INTERFACE, {name: Variant("t", 0) for name in ("Requests", "Refused", "LastRequest")}
    )

    def counted(dispatcher: Dispatcher) -> None:
        # Not by `update`: each request would be a signal.
        counters.properties["Requests"] = Variant("t", dispatcher.requests, False)
        counters.properties["Refused"] = Variant("t", dispatcher.refused, False)
        counters.properties["LastRequest"] = Variant("t", dispatcher.last_request, False)

    areas = (app.command, chassis.command, sensor_event.command, storage.command)
    dispatcher = Dispatcher(DBusBmc(objects.bus), *areas, counted=counted)
    objects.manage(PATH)
    objects.add(PATH, counters)
    match sys.argv[1:]:
        case []:
            tasks.create_task(Transport(KcsDevice(board.load().kcs_device), dispatcher).run())
        case ["--dummy", path]:
            from fleet_ipmi import dummy

            tasks.create_task(dummy.serve(path, dispatcher))
        case _:
            raise ServiceError("usage: python3 -m fleet_ipmi [--dummy PATH]")


if __name__ == "__main__":
    run(start, BUS_NAME)
