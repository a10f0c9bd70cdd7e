# SPDX-License-Identifier: Apache-2.0
"""The flash image, made by this machine's cpp, dtc and mkimage from stand-ins of kernel and boot loader."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import fleetboard
from fleetboard import bootargs, dts
from fleetboard import flash as map_
from fleetbuild import BuildError, flash, sandbox

BOARD_FILE = Path(__file__).parents[2] / "meta-fleet/bsp/boards/fleet-x1.toml"
BOARD = fleetboard.load(BOARD_FILE)
EPOCH = 1700000000
VERITY = {"root_hash": "ab" * 32, "salt": "cd" * 32, "data_blocks": 16, "hash_start_block": 16}
_tools = ("bwrap", "cpp", "dtc", "fdtget", "mkimage", "dumpimage")
needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, _tools)) or not sandbox.isolation_works(),
    reason="needs bubblewrap, user namespaces, cpp, device-tree-compiler and u-boot-tools",
)


class Inputs:
    """What other recipes hand over, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.work, self.kernel, self.uboot, self.out = (
            folder / n for n in ("work", "kernel", "uboot", "out")
        )
        for path in (self.work, self.kernel / "dts/include", self.uboot, self.out):
            path.mkdir(parents=True)
        (self.work / "rofs.img").write_bytes(b"squashfs" * 8192)
        (self.work / "verity.json").write_text(json.dumps(VERITY))
        (self.kernel / "zImage").write_bytes(b"kernel" * 1000)
        (self.uboot / "u-boot-with-spl.bin").write_bytes(b"boot loader")
        text = dts.render(BOARD, "a", bootargs.render(BOARD, "a", bootargs.Verity(**VERITY)))  # type: ignore[arg-type]
        # Stand-ins for all nodes that the board's tree refers to and does not define.
        labels = sorted(set(re.findall(r"&(\w+)", text)) - set(re.findall(r"(\w+):\s", text)))
        nodes = "".join(f"\t{label}: {label.replace('_', '-')} {{ }};\n" for label in labels)
        (self.kernel / "dts/aspeed-g6.dtsi").write_text(f"/ {{\n{nodes}}};\n")

    def make(self) -> None:
        flash.make(
            BOARD, BOARD_FILE, Path("/"), self.work, self.kernel, self.uboot, self.out, "1.2+g0", EPOCH
        )


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(tmp_path)


@needs_tools
def test_all_that_a_user_needs_is_written(inputs: Inputs) -> None:
    inputs.make()
    assert {path.name for path in inputs.out.iterdir()} == {
        *("fleet-x1.flash.img", "flash-manifest.json", "u-boot-with-spl.bin", "fitImage", "rofs.img"),
        *("fleet-x1-a.dtb", "fleet-x1-b.dtb", "board.toml"),
    }
    assert (inputs.out / "board.toml").read_bytes() == BOARD_FILE.read_bytes()
    assert (inputs.out / "rofs.img").read_bytes() == (inputs.work / "rofs.img").read_bytes()


@needs_tools
def test_the_image_holds_slot_a_and_its_manifest(inputs: Inputs) -> None:
    inputs.make()
    found = map_.verify(BOARD, inputs.out / "fleet-x1.flash.img", inputs.out / "flash-manifest.json")
    assert found["a"] is not None
    assert found["b"] is None
    assert found["a"].release == map_.Release("1.2+g0", EPOCH)
    data = (inputs.out / "fleet-x1.flash.img").read_bytes()
    fit = (inputs.out / "fitImage").read_bytes()
    assert data[0x100000 : 0x100000 + len(fit)] == fit
    assert data[0xA00000 : 0xA00000 + 8] == b"squashfs"


@needs_tools
@pytest.mark.parametrize("slot", ["a", "b"])
def test_each_slot_has_a_tree_that_roots_in_its_own_partition(slot: str, inputs: Inputs) -> None:
    inputs.make()
    words = ["fdtget", str(inputs.out / f"fleet-x1-{slot}.dtb"), "/chosen", "bootargs"]
    line = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    assert line == bootargs.render(BOARD, slot, bootargs.Verity(**VERITY))  # type: ignore[arg-type]
    assert f"fleet.slot={slot}" in line
    assert "ab" * 32 in line


@needs_tools
def test_the_fit_holds_kernel_and_both_trees(inputs: Inputs, tmp_path: Path) -> None:
    inputs.make()
    fit = str(inputs.out / "fitImage")
    listing = subprocess.run(["dumpimage", "-l", fit], check=True, capture_output=True, text=True).stdout
    words = ["fdtget", "-t", "u", fit, "/", "timestamp"]
    assert int(subprocess.run(words, check=True, capture_output=True, text=True).stdout) == EPOCH
    assert re.findall(r"^ Configuration \d+ \((.*)\)", listing, re.M) == ["conf-a", "conf-b"]
    parts = {
        "0": inputs.kernel / "zImage",
        "1": inputs.out / "fleet-x1-a.dtb",
        "2": inputs.out / "fleet-x1-b.dtb",
    }
    for position, original in parts.items():
        part = tmp_path / "part"
        words = ["dumpimage", "-T", "flat_dt", "-p", position, "-o", str(part), fit]
        subprocess.run(words, check=True, capture_output=True)
        assert part.read_bytes() == original.read_bytes()


@needs_tools
def test_the_same_inputs_give_the_same_bytes_in_another_folder(tmp_path: Path) -> None:
    one, two = Inputs(tmp_path / "one"), Inputs(tmp_path / "other")
    for inputs in (one, two):
        inputs.make()
        flash.checksums(inputs.out)
    assert (one.out / "SHA256SUMS").read_text() == (two.out / "SHA256SUMS").read_text()


@needs_tools
def test_what_an_earlier_build_left_does_not_get_in(inputs: Inputs) -> None:
    (inputs.work / "fit").mkdir()
    (inputs.work / "fit/fleet-x1-a.dtb").write_text("stale")
    inputs.make()
    assert (inputs.out / "fleet-x1-a.dtb").read_bytes()[:4] == b"\xd0\x0d\xfe\xed"


@needs_tools
def test_a_tree_that_does_not_compile_is_told_in_dtcs_words(inputs: Inputs) -> None:
    (inputs.kernel / "dts/aspeed-g6.dtsi").write_text("/ { };\n")
    with pytest.raises(BuildError, match=r"dtc(.|\n)*Label or path uart5 not found"):
        inputs.make()
    assert list(inputs.out.iterdir()) == []


def test_checksums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    flash.checksums(tmp_path)
    flash.checksums(tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == (
        f"{hashlib.sha256(b'1').hexdigest()}  a\n{hashlib.sha256(b'2').hexdigest()}  b\n"
    )
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True
    )
