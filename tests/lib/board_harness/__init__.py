# SPDX-License-Identifier: Apache-2.0
"""What tests of a whole board stand on: the board, its SSH, its boot as it happens, evidence of failures.

`protocol.Board` is all that a test knows of a board. `qemu.QemuBoard` is the emulated one; a board in a lab
is another class with the same methods.
"""
