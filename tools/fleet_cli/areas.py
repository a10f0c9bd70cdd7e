# SPDX-License-Identifier: Apache-2.0
"""The areas of the test suite: what `fleet test` runs, from tests/areas.toml, and how the results add up."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fleet_cli.errors import UserError

_KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "minutes": (int, float),
    "needs": str,
    "command": list,
    "nightly": bool,
}


@dataclass(frozen=True)
class Area:
    """One part of the suite: a command of its own with a budget.

    `minutes` is the budget from cold on two CPUs. The area exists when the path `needs` does. In `command`,
    `{python}` is the interpreter and `{junit}` the JUnit XML file to write; without `{junit}` the command
    as a whole counts as one test. A `nightly` area runs with --nightly only.
    """

    name: str
    minutes: float
    needs: str
    command: tuple[str, ...]
    nightly: bool

    @property
    def gives_junit(self) -> bool:
        """Whether the command writes JUnit XML."""
        return any("{junit}" in word for word in self.command)

    def argv(self, python: str, junit: Path) -> list[str]:
        """The command with its placeholders filled."""
        values = {"{python}": python, "{junit}": str(junit)}
        words = []
        for word in self.command:
            for placeholder, value in values.items():
                word = word.replace(placeholder, value)
            words.append(word)
        return words


@dataclass(frozen=True)
class Counts:
    """How many tests ended how; an error counts as failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def load(path: Path) -> list[Area]:
    """Read the table. Raises UserError that names file, area and key."""
    try:
        entries = tomllib.loads(path.read_text()).get("area", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
    areas = [_area(path, number, entry) for number, entry in enumerate(entries, 1)]
    names = [area.name for area in areas]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"{path}: area {', '.join(sorted(twice))} is there more than once")
    return areas


def _area(path: Path, number: int, entry: Mapping[str, Any]) -> Area:
    where = f"{path}: area {entry.get('name', number)}"
    unknown = entry.keys() - _KEYS.keys()
    if unknown:
        raise UserError(f"{where}: unknown key {', '.join(sorted(unknown))}", f"there are {', '.join(_KEYS)}")
    values = {"nightly": False, **entry}
    for key, kind in _KEYS.items():
        if not isinstance(values.get(key), kind):
            raise UserError(f"{where}: {key} is missing or of the wrong type")
    if not values["command"] or not all(isinstance(word, str) for word in values["command"]):
        raise UserError(f"{where}: command is no list of words")
    return Area(
        name=values["name"],
        minutes=float(values["minutes"]),
        needs=values["needs"],
        command=tuple(values["command"]),
        nightly=values["nightly"],
    )


def select(areas: Sequence[Area], root: Path, *, names: Sequence[str], nightly: bool) -> list[Area]:
    """The areas to run, in the order of the table: those that exist, or those of them that are named."""
    there = [area for area in areas if (root / area.needs).exists()]
    unknown = set(names) - {area.name for area in there}
    if unknown:
        known = ", ".join(area.name for area in there) or "none"
        raise UserError(f"there is no area {', '.join(sorted(unknown))}", f"there are: {known}")
    if names:
        return [area for area in there if area.name in names]
    return [area for area in there if nightly or not area.nightly]


def count_junit(path: Path, exit_code: int) -> Counts:
    """Sum up a JUnit XML file. A command that failed without a failed test counts as one failure."""
    try:
        suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return Counts(failed=1)  # it ended before it could write
    total = Counts()
    for suite in suites:
        tests, failures, errors, skipped = (
            int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
        )
        failed = failures + errors
        total += Counts(passed=max(0, tests - failed - skipped), failed=failed, skipped=skipped)
    if exit_code != 0 and total.failed == 0:
        total += Counts(failed=1)
    return total


def count_command(exit_code: int) -> Counts:
    """A command that is a test as a whole."""
    return Counts(passed=1) if exit_code == 0 else Counts(failed=1)
