# SPDX-License-Identifier: Apache-2.0
"""`python3 -m fleetboard`, run as shell tasks run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fleetboard
from fleetboard import bootargs, dts, env, fit, services, tables

ROOT = Path(__file__).parents[2]
X1 = ROOT / "meta-fleet/bsp/boards/fleet-x1.toml"
BOARD = fleetboard.load(X1)
VERITY = ["--root-hash", "ab" * 32, "--salt", "cd" * 32, "--data-blocks", "7", "--hash-start-block", "8"]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # -S: the package must work on the standard library alone, as it does inside a build
    command = [sys.executable, "-S", "-m", "fleetboard", *map(str, arguments)]
    clean = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
    clean["PYTHONPATH"] = str(ROOT / "meta-fleet/bsp/lib")
    return subprocess.run(
        command, capture_output=True, text=True, env={**clean, **environment}, check=False, timeout=120
    )


def output(*arguments: str | Path, **environment: str) -> str:
    done = run(*arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def failure(*arguments: str | Path) -> str:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_help_names_every_command() -> None:
    text = output("--help")
    for command in ("check", "bootargs", "dts", "its", "env", "services", "assemble", "tables", "verify"):
        assert command in text
        assert output(command, "--help").startswith("usage: fleetboard " + command)


def test_check_counts() -> None:
    assert output("check", X1) == "fleet-x1: 9 partitions, 16 GPIO lines, 6 I2C buses, 19 sensors\n"


def test_services_file_is_what_the_module_gives(tmp_path: Path) -> None:
    assert output("services", X1) == services.render(BOARD)
    assert output("services", X1, "-o", tmp_path / "board.json") == ""
    assert (tmp_path / "board.json").read_text() == services.render(BOARD)


def test_check_lists_every_mistake(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(X1.read_text().replace("channel = 3", "channel = 8").replace('line = "A1"', 'line = "A0"'))
    text = failure("check", bad)
    assert text.startswith(f"error: {bad}: 2 problems\n")
    assert "kcs.channel" in text
    assert "gpio[1].line" in text


def test_bootargs() -> None:
    verity = bootargs.Verity("ab" * 32, "cd" * 32, 7, 8, options=("panic_on_corruption",))
    line = output(
        "bootargs", X1, "--slot", "b", *VERITY, "--verity-option", "panic_on_corruption", "--extra", "quiet"
    )
    assert line == bootargs.render(BOARD, "b", verity, ["quiet"]) + "\n"
    assert "root hash 'ab'" in failure("bootargs", X1, "--slot", "b", *VERITY, "--root-hash", "ab")


def test_dts(tmp_path: Path) -> None:
    expected = dts.render(BOARD, "a", 'x="y z"')
    assert output("dts", X1, "--slot", "a", "--bootargs", 'x="y z"') == expected
    assert output("dts", X1, "--slot", "a", "--bootargs", 'x="y z"', "-o", tmp_path / "a.dts") == ""
    assert (tmp_path / "a.dts").read_text() == expected
    assert "at most 1023" in failure("dts", X1, "--slot", "a", "--bootargs", "x" * 2000)


def test_its() -> None:
    dtbs = {"a": Path("a.dtb"), "b": Path("b.dtb")}
    arguments = ("its", X1, "--kernel", "zImage", "--dtb-a", "a.dtb", "--dtb-b", "b.dtb")
    assert output(*arguments) == fit.render(BOARD, Path("zImage"), dtbs)
    assert output(*arguments, "--compression", "lz4") == fit.render(BOARD, Path("zImage"), dtbs, "lz4")


def test_env() -> None:
    assert output("env", X1) == env.render_env_text(BOARD)
    assert output("env", "--config", X1) == env.render_uboot_config(BOARD)


def test_tables() -> None:
    assert output("tables", X1, "gpio") == tables.render(BOARD)["gpio"]
    everything = output("tables", X1)
    assert tuple(tables.render(BOARD)) == tables.NAMES
    for name, table in tables.render(BOARD).items():
        assert f"## {name}\n\n{table}" in everything


def test_an_image_is_assembled_and_verified(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"part")
    parts = [f"{name}={tmp_path}/part" for name in ("u-boot", "fit-a", "rofs-a")]
    image, manifest = tmp_path / "flash.img", tmp_path / "flash-manifest.json"
    made: tuple[str | Path, ...] = (
        "assemble",
        X1,
        *parts,
        "--version",
        "1.0",
        "-o",
        image,
        "--manifest",
        manifest,
    )
    assert output(*made, SOURCE_DATE_EPOCH="1700000000") == ""
    assert json.loads(manifest.read_text())["timestamp"] == 1700000000
    assert output("verify", X1, image, "--manifest", manifest) == "slot a: 1.0\nslot b: empty\n"
    mini = X1.with_name("fleet-mini.toml")
    assert "is too long: 134217728 bytes; fleet-mini has 67108864" in failure("verify", mini, image)
    image.write_bytes(image.read_bytes()[:-1])
    assert "is truncated" in failure("verify", X1, image)


def test_bad_arguments_of_assemble_are_named(tmp_path: Path) -> None:
    out = ("-o", tmp_path / "flash.img")
    assert "expected PARTITION=FILE" in run("assemble", X1, "fit-a", "--version", "1", *out).stderr
    assert "cannot be read" in failure("assemble", X1, "rwfs=/none", "--version", "1", *out)
    assert "version 'a b'" in failure("assemble", X1, f"rwfs={X1}", "--version", "a b", *out)
    nowhere = ("-o", tmp_path / "no" / "flash.img")
    assert "No such file or directory" in failure("assemble", X1, f"rwfs={X1}", "--version", "1", *nowhere)


@pytest.mark.parametrize("value", ["", "soon"])
def test_a_bad_source_date_epoch_is_named(tmp_path: Path, value: str) -> None:
    arguments = ("assemble", X1, f"rwfs={X1}", "--version", "1", "-o", tmp_path / "flash.img")
    done = run(*arguments, SOURCE_DATE_EPOCH=value)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "timestamp" in done.stderr
