# SPDX-License-Identifier: Apache-2.0
"""Two cold builds that share nothing but the downloads give the same flash image, byte for byte."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet_cli import engine

ROOT = Path(__file__).resolve().parents[2]
MACHINE = "fleet-x1"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@dataclass(frozen=True)
class Surroundings:
    """What differs between the two builds."""

    folder: str
    umask: str
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


BUILDS = (
    Surroundings("one", "022", None, {"TZ": "UTC", "LANG": "C.UTF-8", "BB_NUMBER_THREADS": "2"}),
    Surroundings(
        "a/rather/longer-folder",
        "077",
        "nobody",
        {
            "TZ": "Pacific/Auckland",
            "LANG": "tr_TR.UTF-8",
            "BB_NUMBER_THREADS": "1",
            "PARALLEL_MAKE": "-j 3",
            "FLEET_SANDBOX_CLOCK": "+1d",
        },
    ),
)


def _build(where: Path, how: Surroundings) -> Path:
    """Build a clean clone under the given surroundings; the deploy folder."""
    clone, cache = where / how.folder, where / f"cache-{how.umask}"
    clone.parent.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    downloads = engine.default_cache() / "downloads"
    shutil.copytree(downloads, cache / "downloads")  # not linked: the copy changes its owner
    command = ["sh", "-c", f"umask {how.umask} && exec ./fleet build --yes"]
    if how.user:
        for folder in (where, where / "home"):
            folder.mkdir(exist_ok=True)
            shutil.chown(folder, how.user)
        subprocess.run(["chown", "-R", how.user, str(clone), str(cache)], check=True)
        command = ["runuser", "-u", how.user, "--", *command]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "PYTHON"))},
        **how.environment,
        "FLEET_CACHE": str(cache),
        "HOME": str(where / "home"),
    }
    result = subprocess.run(
        command,
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:]
    return clone / "build" / "deploy" / MACHINE


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="fleet-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="one of the builds runs as another user")
def test_two_cold_builds_give_the_same_bytes(open_folder: Path) -> None:
    assert FAKETIME.is_file(), "install the package faketime"
    first, second = (_build(open_folder / how.umask, how) for how in BUILDS)
    differing = [
        path.name
        for path in sorted(first.iterdir())
        if hashlib.sha256(path.read_bytes()).digest()
        != hashlib.sha256((second / path.name).read_bytes()).digest()
    ]
    report = ROOT / "build" / "test" / "diffoscope.txt"
    report.unlink(missing_ok=True)
    if differing:
        subprocess.run(["diffoscope", "--text", str(report), str(first), str(second)], check=False)
    assert differing == [], f"see {report}"
