# SPDX-License-Identifier: Apache-2.0
"""The device tree: compiled by the real dtc against a stand-in for the kernel's include, and read back.

FLEET_KERNEL_SOURCE=<unpacked kernel source> compiles against the kernel's own include as well.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import fleetboard
from fleetboard import bootargs, dts
from fleetboard.model import SLOT_NAMES, Board
from fleetboard.soc import SOCS

BOARDS = Path(__file__).parents[2] / "meta-fleet/bsp/boards"
PATHS = sorted(BOARDS.glob("*.toml"))
BOOTARGS = 'console=ttyS4 dm-mod.create="rofs,,0,ro,0 8 verity 1" back\\slash'
KERNEL = os.environ.get("FLEET_KERNEL_SOURCE", "")

needs_dtc = pytest.mark.skipif(shutil.which("dtc") is None, reason="needs dtc (device-tree-compiler)")


def stub(board: Board) -> str:
    """Return an include that declares the labels that aspeed-g6.dtsi declares, and nothing more."""
    soc = SOCS[board.soc]
    plain = [*soc.uarts, *soc.macs, *soc.watchdogs, "rtc", "gpio0", *(f"kcs{n}" for n in soc.kcs_channels)]
    lines = ['/ { #address-cells = <1>; #size-cells = <1>; compatible = "stub"; model = "stub";']
    lines += [f"{label}: {label} {{ }};" for label in plain]
    lines += [f"{label}: {label} {{ #address-cells = <1>; #size-cells = <0>; }};" for label in soc.mdios]
    lines += [f"i2c{n}: i2c{n} {{ #address-cells = <1>; #size-cells = <0>; }};" for n in range(soc.i2c_buses)]
    lines += ["fmc: fmc { #address-cells = <1>; #size-cells = <0>; flash@0 { reg = <0>; }; };"]
    lines += [f"{board.network.pinctrl}: pins {{ }}; }};"]
    return "\n".join(lines)


def compile_dts(source: str, include: str, folder: Path) -> tuple[Path, str]:
    """Return the compiled tree and dtc's warnings."""
    (folder / "stub.dtsi").write_text(include, encoding="utf-8")
    (folder / "board.dts").write_text(
        source.replace('#include "aspeed-g6.dtsi"', '/include/ "stub.dtsi"'), encoding="utf-8"
    )
    dtb = folder / "board.dtb"
    command = ["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", str(dtb), str(folder / "board.dts")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return dtb, done.stderr


def get(dtb: Path, node: str, name: str, kind: str = "s") -> str:
    command = ["fdtget", "-t", kind, str(dtb), node, name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip("\n")


def children(dtb: Path, node: str) -> list[str]:
    command = ["fdtget", "-l", str(dtb), node]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def board(request: pytest.FixtureRequest) -> Board:
    return fleetboard.load(request.param)


@pytest.fixture
def tree(board: Board, tmp_path: Path) -> Path:
    dtb, warnings = compile_dts(dts.render(board, "a", BOOTARGS), stub(board), tmp_path)
    assert warnings == ""
    return dtb


@needs_dtc
def test_identity_memory_and_command_line(board: Board, tree: Path) -> None:
    assert get(tree, "/", "model") == board.identity.model
    assert get(tree, "/", "compatible").split() == [board.identity.compatible, "aspeed,ast2600"]
    assert get(tree, "/memory@80000000", "reg", "x").split() == ["80000000", f"{board.memory:x}"]
    assert get(tree, "/chosen", "bootargs") == BOOTARGS


@needs_dtc
def test_partitions_and_their_numbers(board: Board, tree: Path) -> None:
    for partition in board.flash.partitions:
        node = f"/fmc/flash@0/partitions/partition@{partition.offset:x}"
        assert get(tree, node, "label") == partition.name
        assert get(tree, node, "reg", "x").split() == [f"{partition.offset:x}", f"{partition.size:x}"]
        assert get(tree, "/aliases", f"mtd{partition.index}") == node
    assert get(tree, "/aliases", f"mtd{len(board.flash.partitions)}") == "/fmc/flash@0"


@needs_dtc
def test_consoles_keep_the_tty_numbers_of_the_command_line(board: Board, tree: Path) -> None:
    for console in (board.console_bmc, board.console_host):
        assert get(tree, "/aliases", f"serial{console.tty.removeprefix('ttyS')}") == f"/{console.uart}"
        assert get(tree, f"/{console.uart}", "status") == "okay"


@needs_dtc
def test_gpio_lines_have_their_names_at_their_numbers(board: Board, tree: Path) -> None:
    raw = subprocess.run(
        ["fdtget", "-t", "bx", str(tree), "/gpio0", "gpio-line-names"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = bytes(int(byte, 16) for byte in raw.split()).decode().split("\0")[:-1]
    assert {offset: name for offset, name in enumerate(names) if name} == {
        g.offset: g.name for g in board.gpios
    }


@needs_dtc
def test_only_the_bmcs_standby_devices_are_in_the_tree(board: Board, tree: Path) -> None:
    for bus in board.i2c:
        assert get(tree, f"/i2c{bus.number}", "status") == "okay"
        expected = [
            f"{d.name}@{d.address:x}" for d in bus.devices if bus.owner == "bmc" and d.domain == "standby"
        ]
        assert sorted(children(tree, f"/i2c{bus.number}")) == sorted(expected)
    for name in ("dimm", "vr"):
        buses = [bus for bus in board.i2c if bus.role == name]
        assert all(children(tree, f"/i2c{bus.number}") == [] for bus in buses)


@needs_dtc
def test_host_interface_and_watchdogs(board: Board, tree: Path) -> None:
    kcs = f"/kcs{board.kcs.channel}"
    assert get(tree, kcs, "status") == "okay"
    assert get(tree, kcs, "aspeed,lpc-io-reg", "x") == f"{board.kcs.io_address:x}"
    used = {watchdog.controller for watchdog in board.watchdogs}
    for controller in SOCS[board.soc].watchdogs:
        assert get(tree, f"/{controller}", "status") == ("okay" if controller in used else "disabled")


def test_slots_differ_in_the_command_line_only(board: Board) -> None:
    verity = bootargs.Verity("ab" * 32, "-", 1, 1)
    a, b = (dts.render(board, slot, bootargs.render(board, slot, verity)).splitlines() for slot in SLOT_NAMES)
    different = [line for line, other in zip(a, b, strict=True) if line != other]
    assert [line.split()[0] for line in different] == ["//", "bootargs"]


def test_rendering_is_repeatable(board: Board) -> None:
    assert dts.render(board, "a", BOOTARGS) == dts.render(board, "a", BOOTARGS)


@needs_dtc
def test_a_board_without_gpio_and_i2c_compiles(board: Board, tmp_path: Path) -> None:
    bare = dataclasses.replace(board, gpios=(), i2c=())
    _, warnings = compile_dts(dts.render(bare, "b", ""), stub(bare), tmp_path)
    assert warnings == ""


def test_a_command_line_that_the_kernel_would_cut_is_refused(board: Board) -> None:
    dts.render(board, "a", "x" * dts.MAX_BOOTARGS)
    with pytest.raises(ValueError, match="1024 bytes; at most 1023"):
        dts.render(board, "a", "x" * 1024)
    with pytest.raises(ValueError, match="printable ASCII"):
        dts.render(board, "a", "console=\n")
    with pytest.raises(ValueError, match="no slot 'c'; there are a, b"):
        dts.render(board, "c", "")


@needs_dtc
@pytest.mark.skipif(not KERNEL, reason="needs FLEET_KERNEL_SOURCE, an unpacked kernel source")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to preprocess")
def test_compiles_against_the_kernels_own_include(board: Board, tmp_path: Path) -> None:
    source, preprocessed = tmp_path / "board.dts", tmp_path / "board.dts.tmp"
    source.write_text(dts.render(board, "a", BOOTARGS), encoding="utf-8")
    includes = [f"-I{KERNEL}/include", f"-I{KERNEL}/arch/arm/boot/dts/aspeed"]
    cpp = ["gcc", "-E", "-nostdinc", "-undef", "-D__DTS__", "-x", "assembler-with-cpp", *includes]
    subprocess.run([*cpp, "-o", str(preprocessed), str(source)], check=True)
    dtb = tmp_path / "board.dtb"
    done = subprocess.run(
        ["dtc", "-I", "dts", "-O", "dtb", "-o", str(dtb), str(preprocessed)],
        capture_output=True,
        text=True,
        check=True,
    )
    blamed = [
        line for line in done.stderr.splitlines() if str(source) in line and "also defined at" not in line
    ]
    assert blamed == [], "dtc warns of what this board adds, not only of what the kernel has"
    assert get(dtb, "/chosen", "bootargs") == BOOTARGS
    flash = "/ahb/spi@1e620000/flash@0"
    assert get(dtb, "/aliases", "mtd0") == f"{flash}/partitions/partition@0"
