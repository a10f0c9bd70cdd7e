# SPDX-License-Identifier: Apache-2.0
"""The service's side of systemd's notification protocol (sd_notify(3), sd_watchdog_enabled(3))."""

import os
import socket
from collections.abc import Mapping

from fleet_bmc_common import ServiceError

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def status(text: str) -> str:
    """Return the assignment that shows ``text`` (one line) in ``systemctl status``."""
    return "STATUS=" + " ".join(text.splitlines())


def notify(*assignments: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send assignments to the service manager; return False when there is none.

    Raises ServiceError when ``NOTIFY_SOCKET`` is no socket address or nobody listens there.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address[0] not in "/@" or len(address) == 1:
        raise ServiceError(
            f"NOTIFY_SOCKET is '{address}'; it must start with / (path) or @ (abstract socket)"
        )
    target = "\0" + address[1:] if address[0] == "@" else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto("\n".join(assignments).encode(), target)
    except OSError as error:
        raise ServiceError(
            f"cannot reach the service manager at NOTIFY_SOCKET {address}: {error.strerror}"
        ) from None
    return True


def watchdog_period(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return every how many seconds to send WATCHDOG, or None when nobody watches this process.

    It is half of WATCHDOG_USEC (microseconds), as sd_watchdog_enabled(3) recommends; the variable counts only
    for the process that WATCHDOG_PID names. Raises ServiceError when WATCHDOG_USEC is no positive number.
    """
    text = environ.get("WATCHDOG_USEC")
    if not text or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ServiceError(f"WATCHDOG_USEC is '{text}'; it must be a positive number of microseconds")
    return int(text) / 2_000_000
