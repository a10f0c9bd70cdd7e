# SPDX-License-Identifier: Apache-2.0
"""OpenEmbedded package names and what they are called in Debian: recipes use the former on both bases."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).resolve().parents[2] / "lock" / "names.toml"


@cache
def table() -> dict[str, list[str]]:
    """Return the table: OpenEmbedded name to Debian names."""
    return {name: list(debian) for name, debian in tomllib.loads(_TABLE.read_text())["names"].items()}


def provided() -> list[str]:
    """Return the OpenEmbedded names that Debian packages stand for."""
    return sorted(table())


def to_debian(names: list[str]) -> tuple[list[str], list[str]]:
    """Split run-time names into Debian packages that they stand for and names that only a recipe can provide."""
    debian, recipes = set(), []
    for name in names:
        if name in table():
            debian.update(table()[name])
        else:
            recipes.append(name)
    return sorted(debian), recipes
