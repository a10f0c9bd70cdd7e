# SPDX-License-Identifier: Apache-2.0
"""Build the flash image with kas and BitBake.

The result is in build/deploy/MACHINE: flash image, kernel, device trees, manifests, checksums. What has been
built before, in any checkout, comes from the cache.
"""

import argparse
import sys
import time
from pathlib import Path

from fleet_cli import child, options, paths
from fleet_cli.commands import setup
from fleet_cli.errors import Failed, UserError
from fleet_cli.output import Output

KAS_FILE = "kas.yml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.yes(parser)
    options.machine(parser)
    parser.add_argument("kas_args", nargs="*", metavar="ARG", help="more arguments for 'kas build', after --")


def run(args: argparse.Namespace, out: Output) -> int:
    """Build and say what came out."""
    started = time.monotonic()
    setup.set_up_engine()
    image = build(args.machine, args.kas_args, out)
    seconds = time.monotonic() - started
    out.say(f"built {image} in {_duration(seconds)}")
    out.result({"image": str(image), "machine": args.machine, "seconds": round(seconds, 1)})
    return 0


def build(machine: str, kas_args: list[str], out: Output) -> Path:
    """Run kas; the flash image. BitBake's progress goes to the user as it comes."""
    if not (paths.ROOT / KAS_FILE).is_file():
        raise UserError(f"there is no {KAS_FILE} in {paths.ROOT}", "use a complete checkout")
    kas = Path(sys.executable).parent / "kas"
    # kas takes relative paths of its repositories from the folder it runs in
    code = child.run(
        [str(kas), "build", KAS_FILE, *kas_args],
        cwd=paths.ROOT,
        # kas hands TMPDIR on to BitBake, where the name means the folder of the whole build
        env={"KAS_MACHINE": machine, "KAS_WORK_DIR": str(paths.ROOT), "TMPDIR": None},
        stdout=out.stream,
    )
    if code != 0:
        raise Failed("the build failed", "the first ERROR above says where; its log file is named there")
    image = paths.flash_image(machine)
    if not image.is_file():
        raise Failed(f"the build ended well but {image} is not there")
    return image


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
