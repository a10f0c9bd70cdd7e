# SPDX-License-Identifier: Apache-2.0
"""Who the board is, from the root node of the device tree (Devicetree Specification 0.4, 2.3 and 3.2)."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# What /proc/device-tree links to; readable where the rest of /proc is hidden.
ROOT = Path("/sys/firmware/devicetree/base")

_PROPERTIES = ("model", "compatible", "serial-number")


class Identity(NamedTuple):
    """The identity of a board; what its device tree does not tell is empty."""

    model: str = ""
    serial_number: str = ""
    # From the most specific name to the most general one.
    compatible: tuple[str, ...] = ()

    @property
    def manufacturer(self) -> str:
        """The vendor prefix of the most specific compatible name, empty without one."""
        vendor, comma, _ = self.compatible[0].partition(",") if self.compatible else ("", "", "")
        return vendor if comma else ""


def read(root: Path = ROOT) -> dict[str, bytes]:
    """Return those properties of the root node that exist."""
    return {name: (root / name).read_bytes() for name in _PROPERTIES if (root / name).is_file()}


def parse(properties: Mapping[str, bytes]) -> Identity:
    """Make an identity of raw properties: strings that end with NUL, a list of them for ``compatible``.

    Bytes that are not UTF-8 are replaced by U+FFFD, because D-Bus takes only UTF-8.
    """

    def strings(name: str) -> tuple[str, ...]:
        text = properties.get(name, b"").decode(errors="replace")
        return tuple(part for part in text.split("\0") if part)

    def first(name: str) -> str:
        return next(iter(strings(name)), "")

    return Identity(first("model"), first("serial-number"), strings("compatible"))
