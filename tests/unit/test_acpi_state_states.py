# SPDX-License-Identifier: Apache-2.0
"""The table of states."""

import pytest

from fleet_acpi_state.states import INTERFACE, PREFIX, S0, S2, S5, STATES, TARGETS, device, short

# The enumeration of phosphor-dbus-interfaces, and which of them devices may be in.
UPSTREAM = (
    *("S0_G0_D0", "S1_D1", "S2_D2", "S3_D3", "S4", "S5_G2", "S4_S5", "G3"),
    *("SLEEP", "G1_SLEEP", "OVERRIDE", "LEGACY_ON", "LEGACY_OFF", "Unknown"),
)
DEVICE = {"S0_G0_D0", "S1_D1", "S2_D2", "S3_D3", "Unknown"}


def test_all_states_are_there() -> None:
    assert tuple(STATES) == UPSTREAM
    for name in UPSTREAM:
        assert short(f"{INTERFACE}.ACPI.{name}") == name


def test_each_state_has_its_own_offset() -> None:
    offsets = [kind.offset for kind in STATES.values()]
    assert len(set(offsets)) == len(offsets)
    assert 0xD not in offsets  # reserved
    assert [STATES[state].offset for state in (S0, S2, S5)] == [0, 2, 5]


def test_a_host_without_power_has_the_target_of_soft_off() -> None:
    for kind in STATES.values():
        assert kind.like in ("", *TARGETS)
        assert (kind.like == S5) == kind.off


def test_device_states() -> None:
    for name in UPSTREAM:
        if name in DEVICE:
            assert device(PREFIX + name) == name
        else:
            with pytest.raises(ValueError, match=f"devices cannot be in {name}; allowed: .*S0_G0_D0"):
                device(PREFIX + name)


@pytest.mark.parametrize("name", ["", "S0_G0_D0", PREFIX, PREFIX + "S6", PREFIX + PREFIX + "S4"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no ACPI state; allowed: .*S5_G2"):
        short(name)
