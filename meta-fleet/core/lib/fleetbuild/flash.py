# SPDX-License-Identifier: Apache-2.0
"""From root partition, kernel and boot loader to a flash image; map and texts come from the board file."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import fleetboard
from fleetboard import bootargs, dts, fit
from fleetboard import flash as map_
from fleetbuild import sandbox

SLOTS = ("a", "b")


def make(
    board: fleetboard.Board,
    board_file: Path,
    sysroot: Path,
    work: Path,
    kernel: Path,
    uboot: Path,
    out: Path,
    version: str,
    epoch: int,
) -> None:
    """Write device trees, FIT, flash image and flash-manifest.json to ``out``.

    ``kernel`` and ``uboot`` are the sysroot folders of those recipes, ``work`` holds rofs.img and
    verity.json, ``epoch`` (s) is the time in the FIT and in the manifest.
    """
    verity = bootargs.Verity(**json.loads((work / "verity.json").read_text()))
    fit_work = work / "fit"
    shutil.rmtree(fit_work, ignore_errors=True)
    fit_work.mkdir()
    shutil.copy(kernel / "zImage", fit_work / "zImage")
    inputs = {str(kernel / "dts"): "/kernel"}
    environment = {"SOURCE_DATE_EPOCH": str(epoch)}
    for slot in SLOTS:
        source = fit_work / f"{board.name}-{slot}.dts"
        source.write_text(dts.render(board, slot, bootargs.render(board, slot, verity)))
        script = (
            "cpp -nostdinc -undef -D__DTS__ -x assembler-with-cpp -P -I /kernel -I /kernel/include "
            f"{source.name} {source.stem}.pre && dtc -q -I dts -O dtb -o {source.stem}.dtb {source.stem}.pre"
        )
        sandbox.run(sysroot, fit_work, ["sh", "-ec", script], read_only=inputs, environment=environment)
    trees = {slot: Path(f"{board.name}-{slot}.dtb") for slot in SLOTS}
    (fit_work / "fit.its").write_text(fit.render(board, Path("zImage"), trees))
    sandbox.run(sysroot, fit_work, ["mkimage", "-f", "fit.its", "fitImage"], environment=environment)
    for path in (
        fit_work / "fitImage",
        work / "rofs.img",
        uboot / "u-boot-with-spl.bin",
        *(fit_work / t for t in trees.values()),
    ):
        shutil.copy(path, out / path.name)
    shutil.copy(board_file, out / "board.toml")
    images = {
        "u-boot": out / "u-boot-with-spl.bin",
        "fit-a": out / "fitImage",
        "rofs-a": out / "rofs.img",
    }
    release = map_.Release(version, epoch)
    map_.assemble(board, images, out / f"{board.name}.flash.img", release, out / "flash-manifest.json")


def checksums(out: Path) -> None:
    """Write SHA256SUMS over everything in ``out``, in the format of sha256sum(1)."""
    lines = []
    for path in sorted(out.iterdir()):
        if path.name != "SHA256SUMS" and path.is_file():
            with path.open("rb") as stream:
                lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path.name}\n")
    (out / "SHA256SUMS").write_text("".join(lines))
