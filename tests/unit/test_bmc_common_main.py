# SPDX-License-Identifier: Apache-2.0
"""The launcher that keeps OpenSSL out of a service."""

import os
import subprocess
import sys
from pathlib import Path

_COMPONENT = """
import asyncio, sys
loaded = [name for name in ("_ssl", "ssl") if sys.modules.get(name)]
try:
    import ssl
except ModuleNotFoundError as error:
    print(__name__, loaded, sys.argv[1:], error)
"""


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleet_bmc_common", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_component_runs_as_main_without_openssl(tmp_path: Path) -> None:
    (tmp_path / "lamp").mkdir()
    (tmp_path / "lamp/__main__.py").write_text(_COMPONENT)
    result = _run(tmp_path, "lamp", "--dim")
    assert result.stdout == "__main__ [] ['--dim'] import of ssl halted; None in sys.modules\n", result.stderr


def test_component_is_missing(tmp_path: Path) -> None:
    result = _run(tmp_path)
    assert result.returncode == 1
    assert result.stderr == "usage: python3 -m fleet_bmc_common COMPONENT [ARGUMENT...]\n"
