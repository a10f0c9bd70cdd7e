# SPDX-License-Identifier: Apache-2.0
"""Settings of a service: an optional JSON file of numbers, each checked against a table."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from fleet_bmc_common import ServiceError


class Setting(NamedTuple):
    """A number that may be set, from `low` to `high`, both included."""

    default: float
    low: float
    high: float
    unit: str


def read(path: str, table: Mapping[str, Setting]) -> dict[str, float]:
    """Return all settings of `table`; a missing file or key means the default.

    Raises ServiceError that names file, key and what is allowed.
    """
    values = {key: setting.default for key, setting in table.items()}
    try:
        with open(path, encoding="utf-8") as stream:  # noqa: PTH123 (pathlib costs start-up time)
            data = json.load(stream)
    except FileNotFoundError:
        return values
    except OSError as error:
        raise ServiceError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ServiceError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ServiceError(f"{path} must hold a JSON object")
    for key, value in data.items():
        setting = table.get(key)
        if setting is None:
            raise ServiceError(f"{path}: unknown key '{key}'; allowed: {', '.join(table)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ServiceError(f"{path}: {key} is {json.dumps(value)}; it must be {_range(setting)}")
        if not setting.low <= value <= setting.high:
            raise ServiceError(f"{path}: {key} is {value}; it must be {_range(setting)}")
        values[key] = float(value)
    return values


def _range(setting: Setting) -> str:
    return f"a number from {setting.low:g} to {setting.high:g} ({setting.unit})"
