# SPDX-License-Identifier: Apache-2.0
"""The host's serial port: what the simulated server says on the pty behind the BMC's host UART.

Others may have the pty open, too. Nothing here waits: text that finds no room, because nobody in the BMC
reads, is dropped as on a real line.
"""

import array
import asyncio
import contextlib
import fcntl
import os
import termios

_DRAIN_SECONDS = 0.5
# The kernel keeps 4 KiB of what the BMC sends. When nobody reads it that far, throw it away: QEMU would wait
# for room, and the BMC's transmitter with it.
_KEEP_BYTES = 2048


class Uart:
    """Closed until `connect`."""

    def __init__(self) -> None:
        self._terminal: int | None = None
        self._drain: asyncio.Task[None] | None = None
        self.dropped = 0  # bytes of text that found no room

    def connect(self, pty: str) -> None:
        """Open the pty of a QEMU that has just started, for good: QEMU takes a second to notice a reader."""
        self._terminal = os.open(pty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._drain = asyncio.create_task(self._keep_room(self._terminal))

    async def disconnect(self) -> None:
        """Close it; to be done before QEMU ends."""
        if self._drain is not None:
            self._drain.cancel()
            await asyncio.gather(self._drain, return_exceptions=True)
            self._drain = None
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def write(self, text: str) -> None:
        """Say `text`, as much of it as there is room for."""
        data = text.encode()
        if self._terminal is not None:
            with contextlib.suppress(OSError):  # no room, or QEMU has just ended
                data = data[os.write(self._terminal, data) :]
        self.dropped += len(data)

    async def _keep_room(self, terminal: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.sleep(_DRAIN_SECONDS)
                waiting = array.array("i", [0])
                fcntl.ioctl(terminal, termios.FIONREAD, waiting)
                if waiting[0] > _KEEP_BYTES:
                    with contextlib.suppress(BlockingIOError):  # somebody else was quicker
                        os.read(terminal, waiting[0] - _KEEP_BYTES)
