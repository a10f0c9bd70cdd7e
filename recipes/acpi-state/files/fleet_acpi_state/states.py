# SPDX-License-Identifier: Apache-2.0
"""ACPI power states by their names on D-Bus (phosphor-dbus-interfaces, ACPIPowerState), as tables."""

from typing import NamedTuple

INTERFACE = "xyz.openbmc_project.Control.Power.ACPIPowerState"
PREFIX = INTERFACE + ".ACPI."

S0, S2, S5, UNKNOWN = "S0_G0_D0", "S2_D2", "S5_G2", "Unknown"
D3 = "S3_D3"  # what devices are in when the host has no power

TARGETS = {S0: "host-s0-state.target", S2: "host-s2-state.target", S5: "host-s5-state.target"}


class Kind(NamedTuple):
    """What a state means for the board.

    `offset` is the event offset of a System ACPI Power State sensor (IPMI 2.0, table 42-3, type 22h).
    `like` is the state whose target it has: S0, S2, S5, or empty for none. `off` says that a host in this
    state has no power, `device` that devices may be in it, too.
    """

    offset: int
    like: str
    off: bool
    device: bool


STATES = {
    S0: Kind(0x0, S0, off=False, device=True),
    "S1_D1": Kind(0x1, "", off=False, device=True),
    S2: Kind(0x2, S2, off=False, device=True),
    D3: Kind(0x3, "", off=False, device=True),
    "S4": Kind(0x4, S5, off=True, device=False),
    S5: Kind(0x5, S5, off=True, device=False),
    "S4_S5": Kind(0x6, S5, off=True, device=False),
    "G3": Kind(0x7, S5, off=True, device=False),
    "SLEEP": Kind(0x8, "", off=False, device=False),
    "G1_SLEEP": Kind(0x9, "", off=False, device=False),
    "OVERRIDE": Kind(0xA, S5, off=True, device=False),
    "LEGACY_ON": Kind(0xB, S0, off=False, device=False),
    "LEGACY_OFF": Kind(0xC, S5, off=True, device=False),
    UNKNOWN: Kind(0xE, "", off=False, device=True),
}


def short(name: str) -> str:
    """Return a state's name without its prefix; ValueError names the allowed ones."""
    state = name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or state not in STATES:
        raise ValueError(f"'{name}' is no ACPI state; allowed: {PREFIX}{{{', '.join(STATES)}}}")
    return state


def device(name: str) -> str:
    """Return a device state's name without its prefix; ValueError names the allowed ones."""
    state = short(name)
    if not STATES[state].device:
        allowed = ", ".join(state for state, kind in STATES.items() if kind.device)
        raise ValueError(f"devices cannot be in {state}; allowed: {PREFIX}{{{allowed}}}")
    return state
