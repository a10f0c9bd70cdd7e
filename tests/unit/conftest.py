# SPDX-License-Identifier: Apache-2.0
"""What unit tests share: signals as at a terminal, and a guest for a QEMU that runs but boots no firmware."""

import signal
import struct
from pathlib import Path
from typing import Protocol

import pytest

FLASH_SIZE = 128 << 20
_UART5 = 0x1E784000  # AST2600; registers are 4 bytes apart: THR/RBR 0x00, LSR 0x14


def pytest_configure() -> None:
    # A shell ignores SIGINT for what it puts into the background, nohup ignores SIGHUP, and programs hand
    # that down: those that tests interrupt would not hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class GuestImage(Protocol):
    """Makes a flash image with a guest in it."""

    def __call__(self, text: str = ..., *, echo: bool = ..., size: int = ...) -> Path: ...


def guest_program(text: str, *, echo: bool) -> bytes:
    """ARM code for the reset vector: the first CPU says `text` on UART5, then sleeps or echoes its input."""
    code = [
        0xEE100FB0,  # 00        mrc   p15, 0, r0, c0, c0, 5   which CPU is this?
        0xE2100003,  # 04        ands  r0, r0, #3
        0x1A00000E,  # 08        bne   sleep
        0xE59F1040,  # 0c        ldr   r1, uart
        0xE28F2040,  # 10        adr   r2, text
        0xE4D23001,  # 14 next:  ldrb  r3, [r2], #1
        0xE3530000,  # 18        cmp   r3, #0
        0x0A000004,  # 1c        beq   done
        0xE5914014,  # 20 full:  ldr   r4, [r1, #0x14]
        0xE3140020,  # 24        tst   r4, #0x20               is THR empty?
        0x0AFFFFFC,  # 28        beq   full
        0xE5813000,  # 2c        str   r3, [r1]
        0xEAFFFFF7,  # 30        b     next
        0xE5914014 if echo else 0xEA000003,  # 34 done:  ldr r4, [r1, #0x14], or b sleep
        0xE3140001,  # 38        tst   r4, #1                  is there input?
        0x15913000,  # 3c        ldrne r3, [r1]
        0x15813000,  # 40        strne r3, [r1]
        0xEAFFFFFA,  # 44        b     done
        0xE320F003,  # 48 sleep: wfi
        0xEAFFFFFD,  # 4c        b     sleep
        0xE1A00000,  # 50        nop
        _UART5,  #     54 uart:  .word
    ]  #               58 text:  .asciz
    return struct.pack(f"<{len(code)}I", *code) + text.encode() + b"\0"


@pytest.fixture
def guest_image(tmp_path: Path) -> GuestImage:
    """Make a flash image, full-size unless told otherwise; a sparse file."""

    def make(text: str = "hello\r\n", *, echo: bool = False, size: int = FLASH_SIZE) -> Path:
        image = tmp_path / "image.bin"
        with image.open("wb") as file:
            file.write(guest_program(text, echo=echo))
            file.truncate(size)
        return image

    return make
