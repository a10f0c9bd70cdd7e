# SPDX-License-Identifier: Apache-2.0
"""Figures that the measurements of tests/bench give."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value. `limit` is the most that it should be; None for a part of another figure."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""

    def __str__(self) -> str:
        line = f"{self.name:52} {self.value:8.1f} {self.unit:4}"
        if self.limit is not None:
            line += f" of {self.limit:g}" + ("" if self.value <= self.limit else "  MISSED")
        return f"{line}  {self.note}".rstrip()


class Report:
    """Takes the figures of all measurements."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def add(self, name: str, value: float, unit: str, limit: float | None = None, note: str = "") -> None:
        """Put one value on record."""
        self.figures.append(Figure(name, value, unit, limit, note))

    def add_median(self, name: str, values: Sequence[float], unit: str, limit: float | None = None) -> None:
        """Put the median of several runs on record, with the lowest and the highest beside it."""
        spread = f"{min(values):.1f} to {max(values):.1f}" if len(values) > 1 else ""
        self.add(name, statistics.median(values), unit, limit, spread)
