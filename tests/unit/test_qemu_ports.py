# SPDX-License-Identifier: Apache-2.0
import socket

import pytest

from fleet_qemu import ports
from fleetboard.model import Forward

FORWARDS = (Forward("ssh", "tcp", 22), Forward("ipmi", "udp", 623))

# as QEMU 7.2 prints it
USERNET = """Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   23       127.0.0.1 37407       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  16       127.0.0.1 37407       10.0.2.15    22     0     0
  UDP[HOST_FORWARD]  15       127.0.0.1 51940       10.0.2.15   623     0     0
  UDP[68 sec]        14             *       0        10.0.2.3    53     0     0
"""


def bound(kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind((ports.LOOPBACK, 0))
    return sock


def test_usernet() -> None:
    assert ports.parse_usernet(FORWARDS, USERNET) == {"ssh": 37407, "ipmi": 51940}
    assert ports.parse_usernet(FORWARDS, "") == {}


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("-nic user,…: Could not set up host forwarding rule 'tcp:127.0.0.1:2222-:22'", 2222),
        ("could not set up host forwarding rule 'udp:127.0.0.1:623-:623'", 623),
        ("qemu-system-arm: Could not open 'flash.img'", None),
    ],
)
def test_refused_port(text: str, port: int | None) -> None:
    assert ports.refused_port(text) == port


def test_held_ports_are_nobody_elses_until_released() -> None:
    numbers = {}
    for forward, kind in zip(FORWARDS, (socket.SOCK_STREAM, socket.SOCK_DGRAM), strict=True):
        with bound(kind) as free:
            numbers[forward.name] = free.getsockname()[1]
    reservation = ports.Reservation(FORWARDS)
    reservation.hold(numbers)
    for name, kind in (("ssh", socket.SOCK_STREAM), ("ipmi", socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_INET, kind) as other, pytest.raises(OSError, match="in use"):
            other.bind((ports.LOOPBACK, numbers[name]))
    reservation.release()
    for name, kind in (("ssh", socket.SOCK_STREAM), ("ipmi", socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind((ports.LOOPBACK, numbers[name]))


def test_a_port_that_somebody_has_is_left_to_them() -> None:
    with bound(socket.SOCK_DGRAM) as taken:
        reservation = ports.Reservation(FORWARDS)
        reservation.hold({"ipmi": taken.getsockname()[1]})
        reservation.release()
