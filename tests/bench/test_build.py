# SPDX-License-Identifier: Apache-2.0
"""How long a build takes: from nothing, from a full cache, with nothing to do, and after one change.

All happens in clean clones of the checkout's last commit, with a cache of their own. Downloads are taken from
the user's cache, so that the network has no part in it.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from figures import Report
from fleet_cli import engine

ROOT = Path(__file__).resolve().parents[2]
IMAGE = Path("build/deploy/fleet-x1/fleet-x1.flash.img")
TOUCHED = Path("recipes/inventory/files/fleet_inventory/tables.py")
NO_OPS = 3
STAGE = re.compile(r"\[\d+/\d+\] (.+)")  # as `./fleet up` announces them


class Clone:
    """A clean clone, and a user who works in it."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.path = path
        self.environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "PYTHON"))
            },
            "FLEET_CACHE": str(cache),
        }
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(path)], check=True)

    def run(self, *command: str) -> tuple[float, dict[str, float]]:
        """Run a command; how long it took, and when each stage that it announced began, in seconds."""
        started = time.monotonic()
        stages = {}
        said = []
        with subprocess.Popen(
            command,
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout
            for line in process.stdout:
                said.append(line)
                if stage := STAGE.match(line):
                    stages[stage[1]] = time.monotonic() - started
        seconds = time.monotonic() - started
        assert process.returncode == 0, f"{command}:\n{''.join(said)[-6000:]}"
        return seconds, stages

    def up(self, report: Report, name: str, minutes: float) -> None:
        """`./fleet up` to a booted board, and what each stage took."""
        try:
            seconds, stages = self.run("./fleet", "up", "--yes")
        finally:
            self.run("./fleet", "down")
        report.add(name, seconds / 60, "min", minutes)
        assert stages, "./fleet up announced no stage"
        ends = [*list(stages.values())[1:], seconds]
        for (stage, start), end in zip(stages.items(), ends, strict=True):
            report.add(f"  {stage}", end - start, "s")

    def image(self) -> str:
        """Digest of the flash image."""
        return hashlib.sha256((self.path / IMAGE).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has downloads and nothing else, and fills up."""
    cache = tmp_path_factory.mktemp("cache")
    shutil.copytree(engine.default_cache() / "downloads", cache / "downloads", copy_function=os.link)
    return cache


@pytest.fixture(scope="module")
def cold(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("cold") / "meta-fleet", cache)


@pytest.fixture(scope="module")
def warm(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("warm") / "meta-fleet", cache)


def test_cold(report: Report, cold: Clone) -> None:
    cold.up(report, "./fleet up with nothing but downloads", 22)


def test_warm(report: Report, warm: Clone) -> None:
    warm.up(report, "./fleet up in a clean clone, full cache", 3)


def test_nothing_to_do(report: Report, warm: Clone) -> None:
    kas = str(Path(sys.executable).parent / "kas")
    times = [warm.run(kas, "build", "kas.yml")[0] for _ in range(NO_OPS)]
    report.add_median("kas build with nothing to do", times, "s", 8)


def test_one_service_touched(report: Report, warm: Clone) -> None:
    before = warm.image()
    with (warm.path / TOUCHED).open("a") as module:
        module.write("# touched\n\nTOUCHED = True\n")
    seconds, _ = warm.run("./fleet", "build", "--yes")
    assert warm.image() != before
    report.add("one service touched, to a new image", seconds, "s", 60)
