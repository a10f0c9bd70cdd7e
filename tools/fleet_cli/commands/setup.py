# SPDX-License-Identifier: Apache-2.0
"""Install what the build and the emulated board need.

The bootstrap script has installed Debian packages (tools/packages.txt says which and why) and the Python
environment by now; this puts the build engine together and checks the emulator.
"""

import argparse
import sys
from pathlib import Path

import fleetboard
from fleet_cli import engine, options, paths
from fleet_cli.errors import UserError
from fleet_cli.output import Output
from fleet_qemu.checks import find_qemu


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.yes(parser)
    options.machine(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Set up and say where things are."""
    found = {
        "cache": str(engine.default_cache()),
        "engine": set_up_engine(),
        "kas": str(Path(sys.executable).parent / "kas"),
        "qemu": find_qemu(fleetboard.load(paths.board_file(args.machine))),
    }
    for name, where in found.items():
        out.say(f"{name:8} {where}")
    out.say("ready: './fleet up' builds the firmware and starts a board")
    out.result(found)
    return 0


def set_up_engine() -> str:
    """Put the build engine together unless it is there, and tell oe-init-build-env; its folder."""
    cache = engine.default_cache()
    try:
        where = engine.ensure_engine(cache)
        engine.write_environment(paths.BUILD, where, cache)
    except engine.EngineError as error:
        raise UserError(str(error)) from None
    return str(where)
