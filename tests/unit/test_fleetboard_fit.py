# SPDX-License-Identifier: Apache-2.0
"""The FIT: made by the real mkimage and read back."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

import fleetboard
from fleetboard import fit

BOARD = fleetboard.load(Path(__file__).parents[2] / "meta-fleet/bsp/boards/fleet-x1.toml")
KERNEL = bytes(range(256)) * 64

needs_mkimage = pytest.mark.skipif(
    shutil.which("mkimage") is None or shutil.which("dtc") is None,
    reason="needs mkimage and dtc (u-boot-tools, device-tree-compiler)",
)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    kernel = tmp_path / "zImage"
    kernel.write_bytes(KERNEL)
    dtbs = {}
    for slot in "ab":
        source = f'/dts-v1/; / {{ chosen {{ bootargs = "slot {slot}"; }}; }};'
        dtbs[slot] = tmp_path / f"{slot}.dtb"
        subprocess.run(["dtc", "-q", "-O", "dtb", "-o", str(dtbs[slot])], input=source, text=True, check=True)
    return kernel, dtbs


def get(image: Path, node: str, name: str, kind: str = "s") -> str:
    command = ["fdtget", "-t", kind, str(image), node, name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@needs_mkimage
def test_each_slot_has_its_configuration(parts: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    kernel, dtbs = parts
    its, image = tmp_path / "fit.its", tmp_path / "fitImage"
    its.write_text(fit.render(BOARD, kernel, dtbs), encoding="utf-8")
    done = subprocess.run(["mkimage", "-f", str(its), str(image)], capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr

    assert get(image, "/configurations", "default") == "conf-a"
    for slot in "ab":
        configuration = f"/configurations/conf-{slot}"
        assert get(image, configuration, "kernel") == "kernel"
        assert get(image, configuration, "fdt") == f"fdt-{slot}"
        assert get(image, f"/images/fdt-{slot}", "load", "x") == f"{BOARD.boot.fdt_load:x}"
    for name, path in {"kernel": kernel, "fdt-a": dtbs["a"], "fdt-b": dtbs["b"]}.items():
        words = get(image, f"/images/{name}/hash-1", "value", "bx").split()
        assert "".join(word.zfill(2) for word in words) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert get(image, "/images/kernel", "load", "x") == f"{BOARD.boot.kernel_load:x}"
    assert get(image, "/images/kernel", "compression") == "none"


@needs_mkimage
@pytest.mark.skipif(shutil.which("dumpimage") is None, reason="needs dumpimage (u-boot-tools)")
def test_the_device_trees_are_not_mixed_up(parts: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    kernel, dtbs = parts
    its, image = tmp_path / "fit.its", tmp_path / "fitImage"
    its.write_text(fit.render(BOARD, kernel, dtbs), encoding="utf-8")
    subprocess.run(["mkimage", "-f", str(its), str(image)], capture_output=True, check=True)
    for position, slot in ((1, "a"), (2, "b")):
        out = tmp_path / "extracted.dtb"
        command = ["dumpimage", "-T", "flat_dt", "-p", str(position), "-o", str(out), str(image)]
        subprocess.run(command, capture_output=True, check=True)
        assert get(out, "/chosen", "bootargs") == f"slot {slot}"


@pytest.mark.parametrize("compression", fit.COMPRESSIONS)
def test_compression_is_that_of_the_kernel_only(compression: str) -> None:
    text = fit.render(BOARD, Path("k"), {"a": Path("a"), "b": Path("b")}, compression)
    kernel, trees = text.split("fdt-a {")
    assert f'compression = "{compression}"' in kernel
    assert trees.count('compression = "none"') == 2


@pytest.mark.parametrize(
    ("kernel", "dtbs", "compression", "words"),
    [
        ("k", {"a": "a", "b": "b"}, "rar", "compression 'rar'; expected one of none"),
        ("k", {"a": "a"}, "none", "device trees for a; expected a, b"),
        ("k", {}, "none", "no slot"),
        ('k"; evil', {"a": "a", "b": "b"}, "none", "quote"),
        ("k", {"a": "a\n", "b": "b"}, "none", "control character"),
    ],
)
def test_bad_arguments_are_named(kernel: str, dtbs: dict[str, str], compression: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit.render(BOARD, Path(kernel), {slot: Path(path) for slot, path in dtbs.items()}, compression)
