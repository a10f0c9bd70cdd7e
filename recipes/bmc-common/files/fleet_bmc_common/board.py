# SPDX-License-Identifier: Apache-2.0
"""What services must know of the board they run on: a JSON file that the machine's layer installs."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fleet_bmc_common import ServiceError

PATH = "/usr/share/fleet/board.json"


class Gpio(NamedTuple):
    """A line as the kernel names it; `active_low`: the low level means "asserted"."""

    name: str
    active_low: bool
    output: bool


class Board(NamedTuple):
    """The board. `kcs_device` is the path of its KCS channel's character device."""

    name: str
    gpios: Mapping[str, Gpio]
    kcs_device: str


def load(path: str = PATH) -> Board:
    """Read the file. Raises ServiceError when it is not there or not what it should be."""
    try:
        with open(path, encoding="utf-8") as stream:  # noqa: PTH123 (pathlib costs start-up time)
            return _board(json.load(stream))
    except OSError as error:
        raise ServiceError(
            f"the board file {path} cannot be read: {error.strerror}; the machine's layer installs it"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServiceError(f"the board file {path} is damaged: {error!r}") from None


def _board(data: dict[str, Any]) -> Board:
    gpios = {
        str(name): Gpio(str(name), bool(line["active_low"]), bool(line["output"]))
        for name, line in data["gpio"].items()
    }
    return Board(str(data["name"]), gpios, str(data["kcs_device"]))
