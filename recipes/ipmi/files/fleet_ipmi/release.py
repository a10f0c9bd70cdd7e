# SPDX-License-Identifier: Apache-2.0
"""The version of the image, from its os-release(5)."""

from fleet_ipmi.outside import Firmware

PATH = "/etc/os-release"
_HEX = frozenset("0123456789abcdef")


def read(path: str = PATH) -> Firmware:
    """Return the version that the file tells; 0.0 when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123 (pathlib costs start-up time)
            return parse(stream.read())
    except OSError:
        return parse("")


def parse(text: str) -> Firmware:
    """Return the first two numbers of VERSION_ID and the commit in BUILD_ID (git-describe(1))."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    numbers = [int(part) for part in _plain(fields.get("VERSION_ID", "")).split(".") if part.isdecimal()]
    major, minor = (*numbers, 0, 0)[:2]
    build = "00000000"
    for part in _plain(fields.get("BUILD_ID", "")).split("-"):
        digits = part.removeprefix("g")
        if len(digits) >= 7 and _HEX.issuperset(digits):
            build = digits[:8].ljust(8, "0")
    return Firmware(major, minor, bytes.fromhex(build))


def _plain(value: str) -> str:
    return value.strip().strip("\"'")
