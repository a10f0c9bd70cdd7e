# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

import fleetboard
from fleet_qemu import checks
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.errors import QemuError

BOARD = fleetboard.load(DEFAULT_BOARD_FILE)


def fake_qemu(folder: Path, says: str) -> str:
    program = folder / "qemu-fake"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return str(program)


def test_installed_qemu_is_found() -> None:
    assert Path(checks.find_qemu(BOARD)).name == "qemu-system-arm"


def test_newer_qemu_is_fine(tmp_path: Path) -> None:
    program = fake_qemu(tmp_path, "QEMU emulator version 11.0.1 (Debian)")
    assert checks.find_qemu(BOARD, program) == program


def test_environment_names_another_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_qemu(tmp_path, "QEMU emulator version 9.9.0")
    monkeypatch.setenv("FLEET_QEMU", program)
    assert checks.find_qemu(BOARD) == program


def test_old_qemu_is_refused_with_both_versions(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match=r"QEMU 5\.2, .* needs 7\.2 or newer") as caught:
        checks.find_qemu(BOARD, fake_qemu(tmp_path, "QEMU emulator version 5.2.0"))
    assert "./fleet setup" in caught.value.remedy


def test_missing_qemu() -> None:
    with pytest.raises(QemuError, match="no-such-qemu is not installed"):
        checks.find_qemu(BOARD, "no-such-qemu")


def test_something_else_called_qemu(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="does not say which version"):
        checks.find_qemu(BOARD, fake_qemu(tmp_path, "hello"))


@pytest.mark.parametrize(
    ("size", "word"), [(0, "truncated"), (1 << 20, "truncated"), (129 << 20, "too long")]
)
def test_image_of_the_wrong_size(tmp_path: Path, size: int, word: str) -> None:
    image = tmp_path / "image.bin"
    with image.open("wb") as file:
        file.truncate(size)
    with pytest.raises(QemuError, match=f"is {word}: {size} bytes, .* has {BOARD.flash.size}"):
        checks.check_image(BOARD, image)


def test_image_with_damaged_contents(tmp_path: Path) -> None:
    image = tmp_path / "image.bin"
    with image.open("wb") as file:
        file.truncate(BOARD.flash.size)
    with pytest.raises(QemuError, match="is damaged"):
        checks.check_image(BOARD, image)
    checks.check_image(BOARD, image, contents=False)


def test_no_image(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="there is no flash image") as caught:
        checks.check_image(BOARD, tmp_path / "absent")
    assert "./fleet build" in caught.value.remedy


def test_no_pseudo_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(2, "No such file or directory")

    checks.check_pty()
    monkeypatch.setattr(os, "openpty", refuse)
    with pytest.raises(QemuError, match="no pseudo-terminal"):
        checks.check_pty()
