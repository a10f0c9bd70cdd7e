# SPDX-License-Identifier: Apache-2.0
"""Measurements: each prints figures beside the most that they should be.

One fails only when it cannot measure. They want a machine that does nothing else. The figures also go to
build/test/bench.json.
"""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from figures import Report

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "build" / "test" / "bench.json"

_report = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_report] = Report()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    figures = config.stash[_report].figures
    if figures:
        terminalreporter.section("figures, and the most that they should be")
        for figure in figures:
            terminalreporter.write_line(str(figure))
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        record = {**_surroundings(), "figures": [asdict(figure) for figure in figures]}
        RESULT.write_text(json.dumps(record, indent=1) + "\n")


def _surroundings() -> dict[str, Any]:
    describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {"commit": commit, "processors": os.cpu_count(), "host": platform.platform()}


@pytest.fixture(scope="session")
def deploy() -> Path:
    """Folder with the built image; FLEET_DEPLOY names another one."""
    folder = Path(os.environ.get("FLEET_DEPLOY") or ROOT / "build" / "deploy" / "fleet-x1")
    if not (folder / "fleet-x1.flash.img").is_file():
        pytest.exit(f"there is no image in {folder}: build one with './fleet build', or set FLEET_DEPLOY", 1)
    return folder


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """Where a measurement puts its figures."""
    return pytestconfig.stash[_report]
