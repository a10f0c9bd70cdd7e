# SPDX-License-Identifier: Apache-2.0
"""Ports on 127.0.0.1 that lead to the board's services.

QEMU asks the kernel for a free port (port 0), so two boards never choose the same one. While the board is
off, the supervisor keeps its ports, so that they are the same after the next power on.
"""

import contextlib
import re
import socket
from collections.abc import Iterable, Mapping

from fleetboard.model import Forward

LOOPBACK = "127.0.0.1"

_SOCKET_KIND = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def hostfwd(forwards: Iterable[Forward], ports: Mapping[str, int]) -> str:
    """The hostfwd options of QEMU's user network; a service not named in `ports` gets a free port (0)."""
    return ",".join(f"hostfwd={f.protocol}:{LOOPBACK}:{ports.get(f.name, 0)}-:{f.port}" for f in forwards)


# QEMU prints:   TCP[HOST_FORWARD]  16   127.0.0.1 37407   10.0.2.15    22     0     0
_FORWARD = re.compile(r"^\s*(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", re.MULTILINE)


def parse_usernet(forwards: Iterable[Forward], text: str) -> dict[str, int]:
    """The host port of each service, from the text of the monitor command `info usernet`."""
    found = {(protocol.lower(), int(guest)): int(host) for protocol, host, guest in _FORWARD.findall(text)}
    return {f.name: found[f.protocol, f.port] for f in forwards if (f.protocol, f.port) in found}


def refused_port(text: str) -> int | None:
    """The host port that QEMU could not take, from its last words; None when they say something else."""
    match = re.search(r"[Cc]ould not set up host forwarding rule '(?:tcp|udp):[^:]*:(\d+)-", text)
    return int(match[1]) if match else None


class Reservation:
    """Holds a board's ports while it is off, so that nobody else is given them."""

    def __init__(self, forwards: Iterable[Forward]) -> None:
        self._forwards = tuple(forwards)
        self._sockets: list[socket.socket] = []

    def hold(self, ports: Mapping[str, int]) -> None:
        """Bind, without listening, each port that can be bound; one that somebody has is left to them."""
        self.release()
        for forward in self._forwards:
            if forward.name not in ports:
                continue
            sock = socket.socket(socket.AF_INET, _SOCKET_KIND[forward.protocol])
            if forward.protocol == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections may linger
            with contextlib.suppress(OSError):
                sock.bind((LOOPBACK, ports[forward.name]))
            self._sockets.append(sock)

    def release(self) -> None:
        """Let go of all, right before QEMU binds them."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
