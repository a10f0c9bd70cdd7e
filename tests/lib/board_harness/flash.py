# SPDX-License-Identifier: Apache-2.0
"""What tests do to a flash chip while its board has no power."""

from board_harness.protocol import Board


def copy_slot(board: Board, source: str, target: str) -> None:
    """Put the system of one slot into the other one, too."""
    for part in ("fit", "manifest", "rofs"):
        board.write_flash(f"{part}-{target}", board.read_flash(f"{part}-{source}"))


def damage(board: Board, partition: str, offset: int) -> None:
    """Flip all bits of one byte."""
    byte = board.read_flash(partition)[offset]
    board.write_flash(partition, bytes([byte ^ 0xFF]), offset)
