# SPDX-License-Identifier: Apache-2.0
"""The build area: builds the image once with the real kas and BitBake, and looks at what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MACHINE = "fleet-x1"


def fleet_build(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``fleet build`` as a user does and return what it said."""
    command = [sys.executable, "-m", "fleet_cli", "build", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def build_log() -> str:
    """The output of the one build of this run; it is kept beside the test results."""
    result = fleet_build("--yes")
    log = ROOT / "build" / "test" / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(result.stdout)
    assert result.returncode == 0, result.stdout[-6000:]
    return result.stdout


@pytest.fixture(scope="session")
def deploy(build_log: str) -> Path:
    """The deploy folder of the board."""
    assert build_log
    return ROOT / "build" / "deploy" / MACHINE


@pytest.fixture(scope="session")
def sysroot(deploy: Path) -> Path:
    """The native sysroot with the image tools; built when shared state made it unnecessary so far."""
    path = ROOT / "build" / "tmp" / "sysroots" / "native-imagetools"
    if not path.is_dir():
        kas = Path(sys.executable).parent / "kas"
        command = [str(kas), "shell", "kas.yml", "-c", "bitbake native-imagetools"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert deploy.is_dir()
    return path


@pytest.fixture(scope="session")
def listing(deploy: Path, sysroot: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Every entry of the root partition, as ``unsquashfs -lln`` shows it: mode, uid/gid, size, date…"""
    from fleetbuild import sandbox

    work = tmp_path_factory.mktemp("rofs")
    _copy(deploy, work)
    text = sandbox.run(sysroot, work, ["unsquashfs", "-lln", "rofs.img"])
    return [
        line.split(maxsplit=5)
        for line in text.splitlines()
        if line[:1] in "-dlbcps" and "squashfs-root" in line
    ]


@pytest.fixture(scope="session")
def rootfs(deploy: Path, sysroot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root partition, unpacked (owners are the listing's business)."""
    from fleetbuild import sandbox

    work = tmp_path_factory.mktemp("rootfs")
    _copy(deploy, work)
    sandbox.run(sysroot, work, ["unsquashfs", "-q", "-n", "-no-xattrs", "rofs.img"])
    return work / "squashfs-root"


@pytest.fixture(scope="session")
def manifest(deploy: Path) -> dict[str, object]:
    """flash-manifest.json."""
    data: dict[str, object] = json.loads((deploy / "flash-manifest.json").read_text())
    return data


def _copy(deploy: Path, work: Path) -> None:
    (work / "rofs.img").write_bytes((deploy / "rofs.img").read_bytes())
