# SPDX-License-Identifier: Apache-2.0
import os
import socket
from pathlib import Path

import pytest

from fleet_bmc_common import ServiceError
from fleet_bmc_common.notify import READY, notify, status, watchdog_period


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_assignments_reach_the_manager(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"fleet-test-notify-{os.getpid()}"
    address = "\0" + name if kind == "abstract" else name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(60)
        variable = "@" + name if kind == "abstract" else str(tmp_path / name)
        assert notify(READY, status("on\nthe bus"), environ={"NOTIFY_SOCKET": variable})
        assert manager.recv(100) == b"READY=1\nSTATUS=on the bus"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_no_manager(environ: dict[str, str]) -> None:
    assert not notify(READY, environ=environ)


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative", "/", "@"])
def test_address_of_another_kind(address: str) -> None:
    with pytest.raises(ServiceError, match=r"must start with / \(path\) or @"):
        notify(READY, environ={"NOTIFY_SOCKET": address})


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"cannot reach the service manager at .*/gone: No such file"):
        notify(READY, environ={"NOTIFY_SOCKET": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "1"}, 0.0000005),
    ],
)
def test_watchdog_period_is_half_of_what_the_manager_allows(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_period(environ) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon"])
def test_watchdog_period_that_is_none(text: str) -> None:
    with pytest.raises(ServiceError, match=f"WATCHDOG_USEC is '{text}'"):
        watchdog_period({"WATCHDOG_USEC": text})
