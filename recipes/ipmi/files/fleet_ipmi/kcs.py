# SPDX-License-Identifier: Apache-2.0
"""The host's way in: Linux's character device of a KCS channel (drivers/char/ipmi/kcs_bmc_cdev_ipmi.c).

One read gives a whole request, one write the whole response; the driver does the rest of the protocol
(IPMI 2.0, section 9).
"""

import asyncio
import errno
import os
from typing import Protocol

from fleet_bmc_common import ServiceError, log
from fleet_ipmi.dispatch import KCS, Code, Dispatcher

LEAST_BYTES = 2  # NetFn and LUN, command
_READ_BYTES = 1024  # the driver's buffer has 1000


class Device(Protocol):
    """The device. What is wrong with it is an OSError."""

    def fileno(self) -> int:
        """Return what becomes readable when there is a request."""

    def read(self) -> bytes:
        """Return a request; BlockingIOError when the host has taken it back."""

    def write(self, response: bytes) -> None:
        """Give the host a response; EINVAL when it does not wait for one any more."""

    def close(self) -> None:
        """Leave the channel."""


class KcsDevice:
    """A character device of the kernel."""

    def __init__(self, path: str) -> None:
        """Raise ServiceError when it cannot be opened."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ServiceError(f"the KCS device {path} cannot be opened: {error.strerror}") from None

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def read(self) -> bytes:
        """Return a request."""
        return os.read(self._descriptor, _READ_BYTES)

    def write(self, response: bytes) -> None:
        """Give the host a response."""
        os.write(self._descriptor, response)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Transport:
    """Answers one request after the other.

    A request that comes while the one before is in work means that the host has given up on that: its work is
    cancelled, and its answer never gets to the host as the answer to the new one.
    """

    def __init__(self, device: Device, dispatcher: Dispatcher) -> None:
        self.late = 0  # answers that the host did not wait for
        self._device = device
        self._dispatcher = dispatcher
        self._work: asyncio.Task[None] | None = None
        self._has_complained = False
        self._failed: asyncio.Future[None]

    async def run(self) -> None:
        """Serve until cancelled. Raises ServiceError when the device fails."""
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        loop.add_reader(self._device.fileno(), self._on_readable)
        try:
            await self._failed
        finally:
            loop.remove_reader(self._device.fileno())
            if self._work:
                self._work.cancel()
            self._device.close()

    def _on_readable(self) -> None:
        try:
            request = self._device.read()
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if not request:
            self._fail(OSError(errno.ENODEV, os.strerror(errno.ENODEV)))
            return
        if self._work and not self._work.done():
            self._work.cancel()
            self.late += 1
        if len(request) < LEAST_BYTES:
            self._refuse(request)
            return
        self._work = asyncio.create_task(self._answer(request))

    def _refuse(self, request: bytes) -> None:
        self._dispatcher.refuse()
        if not self._has_complained:
            self._has_complained = True
            log.warning(f"a KCS request of {len(request)} bytes was refused; there will be no word of others")
        self._write(bytes((request[0] | 4, 0, Code.REQUEST_LENGTH)))  # the host waits for something

    async def _answer(self, request: bytes) -> None:
        self._write(await self._dispatcher.message(KCS, request))

    def _write(self, response: bytes) -> None:
        try:
            self._device.write(response)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EAGAIN):
                self.late += 1  # aborted, and no new request yet
            else:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        if not self._failed.done():
            self._failed.set_exception(ServiceError(f"the KCS device failed: {error.strerror or error}"))
