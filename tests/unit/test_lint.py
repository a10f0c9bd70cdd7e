# SPDX-License-Identifier: Apache-2.0
"""The whole tree is clean under ruff and mypy --strict, and every source file names its licence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    "tools/fleet_cli",
    "qemu/fleet_qemu",
    "meta-fleet/bsp/lib/fleetboard",
    "meta-fleet/core/lib/fleetbuild",
    "recipes/accounts/files/fleet_accounts",
    "recipes/acpi-state/files/fleet_acpi_state",
    "recipes/bmc-common/files/fleet_bmc_common",
    "recipes/event-log/files/fleet_event_log",
    "recipes/host-power/files/fleet_host_power",
    "recipes/inventory/files/fleet_inventory",
    "recipes/ipmi/files/fleet_ipmi",
    "recipes/mapper/files/fleet_mapper",
    *("tests/lib", "tests/unit", "tests/build", "tests/board", "tests/nightly", "tests/bench"),
]
WITH_LICENCE = {
    *(".py", ".sh", ".bb", ".bbclass", ".conf", ".inc", ".toml", ".yml"),
    *(".service", ".mount", ".path", ".preset", ".network"),
}


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", *PACKAGES]],
    ids=["check", "format", "types"],
)
def test_clean(command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_source_file_names_its_licence() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    sources = [path for path in paths if path.suffix in WITH_LICENCE and path.is_file()]
    assert len(sources) > 100
    without = [path for path in sources if "SPDX-License-Identifier:" not in path.read_text()[:600]]
    assert without == []
