# SPDX-License-Identifier: Apache-2.0
"""The version out of os-release."""

from pathlib import Path

import pytest

from fleet_ipmi import release
from fleet_ipmi.outside import Firmware


@pytest.mark.parametrize(
    ("text", "firmware"),
    [
        ('VERSION_ID="0.1.0"\nBUILD_ID="v0.1-12-g1a2b3c4"\n', Firmware(0, 1, bytes.fromhex("1a2b3c40"))),
        ('VERSION_ID="2.17"\nBUILD_ID="abcdef0123-dirty"', Firmware(2, 17, bytes.fromhex("abcdef01"))),
        ("VERSION_ID=12\nBUILD_ID=unknown", Firmware(12, 0, bytes(4))),
        ("VERSION_ID=rolling\n# a comment\n\n", Firmware(0, 0, bytes(4))),
        ("", Firmware(0, 0, bytes(4))),
    ],
)
def test_parse(text: str, firmware: Firmware) -> None:
    assert release.parse(text) == firmware


def test_read(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_bytes(b'NAME="\xff"\nVERSION_ID="3.4"\n')
    assert release.read(str(tmp_path / "os-release")).minor == 4
    assert release.read(str(tmp_path / "none")) == Firmware(0, 0, bytes(4))
