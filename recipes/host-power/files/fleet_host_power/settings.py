# SPDX-License-Identifier: Apache-2.0
"""The timers of the power state machine: an optional JSON file, as in `{"off_time_ms": 2000}`."""

import os
from collections.abc import Iterable

from fleet_bmc_common.settings import Setting, read
from fleet_host_power import machine

# The first that is there is read, and no other.
FILES = ("/etc/host-power/host-power.json", "/usr/share/host-power/host-power.json")

# The least and the most of each timer, in ms.
_RANGES = {
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
SETTINGS = {timer: Setting(default, *_RANGES[timer], "ms") for timer, default in machine.TIMERS.items()}


def load(files: Iterable[str] = FILES) -> dict[str, int]:
    """Return all timers in ms. Raises ServiceError that names file, key and what is allowed."""
    found = [path for path in files if os.path.exists(path)]  # noqa: PTH110 (pathlib costs start-up time)
    return {timer: round(value) for timer, value in read(found[0] if found else "", SETTINGS).items()}
