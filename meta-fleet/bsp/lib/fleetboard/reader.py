# SPDX-License-Identifier: Apache-2.0
"""Typed access to a parsed TOML table that collects mistakes instead of stopping at the first."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

MISSING = object()


def _type_name(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "a table",
    }
    return names.get(type(value), f"a {type(value).__name__}")


class Table:
    """One table of the file. Each getter returns a usable value; mistakes go to `problems`.

    After a mistake the returned value is only a placeholder, so ask `ok` before using a table's values for
    checks across tables.
    """

    def __init__(self, data: Mapping[str, object], where: str, problems: list[str]) -> None:
        self._data = data
        self._where = where
        self._problems = problems
        self._seen: set[str] = set()
        self.ok = True

    def key(self, name: str) -> str:
        """Return the full name of a key, as messages show it."""
        shown = name if re.fullmatch(r"[A-Za-z0-9_.\[\]-]+", name) else repr(name)
        return f"{self._where}.{shown}" if self._where else shown

    def problem(self, name: str, text: str) -> None:
        """Record a mistake of the key `name`."""
        self.ok = False
        self._problems.append(f"{self.key(name)}: {text}")

    def _get(self, name: str, kind: type, expected: str) -> object:
        self._seen.add(name)
        value = self._data.get(name, MISSING)
        if value is MISSING:
            self.problem(name, f"missing; expected {expected}")
            return MISSING
        # bool is an int to Python, never to a board file
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.problem(name, f"is {_type_name(value)}; expected {expected}")
            return MISSING
        return value

    def _absent(self, name: str) -> bool:
        self._seen.add(name)
        return name not in self._data

    def integer(
        self, name: str, low: int, high: int, multiple: int = 1, default: int | None = None, form: str = "#x"
    ) -> int:
        """Return an integer in low..high that is a multiple of `multiple`; required without a default.

        `form` is how messages write numbers, `d` for what people count in decimal.
        """
        if default is not None and self._absent(name):
            return default
        expected = f"an integer from {low:{form}} to {high:{form}}"
        if multiple > 1:
            expected += f", a multiple of {multiple:{form}}"
        value = self._get(name, int, expected)
        if not isinstance(value, int):
            return low
        if not low <= value <= high or value % multiple:
            self.problem(name, f"{value:{form}} is not allowed; expected {expected}")
            return low
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """Return a float (or integer) with low <= value <= high; required without a default."""
        if default is not None and self._absent(name):
            return default
        expected = f"a number from {low:g} to {high:g}"
        kind = int if isinstance(self._data.get(name), int) else float
        value = self._get(name, kind, expected)
        if not isinstance(value, int | float):
            return low
        if not low <= value <= high:
            self.problem(name, f"{value:g} is not allowed; expected {expected}")
            return low
        return float(value)

    def text(self, name: str, pattern: str, meaning: str, default: str | None = None) -> str:
        """Return a string that matches the whole `pattern`; `meaning` says in words what is allowed."""
        if default is not None and self._absent(name):
            return default
        value = self._get(name, str, f"a string: {meaning}")
        if not isinstance(value, str):
            return ""
        if re.fullmatch(pattern, value) is None:
            self.problem(name, f"{value!r} is not allowed; expected {meaning}")
            return ""
        return value

    def choice(self, name: str, allowed: Collection[str], default: str | None = None) -> str:
        """Return one of the `allowed` strings."""
        if default is not None and self._absent(name):
            return default
        expected = f"one of {', '.join(allowed)}"
        value = self._get(name, str, expected)
        if not isinstance(value, str):
            return next(iter(allowed))
        if value not in allowed:
            self.problem(name, f"{value!r} is not allowed; expected {expected}")
            return next(iter(allowed))
        return value

    def scalars(self, name: str) -> dict[str, int | str | bool]:
        """Return an optional flat table of strings, integers and booleans with safe keys."""
        table = self.table(name, optional=True)
        found: dict[str, int | str | bool] = {}
        for key, value in table._data.items():
            table._seen.add(key)
            if re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", key) is None:
                table.problem(key, "is not an option name (lower-case letters, digits, . _ -)")
            elif not isinstance(value, int | str | bool):
                table.problem(key, f"is {_type_name(value)}; expected a string, integer or boolean")
            elif isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._/-]*", value) is None:
                table.problem(key, f"{value!r} is not allowed; expected letters, digits and . _ / -")
            else:
                found[key] = value
        self.ok = self.ok and table.ok
        return found

    def table(self, name: str, optional: bool = False) -> Table:
        """Return the sub-table; an empty one if it is missing (a mistake unless `optional`)."""
        value = {} if optional and self._absent(name) else self._get(name, dict, "a table")
        if isinstance(value, dict):
            return Table(value, self.key(name), self._problems)
        # what a missing table lacks is not worth a line each
        lacking = Table({}, self.key(name), [])
        lacking.ok = False
        return lacking

    def tables(self, name: str, at_least: int = 0) -> list[Table]:
        """Return the sub-tables of an array of tables with no fewer than `at_least` entries."""
        if at_least == 0 and self._absent(name):
            return []
        value = self._get(name, list, f"an array of at least {at_least} tables")
        if not isinstance(value, list):
            return []
        if len(value) < at_least:
            self.problem(name, f"has {len(value)} entries; expected at least {at_least}")
        found = []
        for index, entry in enumerate(value):
            if isinstance(entry, dict):
                found.append(Table(entry, f"{self.key(name)}[{index}]", self._problems))
            else:
                self.problem(f"{name}[{index}]", f"is {_type_name(entry)}; expected a table")
        return found

    def close(self) -> bool:
        """Report keys nobody asked for; return whether the table is without mistakes."""
        for name in self._data:
            if name not in self._seen:
                allowed = ", ".join(sorted(self._seen))
                self.problem(name, f"unknown key; allowed here: {allowed}")
        return self.ok
