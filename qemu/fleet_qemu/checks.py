# SPDX-License-Identifier: Apache-2.0
"""What must be there before a board can start; each missing thing is one clear error."""

import os
import shutil
import subprocess
from pathlib import Path

from fleet_qemu.errors import QemuError
from fleet_qemu.machine import parse_version
from fleetboard import Board
from fleetboard.flash import FlashError, verify

DEFAULT_QEMU = "qemu-system-arm"
_INSTALL = "run './fleet setup', or install Debian's package qemu-system-arm"

_BUILD_AGAIN = "build it again with './fleet build', or copy it again"


def find_qemu(board: Board, program: str | None = None) -> str:
    """Path of a QEMU that can be this board. `program` or FLEET_QEMU names another than the installed one."""
    name = program or os.environ.get("FLEET_QEMU") or DEFAULT_QEMU
    path = shutil.which(name)
    if path is None:
        raise QemuError(f"{name} is not installed", _INSTALL)
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QemuError(f"{path} cannot be run ({error})", _INSTALL) from None
    version = parse_version(answer.stdout)
    wanted = ".".join(map(str, board.emulator.min_version))
    if version is None:
        raise QemuError(
            f"{path} does not say which version of QEMU it is", f"QEMU {wanted} or newer is needed"
        )
    if version < board.emulator.min_version:
        found = ".".join(map(str, version))
        raise QemuError(f"{path} is QEMU {found}, the board {board.name} needs {wanted} or newer", _INSTALL)
    return path


def check_image(board: Board, image: Path, *, contents: bool = True) -> None:
    """Refuse a file that cannot be the flash: missing, of another size, or with damaged `contents`."""
    if not image.is_file():
        raise QemuError(f"there is no flash image {image}", "build one with './fleet build'")
    size = image.stat().st_size
    if size != board.flash.size:
        what = "truncated" if size < board.flash.size else "too long"
        raise QemuError(
            f"{image} is {what}: {size} bytes, the flash of {board.name} has {board.flash.size}", _BUILD_AGAIN
        )
    if contents:
        try:
            verify(board, image)
        except FlashError as error:
            raise QemuError(f"{image} is damaged: {'; '.join(error.problems)}", _BUILD_AGAIN) from None


def check_pty() -> None:
    """Refuse when the system gives no pseudo-terminals, on which the consoles are."""
    try:
        for descriptor in os.openpty():
            os.close(descriptor)
    except OSError as error:
        raise QemuError(
            f"no pseudo-terminal can be opened ({error.strerror})",
            "mount devpts on /dev/pts and have /dev/ptmx; in a container start it with a /dev of its own",
        ) from None
