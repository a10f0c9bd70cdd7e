# SPDX-License-Identifier: Apache-2.0
"""`fleet test` as a process, in a checkout of its own with areas of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("tools/fleet_cli", "qemu/fleet_qemu", "meta-fleet/bsp/lib/fleetboard", "meta-fleet/bsp/boards")
SECONDS = 60.0

Area = tuple[str, float, list[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what `fleet test` is made of."""
    root = tmp_path / "checkout"
    for part in PARTS:
        shutil.copytree(REPOSITORY / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def write_areas(checkout: Path, *areas: Area) -> None:
    (checkout / "tests").mkdir(exist_ok=True)
    (checkout / "tests" / "areas.toml").write_text(
        "\n".join(
            f'[[area]]\nname = "{name}"\nminutes = {minutes}\nneeds = "."\ncommand = {json.dumps(command)}\n'
            for name, minutes, command in areas
        )
    )


def environment(checkout: Path) -> dict[str, str]:
    path = [checkout / "tools", checkout / "qemu", checkout / "meta-fleet/bsp/lib"]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}


def fleet_test(checkout: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "fleet_cli", "test", *args]
    return subprocess.run(
        argv, cwd=checkout, env=environment(checkout), capture_output=True, text=True, check=False
    )


def pytest_area(checkout: Path, name: str, text: str, minutes: float = 5) -> Area:
    file = checkout / "tests" / f"test_{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return (
        name,
        minutes,
        ["{python}", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junit-xml={junit}", str(file)],
    )


def test_sums_over_areas_are_the_last_line(checkout: Path) -> None:
    mixed = pytest_area(
        checkout,
        "mixed",
        "import pytest\n"
        "def test_a(): pass\n"
        "def test_b(): assert 0\n"
        "@pytest.mark.skip(reason='x')\ndef test_c(): pass\n"
        "@pytest.fixture\ndef broken(): raise OSError\n"
        "def test_d(broken): pass\n",
    )
    write_areas(
        checkout, mixed, ("whole", 1, ["true"]), pytest_area(checkout, "good", "def test_a(): pass\n")
    )
    done = fleet_test(checkout)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "3 passed, 2 failed, 1 skipped"
    assert re.search(r"^whole +\d+\.\d of 1 min  1 passed, 0 failed, 0 skipped$", done.stdout, re.MULTILINE)


def test_all_good(checkout: Path) -> None:
    write_areas(checkout, ("one", 1, ["true"]), ("two", 1, ["true"]))
    done = fleet_test(checkout)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 passed, 0 failed, 0 skipped")


def test_one_area(checkout: Path) -> None:
    write_areas(checkout, ("one", 1, ["true"]), ("two", 1, ["false"]))
    assert fleet_test(checkout, "--area", "one").returncode == 0
    assert fleet_test(checkout, "--area", "two").returncode == 1
    absent = fleet_test(checkout, "--area", "three")
    assert absent.returncode == 2
    assert absent.stderr == "fleet: there is no area three\n       there are: one, two\n"


def test_no_area_is_no_success(checkout: Path) -> None:
    write_areas(checkout)
    assert fleet_test(checkout).returncode == 1


def test_budget_overrun_is_loud_and_fails_when_enforced(checkout: Path) -> None:
    write_areas(checkout, ("slow", 0, ["true"]))
    done = fleet_test(checkout)
    assert done.returncode == 0
    assert "OVER BUDGET" in done.stdout
    assert "WARNING: slow took" in done.stdout
    assert fleet_test(checkout, "--enforce-budget").returncode == 1


def test_json(checkout: Path) -> None:
    write_areas(checkout, ("one", 1, ["echo", "noise"]), ("two", 1, ["false"]))
    done = fleet_test(checkout, "--json")
    result = json.loads(done.stdout)
    assert (result["passed"], result["failed"], result["ok"]) == (1, 1, False)
    assert [area["name"] for area in result["areas"]] == ["one", "two"]
    assert "noise" in done.stderr


def test_nightly_is_in_the_environment(checkout: Path) -> None:
    write_areas(checkout, ("one", 1, ["sh", "-c", 'test "$FLEET_NIGHTLY $FLEET_AREA" = "1 one"']))
    assert fleet_test(checkout, "--nightly").returncode == 0
    assert fleet_test(checkout).returncode == 1


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {SECONDS} s"
        time.sleep(0.05)


def test_a_process_left_running_is_ended_and_fails_its_area(checkout: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    # detached as thoroughly as can be, and deaf to SIGTERM
    script = f"setsid sh -c 'trap \"\" TERM; echo $$ >{pid_file}; exec sleep 600' >/dev/null 2>&1 &"
    wait = f"until [ -s {pid_file} ]; do sleep 0.05; done"
    write_areas(checkout, ("leaky", 5, ["sh", "-c", f"{script} {wait}"]))
    done = fleet_test(checkout)
    assert not runs(int(pid_file.read_text()))
    assert done.returncode == 1
    assert re.search(r"ERROR: leaky left a process running \(ended now\): \d+ sleep 600", done.stdout)
    assert done.stdout.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


def test_an_orphan_that_ended_is_no_zombie_while_its_area_runs(checkout: Path, tmp_path: Path) -> None:
    """Tests tell by its process id whether something of theirs has ended."""
    pid_file = tmp_path / "pid"
    orphan = f"(setsid sh -c 'echo $$ >{pid_file}' &); until [ -s {pid_file} ]; do sleep 0.05; done"
    gone = f"for i in $(seq 200); do kill -0 $(cat {pid_file}) 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    write_areas(checkout, ("orphan", 5, ["sh", "-c", f"{orphan}; {gone}"]))
    done = fleet_test(checkout)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 passed, 0 failed, 0 skipped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_leaves_nothing(checkout: Path, tmp_path: Path, number: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    write_areas(checkout, ("long", 5, ["sh", "-c", f"echo $$ >{pid_file}; exec sleep 600"]))
    argv = [sys.executable, "-m", "fleet_cli", "test"]
    process = subprocess.Popen(argv, cwd=checkout, env=environment(checkout), start_new_session=True)
    until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the area starts")
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as the terminal does
    else:
        process.send_signal(number)
    assert process.wait(SECONDS) == 128 + number
    assert not runs(int(pid_file.read_text()))


def test_killed_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    write_areas(checkout, ("long", 5, ["sh", "-c", f"echo $$ >{pid_file}; exec sleep 600"]))
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet_cli", "test"], cwd=checkout, env=environment(checkout)
    )
    until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the area starts")
    process.kill()
    process.wait(SECONDS)
    until(lambda: not runs(int(pid_file.read_text())), "the area ends")
