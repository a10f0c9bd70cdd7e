# SPDX-License-Identifier: Apache-2.0
"""The host's serial port on a pty whose other end is the test's."""

import asyncio
import fcntl
import os
import tty
from collections.abc import Awaitable, Callable

import pytest

from fleet_qemu import host_uart
from fleet_qemu.host_uart import Uart


def on_a_pty(script: Callable[[Uart, int], Awaitable[None]]) -> None:
    """Run `script(port, the emulator's end)`."""

    async def run() -> None:
        far, near = os.openpty()
        tty.setraw(near)
        uart = Uart()
        uart.connect(os.ttyname(near))
        try:
            async with asyncio.timeout(30):
                await script(uart, far)
        finally:
            await uart.disconnect()
            os.close(far)
            os.close(near)

    asyncio.run(run())


def test_text_arrives() -> None:
    async def script(uart: Uart, far: int) -> None:
        uart.write("host login: ")
        assert os.read(far, 100) == b"host login: "
        assert uart.dropped == 0

    on_a_pty(script)


def test_text_that_nobody_reads_is_dropped_and_nothing_waits() -> None:
    async def script(uart: Uart, far: int) -> None:
        for _ in range(1000):
            uart.write("x" * 1000)
        assert uart.dropped > 500_000
        os.read(far, 1 << 20)
        while not os.read(far, 100).endswith(b"!"):
            uart.write("!")  # it goes on when somebody reads

    on_a_pty(script)


def test_input_that_nobody_reads_does_not_fill_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_uart, "_DRAIN_SECONDS", 0.01)

    async def script(_: Uart, far: int) -> None:
        fcntl.fcntl(far, fcntl.F_SETFL, os.O_NONBLOCK)
        sent = 0
        while sent < 100_000:  # many times what the kernel keeps
            try:
                sent += os.write(far, b"y" * 1000)
            except BlockingIOError:
                await asyncio.sleep(0.01)

    on_a_pty(script)


def test_somebody_else_may_read() -> None:
    async def script(uart: Uart, far: int) -> None:
        os.write(far, b"typed")
        await asyncio.sleep(0)
        assert uart._terminal is not None
        assert os.read(uart._terminal, 100) == b"typed"  # not taken away

    on_a_pty(script)


def test_without_a_bmc_text_is_lost() -> None:
    uart = Uart()
    uart.write("four")
    assert uart.dropped == 4


def test_the_emulator_ends_first() -> None:
    async def run() -> None:
        far, near = os.openpty()
        uart = Uart()
        uart.connect(os.ttyname(near))
        os.close(near)
        os.close(far)
        uart.write("anybody?")
        await uart.disconnect()
        uart.write("no")
        assert uart.dropped == 10

    asyncio.run(run())
