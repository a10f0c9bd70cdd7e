# SPDX-License-Identifier: Apache-2.0
"""Settings: what is allowed, and what a mistake is answered with."""

from pathlib import Path

import pytest

from fleet_bmc_common import ServiceError
from fleet_bmc_common.settings import Setting, read

TABLE = {"bound": Setting(900, 10, 86400, "s"), "grace": Setting(5, 1, 60, "s")}


def test_defaults_without_a_file(tmp_path: Path) -> None:
    assert read(str(tmp_path / "none.json"), TABLE) == {"bound": 900, "grace": 5}


def test_what_is_set_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"bound": 10}')
    assert read(str(file), TABLE) == {"bound": 10, "grace": 5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ('{"bond": 10}', "unknown key 'bond'; allowed: bound, grace"),
        ('{"bound": "10"}', 'bound is "10"; it must be a number from 10 to 86400'),
        ('{"bound": true}', "bound is true; it must be a number"),
        ('{"grace": 61}', r"grace is 61; it must be a number from 1 to 60 \(s\)"),
        ('{"grace": NaN}', "grace is nan; it must be"),
    ],
)
def test_a_mistake_is_named(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(text)
    with pytest.raises(ServiceError, match=rf"{file}.*{words}"):
        read(str(file), TABLE)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=rf"{tmp_path} cannot be read: Is a directory"):
        read(str(tmp_path), TABLE)
