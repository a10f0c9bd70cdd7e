# SPDX-License-Identifier: Apache-2.0
"""The timers' file: what it changes, and how it says what is wrong with it."""

import re
from pathlib import Path

import pytest

from fleet_bmc_common import ServiceError
from fleet_host_power import machine, settings


def test_without_a_file_the_timers_are_the_boards(tmp_path: Path) -> None:
    timers = settings.load([str(tmp_path / "none.json")])
    assert timers == machine.TIMERS
    assert all(type(value) is int for value in timers.values())
    assert (timers["off_time_ms"], timers["force_off_ms"], timers["power_ok_ms"]) == (1_000, 15_000, 8_000)
    assert (timers["power_pulse_ms"], timers["reset_pulse_ms"]) == (200, 500)
    assert timers["graceful_off_ms"] == 300_000


def test_every_timer_has_a_range_that_holds_its_default() -> None:
    assert set(settings.SETTINGS) == set(machine.TIMERS)
    assert all(setting.low <= setting.default <= setting.high for setting in settings.SETTINGS.values())


def test_the_first_file_counts(tmp_path: Path) -> None:
    (tmp_path / "first.json").write_text('{"off_time_ms": 2000}')
    (tmp_path / "second.json").write_text('{"off_time_ms": 3000, "power_pulse_ms": 100}')
    files = [str(tmp_path / name) for name in ("none.json", "first.json", "second.json")]
    assert settings.load(files) == {**machine.TIMERS, "off_time_ms": 2_000}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"off_tme_ms": 1}', "unknown key 'off_tme_ms'; allowed: power_pulse_ms, reset_pulse_ms, "),
        ('{"off_time_ms": 5}', "off_time_ms is 5; it must be a number from 10 to 60000 (ms)"),
        ('{"power_pulse_ms": 4000}', "power_pulse_ms is 4000; it must be a number from 10 to 3000 (ms)"),
        ('{"off_time_ms": "1 s"}', 'off_time_ms is "1 s"; it must be a number from 10 to 60000 (ms)'),
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "host-power.json"
    file.write_text(text)
    with pytest.raises(ServiceError, match=f"^{re.escape(str(file))}.*{re.escape(words)}"):
        settings.load([str(file)])


def test_the_documentation_has_every_timer() -> None:
    page = (Path(__file__).parents[2] / "docs/dbus.md").read_text()
    rows = re.findall(r"^\| `(\w+_ms)` \| (\d+) \| (\d+) \| (\d+) \|", page, re.M)
    assert rows == [
        (key, *(f"{value:.0f}" for value in (setting.default, setting.low, setting.high)))
        for key, setting in settings.SETTINGS.items()
    ]
    for state in machine.STATES:
        assert f"`{state}`" in page
