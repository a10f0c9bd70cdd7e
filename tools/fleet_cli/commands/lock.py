# SPDX-License-Identifier: Apache-2.0
"""Fix the versions and hashes of all Debian packages that go into the image.

Arguments after -- go to fleetbuild.lock; './fleet lock -- --help' lists them.
"""

import argparse
import sys

from fleet_cli import child, options, paths
from fleet_cli.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.yes(parser)
    parser.add_argument("words", nargs="*", metavar="ARG", help="arguments of fleetbuild.lock, after --")


def run(args: argparse.Namespace, out: Output) -> int:
    """Hand over to the build library."""
    return child.run(
        [sys.executable, "-m", "fleetbuild.lock", *args.words], cwd=paths.ROOT, stdout=out.stream
    )
