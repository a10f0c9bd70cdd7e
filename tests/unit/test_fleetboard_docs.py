# SPDX-License-Identifier: Apache-2.0
"""docs/board.md says what the board file says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import fleetboard
from fleetboard import tables

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "meta-fleet/bsp/boards"
PAGE = (ROOT / "docs/board.md").read_text(encoding="utf-8")
TABLES = tables.render(fleetboard.load(BOARDS / "fleet-x1.toml"))


@pytest.mark.parametrize("name", tables.NAMES)
def test_the_table_in_the_page_is_that_of_the_board_file(name: str) -> None:
    found = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert found is not None
    assert found[1] == TABLES[name], f"replace it by the output of: python3 -m fleetboard tables BOARD {name}"


def keys(value: Any, path: str = "") -> set[str]:
    """Return the dotted names of all keys that hold a value, without the indices of arrays."""
    if isinstance(value, dict):
        return {key for name, item in value.items() for key in keys(item, f"{path}.{name}".lstrip("."))}
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return {key for item in value for key in keys(item, path)}
    return {re.sub(r"(\.options)\..*", r"\1.*", path)}


@pytest.mark.parametrize("path", sorted(BOARDS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_key_in_use_is_explained(path: Path) -> None:
    explained = set(re.findall(r"`([a-z_0-9.*]+)`", PAGE.split("## Keys of the board file")[1]))
    assert keys(tomllib.loads(path.read_text(encoding="utf-8"))) <= explained
