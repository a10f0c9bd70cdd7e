# SPDX-License-Identifier: Apache-2.0
"""Which ACPI state the host is in, from what it says and from what its rails show. Pure, without I/O.

Rails outrank words. The host's messages come without authentication, so:
- no power means S5, whatever was said, and at once;
- S0 or S2 said by a host without power is not believed; S5 said while the power stays is shown as
  contradicted;
- power that comes, or a platform reset that ends, means that firmware runs (S2), also when it is too old to
  say so; POST_COMPLETE of such firmware means S0;
- the bound of S2 counts from the first S2 of a boot, and no message starts it again.
"""

from collections.abc import Callable
from typing import NamedTuple

from fleet_acpi_state.states import D3, S0, S2, S5, STATES, UNKNOWN

# Who said it.
HOST, OPERATOR, RAILS, INFERRED, RESTORED, NOBODY = (
    "Host",
    "Operator",
    "Rails",
    "Inferred",
    "Restored",
    "None",
)
SPEAKERS = (HOST, OPERATOR)


class Rails(NamedTuple):
    """What the power signals show."""

    power_good: bool
    platform_reset: bool
    post_complete: bool


class Known(NamedTuple):
    """All that is known. `since` is milliseconds since the epoch by the board's clock."""

    system: str = UNKNOWN
    device: str = UNKNOWN
    source: str = NOBODY
    since: int = 0
    previous: str = UNKNOWN
    boot_id: str = ""  # of the run of the host's firmware and what it started; empty before the first
    cycle: int = 0  # how often the host was powered on
    contradicted: bool = False  # the rails say otherwise
    overdue: bool = False  # S2 for longer than its bound: to be judged as S0


class Limits(NamedTuple):
    """Times in seconds."""

    s2_bound: float = 900.0  # POST that takes longer is not believed to be one
    grace: float = 5.0  # between what the host says and what its rails show of it


class Tracker:
    """Keeps what is known. Each method that takes news changes `known` and returns whether it did."""

    def __init__(
        self,
        known: Known,
        limits: Limits,
        *,
        clock: Callable[[], float],
        wall: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        """`clock` is monotonic seconds, `wall` milliseconds since the epoch."""
        self.known = known
        self.rails: Rails | None = None  # nobody has told yet
        self._limits = limits
        self._clock = clock
        self._wall = wall
        self._new_id = new_id
        self._firmware_speaks = False  # it has said S2 in this boot
        self._in_reset = False  # and its end will be a boot that nobody knows of yet
        self._claim: tuple[float, str, str] | None = None  # S2 without power: when, device state, who
        self._s2_began: float | None = clock() if known.system == S2 else None  # the first of this boot
        self._s5_said: float | None = None

    def told(self, system: str, device: str, source: str) -> bool:
        """Somebody says which states these are; empty means no word about it."""
        if system == S2 and source == HOST:
            self._firmware_speaks = True
        power = self.rails.power_good if self.rails else None
        if system and power is False and not STATES[system].off:
            # The news of its power may be behind its words: see _firmware_starts.
            if system == S2:
                self._claim = (self._clock(), device, source)
            return self._set(contradicted=True)
        if system and STATES[system].off and power:
            self._s5_said = self._clock()
        values: dict[str, object] = {"device": device} if device else {}
        if not system:
            return self._set(**values)
        return self._enter(system, source=source, contradicted=False, **values)

    def saw(self, rails: Rails) -> bool:
        """The power signals are these."""
        before, self.rails = self.rails, rails
        known = self.known
        if not rails.power_good:
            self._s5_said = None
            if STATES[known.system].off:
                return self._set(contradicted=False)
            return self._enter(S5, device=D3, source=RAILS, contradicted=False)
        if before is None:
            return self._found_running(rails)
        if not before.power_good:
            self._new_boot(in_reset=False)
            return self._firmware_starts(cycle=known.cycle + 1)
        if rails.platform_reset and not before.platform_reset:
            self._new_boot(in_reset=True)
            return False
        if before.platform_reset and not rails.platform_reset and self._in_reset:
            self._in_reset = False
            return self._firmware_starts()
        if rails.post_complete and not before.post_complete and self._is_firmware_silent():
            return self._enter(S0, device=S0, source=INFERRED)
        return False

    def passed(self) -> bool:
        """Time has passed."""
        changed = False
        if (
            self.known.system == S2
            and self._s2_began is not None
            and self._clock() >= self._s2_began + self._limits.s2_bound
        ):
            changed = self._set(overdue=True)
        if self._s5_said is not None and self._clock() >= self._s5_said + self._limits.grace:
            self._s5_said = None
            changed |= self._set(contradicted=True)
        return changed

    def wake_in(self) -> float | None:
        """In how many seconds `passed` has to be called; None for never."""
        ends = []
        if self.known.system == S2 and self._s2_began is not None and not self.known.overdue:
            ends.append(self._s2_began + self._limits.s2_bound)
        if self._s5_said is not None:
            ends.append(self._s5_said + self._limits.grace)
        return max(0.0, min(ends) - self._clock()) if ends else None

    def _found_running(self, rails: Rails) -> bool:
        """The BMC started and the host has power."""
        system = self.known.system
        self._in_reset = rails.platform_reset
        if STATES[system].off or system == UNKNOWN:
            # It was powered on while nobody looked.
            self._new_boot(in_reset=rails.platform_reset)
            state = S0 if rails.post_complete else S2
            return self._firmware_starts(state, cycle=self.known.cycle + 1)
        if system == S2 and rails.post_complete:
            return self._enter(S0, device=S0, source=INFERRED)
        if system == S0 and not rails.post_complete:
            self._new_boot(in_reset=rails.platform_reset)
            return self._firmware_starts()
        return False

    def _firmware_starts(self, state: str = S2, **values: object) -> bool:
        """The host's processor has left reset, and is in `state` by now."""
        values |= {"boot_id": self._new_id(), "contradicted": False, "overdue": False}
        if self._firmware_speaks and self.known.system == S2:
            return self._set(**values)  # it was faster than the news of its reset
        changed = self._enter(state, device=state, source=INFERRED, **values)
        claim, self._claim = self._claim, None
        if claim and self._clock() - claim[0] <= self._limits.grace:
            self.told(S2, *claim[1:])
        return changed

    def _new_boot(self, *, in_reset: bool) -> None:
        self._firmware_speaks = False
        self._in_reset = in_reset
        self._s2_began = None
        self._s5_said = None

    def _is_firmware_silent(self) -> bool:
        return self.known.system == S2 and not self._firmware_speaks

    def _enter(self, system: str, **values: object) -> bool:
        if system == S2 and self._s2_began is None:
            self._s2_began = self._clock()
        if system != self.known.system:
            values |= {
                "system": system,
                "previous": self.known.system,
                "since": self._wall(),
                "overdue": False,
            }
        changed = self._set(**values)
        self.passed()
        return changed

    def _set(self, **values: object) -> bool:
        known = self.known._replace(**values)  # type: ignore[arg-type]
        changed = known != self.known
        self.known = known
        return changed
