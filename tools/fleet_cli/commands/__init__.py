# SPDX-License-Identifier: Apache-2.0
"""The sub-commands, in the order in which `fleet --help` lists them.

Each module has a docstring (first line: summary), `add_arguments(parser)` and `run(args, out) -> exit code`.
"""

import argparse
from typing import Protocol

from fleet_cli.commands import (
    build,
    collect,
    console,
    down,
    events,
    flash,
    host,
    lock,
    power,
    run,
    setup,
    ssh,
    status,
    test,
    up,
)
from fleet_cli.output import Output


class Command(Protocol):
    """What a sub-command's module provides."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its options."""

    def run(self, args: argparse.Namespace, out: Output) -> int:
        """Do it; the exit code."""


COMMANDS: dict[str, Command] = {
    "up": up,
    "down": down,
    "setup": setup,
    "build": build,
    "flash": flash,
    "run": run,
    "console": console,
    "ssh": ssh,
    "power": power,
    "events": events,
    "host": host,
    "status": status,
    "collect": collect,
    "test": test,
    "lock": lock,
}
