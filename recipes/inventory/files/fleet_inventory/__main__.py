# SPDX-License-Identifier: Apache-2.0
"""Run the service. Its only option is the device tree's root, for trees that are not the kernel's."""

import asyncio
import sys
from pathlib import Path

from fleet_bmc_common import ServiceError
from fleet_bmc_common.objects import ObjectTree
from fleet_bmc_common.service import run
from fleet_inventory import device_tree, tables


async def start(objects: ObjectTree, _tasks: asyncio.TaskGroup) -> None:
    """Read the device tree once and show what it says."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else device_tree.ROOT
    try:
        properties = device_tree.read(root)
    except OSError as error:
        raise ServiceError(f"cannot read the device tree: {error}") from None
    if not root.is_dir():
        raise ServiceError(f"there is no device tree at {root}")
    objects.manage(tables.ROOT)
    objects.add(tables.BMC, *tables.bmc(device_tree.parse(properties)))


if __name__ == "__main__":
    run(start, tables.BUS_NAME)
