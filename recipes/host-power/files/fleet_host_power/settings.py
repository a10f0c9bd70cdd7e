# SPDX-License-Identifier: Apache-2.0
"""The timers of the power state machine: an optional JSON file, `{"off_time_ms": 2000}`; see docs/dbus.md."""

import json
from collections.abc import Iterable
from typing import Any

from fleet_bmc_common import ServiceError
from fleet_host_power import machine

# The first that is there is read, and no other.
PATHS = ("/etc/host-power/host-power.json", "/usr/share/host-power/host-power.json")

# The least and the most of each timer, in ms.
RANGES = {
    machine.POWER_PULSE: (10, 3_000),  # at 4 s the host's hardware forces power off
    machine.RESET_PULSE: (10, 5_000),
    machine.POWER_HOLD: (1_000, 60_000),
    machine.RESET_HOLD: (1_000, 60_000),
    machine.POWER_OK: (100, 600_000),
    machine.OFF_TIME: (10, 60_000),
    machine.FORCE: (1_000, 60_000),
    machine.GRACEFUL: (1_000, 3_600_000),
    machine.SHUTDOWN: (1_000, 600_000),
    machine.RESET: (100, 60_000),
    machine.WARM: (10, 60_000),
}


def load(paths: Iterable[str] = PATHS) -> dict[str, int]:
    """Return all timers in ms. Raises ServiceError that names file, key and what is allowed."""
    for path in paths:
        try:
            with open(path, encoding="utf-8") as stream:  # noqa: PTH123 (pathlib costs start-up time)
                return machine.TIMERS | _checked(path, json.load(stream, object_pairs_hook=_once))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ServiceError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ServiceError(f"{path} is no valid JSON: {error}") from None
    return dict(machine.TIMERS)


def _checked(path: str, values: Any) -> dict[str, int]:
    if not isinstance(values, dict):
        raise ServiceError(f'{path} must hold a JSON object, as in {{"{machine.OFF_TIME}": 2000}}')
    for key, value in values.items():
        if key not in RANGES:
            raise ServiceError(f"{path}: there is no key '{key}'; allowed: {', '.join(RANGES)}")
        least, most = RANGES[key]
        if type(value) is not int or not least <= value <= most:
            raise ServiceError(
                f"{path}: '{key}' is {json.dumps(value)}; it must be a whole number of ms, {least} to {most}"
            )
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found
