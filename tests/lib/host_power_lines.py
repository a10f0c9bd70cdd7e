# SPDX-License-Identifier: Apache-2.0
"""host-power with lines that a test holds: `python -m host_power_lines SETTINGS SOCKET LINE...`.

At the socket the test writes the asserted inputs in one line, then `+PS_PWROK` or `-PS_PWROK` for each
change; it reads the same of the outputs.
"""

import asyncio
import socket
import sys

from fleet_bmc_common.objects import ObjectTree
from fleet_bmc_common.service import run
from fleet_host_power import settings
from fleet_host_power.__main__ import serve
from fleet_host_power.gpio import Changed
from fleet_host_power.interfaces import BUS_NAMES


class SocketLines:
    """Lines whose other end is a socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._rest = b""
        first = b""
        while not first.endswith(b"\n"):
            first += self._socket.recv(1)
        self._levels = dict.fromkeys(first.decode().split(), True)
        self._socket.setblocking(False)
        self._changed: Changed = lambda _name, _level: None

    def levels(self) -> dict[str, bool]:
        return dict(self._levels)

    def listen(self, changed: Changed) -> None:
        self._changed = changed
        asyncio.get_running_loop().add_reader(self._socket, self.poll)

    def poll(self) -> None:
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return
        if not data:  # the test is over
            asyncio.get_running_loop().remove_reader(self._socket)
        *words, self._rest = (self._rest + data).split(b"\n")
        for word in words:
            self._changed(word[1:].decode(), word.startswith(b"+"))

    def drive(self, name: str, asserted: bool) -> None:
        if name == "POWER_OUT" and "BROKEN" in sys.argv[3:]:
            raise OSError(5, "Input/output error")
        self._socket.sendall(f"{'+' if asserted else '-'}{name}\n".encode())

    def close(self) -> None:
        self._socket.sendall(b"closed\n")
        self._socket.close()


async def start(objects: ObjectTree, tasks: asyncio.TaskGroup) -> None:
    timers = settings.load(sys.argv[1:2])
    serve(objects, tasks, timers, SocketLines(sys.argv[2]), sys.argv[3:])


if __name__ == "__main__":
    run(start, *BUS_NAMES)
