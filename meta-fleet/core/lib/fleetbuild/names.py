# SPDX-License-Identifier: Apache-2.0
"""OpenEmbedded package names and what they are called in Debian: recipes use the former on both bases."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from fleetbuild import BuildError

_TABLE = Path(__file__).resolve().parents[2] / "lock" / "names.toml"


def table(path: Path = _TABLE) -> dict[str, list[str]]:
    """Return the table: OpenEmbedded name to Debian names. Read anew each time: BitBake's server lives on."""
    try:
        names = tomllib.loads(path.read_text())["names"]
    except (OSError, ValueError) as error:
        raise BuildError(f"{path}: cannot read the table of names: {error}") from None
    except KeyError:
        raise BuildError(f"{path}: there is no [names]") from None
    for name, debian in names.items():
        if not isinstance(debian, list) or not debian or not all(isinstance(entry, str) for entry in debian):
            raise BuildError(f"{path}: {name} must be a list of names of Debian packages")
    return dict(names)


def provided() -> list[str]:
    """Return the OpenEmbedded names that Debian packages stand for."""
    return sorted(table())


def to_debian(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split run-time names into the Debian packages they stand for and those that only a recipe provides."""
    debian: set[str] = set()
    recipes = []
    known = table()
    for name in names:
        if name in known:
            debian.update(known[name])
        else:
            recipes.append(name)
    return sorted(debian), recipes
