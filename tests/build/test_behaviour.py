# SPDX-License-Identifier: Apache-2.0
"""How the build behaves again and with bad input. Every refusal is one message with its remedy."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bitbake(
    arguments: str,
    build: Path,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run BitBake in a build folder of its own through ``kas shell``, as a developer does."""
    kas = Path(sys.executable).parent / "kas"
    return subprocess.run(
        [*prefix, str(kas), "shell", "kas.yml", "-c", f"bitbake {arguments}"],
        cwd=ROOT,
        env={**os.environ, "KAS_BUILD_DIR": str(build), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check for a refusal that says all of ``words`` and is no crash."""
    assert result.returncode != 0, result.stdout[-3000:]
    for word in words:
        assert word in result.stdout, result.stdout[-5000:]
    assert "Traceback" not in result.stdout, result.stdout[-5000:]


def test_building_again_does_nothing(build_log: str) -> None:
    assert build_log
    result = bitbake("fleet-image", ROOT / "build")
    assert result.returncode == 0, result.stdout[-3000:]
    match = re.search(r"Attempted (\d+) tasks of which (\d+) didn't need to be rerun", result.stdout)
    assert match, result.stdout[-3000:]
    assert match.group(1) == match.group(2)


def test_another_folder_takes_everything_from_shared_state(build_log: str, tmp_path: Path) -> None:
    assert build_log
    result = bitbake("-n fleet-image", tmp_path / "build")
    assert result.returncode == 0, result.stdout[-3000:]
    match = re.search(r"Shared state: (\d+) of (\d+) results are there", result.stdout)
    assert match, result.stdout[-3000:]
    assert match.group(1) == match.group(2), "paths leak into signatures"


def test_an_unknown_machine_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    result = bitbake("-p", tmp_path, {"KAS_MACHINE": "no-such-board"})
    refused(result, "MACHINE 'no-such-board' is not known", "fleet-x1")


def test_a_package_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    extra = tmp_path / "extra.conf"
    extra.write_text('IMAGE_INSTALL:append:pn-fleet-image = " no-such-package"\n')
    result = bitbake(f"-n -R {extra} fleet-image", tmp_path / "build")
    refused(result, "no-such-package", "Nothing RPROVIDES")


def test_without_user_namespaces_nothing_is_built(tmp_path: Path) -> None:
    limit = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    result = bitbake(
        "native-imagetools",
        tmp_path,
        prefix=["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh"],
    )
    refused(result, "does not allow user namespaces", "sysctl")


def test_a_full_disk_stops_the_build_with_the_reason(tmp_path: Path) -> None:
    small = f'mount -t tmpfs -o size=60m tmpfs {tmp_path} && exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", small, "sh"]
    result = bitbake("native-toolchain", tmp_path / "build", {"DL_DIR": str(tmp_path / "downloads")}, prefix)
    assert result.returncode != 0
    assert re.search(r"disk|No space left", result.stdout), result.stdout[-3000:]


class _Gone(http.server.BaseHTTPRequestHandler):
    """A mirror that has none of the files any more."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def empty_mirror() -> Iterator[str]:
    """A mirror on loopback that answers 404 to everything."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Gone)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _mirror(uri: str, tmp_path: Path) -> dict[str, str]:
    folder = str(tmp_path / "downloads")
    return {
        "FLEET_DEBIAN_MIRROR": uri,
        "FLEET_DEBIAN_SECURITY_MIRROR": uri,
        "DL_DIR": folder,
        "no_proxy": "127.0.0.1",
    }


def test_a_locked_package_gone_from_the_mirror_is_named(tmp_path: Path, empty_mirror: str) -> None:
    result = bitbake("-c fetch native-imagetools", tmp_path / "build", _mirror(empty_mirror, tmp_path))
    refused(result, "locked package gone from the mirror", "./fleet lock")


def test_without_network_the_message_says_so(tmp_path: Path) -> None:
    result = bitbake(
        "-c fetch native-imagetools", tmp_path / "build", _mirror("http://127.0.0.1:9", tmp_path)
    )
    refused(result, "cannot download", "Check the network")
