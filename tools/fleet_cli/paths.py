# SPDX-License-Identifier: Apache-2.0
"""Where things are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
MACHINE = "fleet-x1"


def boards() -> Path:
    """Folder of the boards' folders."""
    return Path(os.environ.get("FLEET_BOARDS") or BUILD / "boards")


def deploy(machine: str) -> Path:
    """Folder of what a build gives."""
    return BUILD / "deploy" / machine


def flash_image(machine: str) -> Path:
    """The flash image that a build gives."""
    return deploy(machine) / f"{machine}.flash.img"


def board_file(machine: str) -> Path:
    """The board data file of a machine."""
    return ROOT / "meta-fleet" / "bsp" / "boards" / f"{machine}.toml"


def board_file_of(image: Path, machine: str) -> Path:
    """The board file that was deployed with `image`; the repository's for an image from elsewhere."""
    beside = image.parent / "board.toml"
    return beside if beside.is_file() else board_file(machine)
