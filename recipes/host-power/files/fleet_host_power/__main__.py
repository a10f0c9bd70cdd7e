# SPDX-License-Identifier: Apache-2.0
"""Run the service. Its only option is the file with its timers; without it the usual places are looked at."""

import asyncio
import sys
from collections.abc import Iterable, Mapping

from fleet_bmc_common import ServiceError, board, log
from fleet_bmc_common.board import Gpio
from fleet_bmc_common.objects import ObjectTree
from fleet_bmc_common.service import run
from fleet_host_power import machine, settings
from fleet_host_power.gpio import KernelLines, Lines, choose
from fleet_host_power.interfaces import BUS_NAMES, HostPower
from fleet_host_power.machine import Machine

REQUIRED = (machine.PS_PWROK, machine.POWER_OUT)
# What a board does without when it lacks a line.
LOST = {
    machine.SLP_S5: "a shutdown of the host cannot be told from a loss of power",
    machine.PLTRST: "a reset is seen by POST_COMPLETE only",
    machine.POST_COMPLETE: "the end of POST is not seen",
    machine.RESET_OUT: "the host cannot be reset",
    machine.POWER_BUTTON: "the power button is not passed on",
    machine.RESET_BUTTON: "the reset button is not passed on",
}


def usable(gpios: Mapping[str, Gpio]) -> list[str]:
    """Return which of our lines the board has, and say what is lost with the others.

    Raises ServiceError when it lacks one of REQUIRED.
    """
    missing = [name for name in REQUIRED if name not in gpios]
    if missing:
        raise ServiceError(
            f"the board file names no GPIO line {' and no '.join(missing)}; without, power is not controlled"
        )
    for name, loss in LOST.items():
        if name not in gpios:
            log.info(f"this board has no {name} line: {loss}")
    names = [name for name in (*machine.INPUTS, *machine.OUTPUTS) if name in gpios]
    if machine.RESET_OUT not in gpios and machine.RESET_BUTTON in gpios:
        names.remove(machine.RESET_BUTTON)
    return names


def serve(
    objects: ObjectTree,
    tasks: asyncio.TaskGroup,
    timers: Mapping[str, int],
    lines: Lines,
    names: Iterable[str],
) -> None:
    """Show host and chassis, whose lines are `names`."""
    power = HostPower(objects, lines, Machine(timers, frozenset(names), lines.levels()))
    tasks.create_task(power.run())


async def start(objects: ObjectTree, tasks: asyncio.TaskGroup) -> None:
    """Take the board's lines and show what they say."""
    timers = settings.load(sys.argv[1:2] or settings.FILES)
    gpios = board.load().gpios
    names = usable(gpios)
    lines = KernelLines(
        choose(gpios, [name for name in machine.INPUTS if name in names], output=False),
        choose(gpios, [name for name in machine.OUTPUTS if name in names], output=True),
    )
    serve(objects, tasks, timers, lines, names)


if __name__ == "__main__":
    run(start, *BUS_NAMES)
