# SPDX-License-Identifier: Apache-2.0
"""From news to state: the policy, event by event, and what holds whatever comes."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from fleet_acpi_state.states import D3, S0, S2, S5, STATES, UNKNOWN
from fleet_acpi_state.tracker import (
    HOST,
    INFERRED,
    NOBODY,
    OPERATOR,
    RAILS,
    RESTORED,
    SPEAKERS,
    Known,
    Limits,
    Rails,
    Tracker,
)

OFF = Rails(power_good=False, platform_reset=True, post_complete=False)
RESET = Rails(power_good=True, platform_reset=True, post_complete=False)
POST = Rails(power_good=True, platform_reset=False, post_complete=False)
DONE = Rails(power_good=True, platform_reset=False, post_complete=True)

BOUND, GRACE = 900.0, 5.0


class Bench:
    """A tracker whose clock stands still."""

    def __init__(self, known: Known | None = None) -> None:
        self.now = 1000.0
        ids = count(1)
        self.tracker = Tracker(
            known or Known(),
            Limits(BOUND, GRACE),
            clock=lambda: self.now,
            wall=lambda: int(self.now * 1000),
            new_id=lambda: f"boot {next(ids)}",
        )

    @property
    def known(self) -> Known:
        return self.tracker.known

    def saw(self, *rails: Rails) -> list[str]:
        """The states that these signals lead to, one after the other."""
        states = []
        for each in rails:
            self.tracker.saw(each)
            states.append(self.known.system)
        return states

    def told(self, state: str, device: str = "", source: str = HOST) -> Known:
        self.tracker.told(state, device, source)
        return self.known

    def wait(self, seconds: float) -> Known:
        self.now += seconds
        self.tracker.passed()
        return self.known


def started() -> Bench:
    """A host whose firmware has just said S2."""
    bench = Bench()
    bench.saw(OFF, RESET, POST)
    bench.told(S2, S2)
    return bench


# --- The usual cycle ---


def test_a_boot_of_firmware_that_speaks() -> None:
    bench = Bench()
    assert bench.known.source == NOBODY
    assert bench.saw(OFF) == [S5]
    assert bench.known == Known(S5, D3, RAILS, 1_000_000, UNKNOWN)
    assert bench.saw(RESET, POST) == [S2, S2]
    assert (bench.known.source, bench.known.boot_id, bench.known.cycle) == (INFERRED, "boot 1", 1)
    assert bench.told(S2, S2).source == HOST
    assert bench.saw(DONE) == [S2]  # it will say S0 itself, when the operating system starts
    bench.now += 7
    known = bench.told(S0, S0)
    assert known == Known(S0, S0, HOST, 1_007_000, S2, "boot 1", 1)
    known = bench.told(S5, D3)
    assert (known.system, known.device, known.source, known.previous) == (S5, D3, HOST, S0)
    assert bench.saw(RESET, OFF) == [S5, S5]
    assert bench.known.source == HOST
    assert not bench.wait(2 * GRACE).contradicted
    assert bench.saw(POST) == [S2]
    assert (bench.known.boot_id, bench.known.cycle) == ("boot 2", 2)


def test_firmware_too_old_to_speak() -> None:
    bench = Bench()
    assert bench.saw(OFF, RESET, POST, DONE, OFF) == [S5, S2, S2, S0, S5]


def test_lost_power_is_soft_off_at_once() -> None:
    for state in (S0, S2):
        bench = started()
        bench.told(state)
        assert bench.saw(OFF) == [S5]
        assert (bench.known.source, bench.known.device, bench.known.previous) == (RAILS, D3, state)


def test_a_warm_reset_is_another_boot_of_the_same_cycle() -> None:
    bench = started()
    bench.saw(DONE)
    bench.told(S0)
    assert bench.saw(RESET, POST) == [S0, S2]
    assert (bench.known.source, bench.known.boot_id, bench.known.cycle) == (INFERRED, "boot 2", 1)
    assert bench.saw(DONE) == [S0]  # nobody has spoken in this boot
    assert bench.known.source == INFERRED


def test_a_host_that_says_the_same_again_changes_nothing() -> None:
    bench = started()
    assert not bench.tracker.told(S2, S2, HOST)
    bench.now += 3
    assert bench.known.since == 1_000_000


def test_a_device_state_alone() -> None:
    bench = started()
    assert bench.tracker.told("", D3, HOST)
    assert (bench.known.system, bench.known.device) == (S2, D3)


# --- News in the wrong order: D-Bus and KCS are two roads ---


def test_firmware_that_speaks_before_the_news_of_its_power() -> None:
    bench = Bench()
    bench.saw(OFF)
    assert bench.told(S2, S2).system == S5
    assert bench.known.contradicted
    bench.now += GRACE / 2
    assert bench.saw(POST) == [S2]
    assert (bench.known.source, bench.known.contradicted) == (HOST, False)
    assert bench.saw(DONE) == [S2]


def test_words_without_power_are_forgotten() -> None:
    bench = Bench()
    bench.saw(OFF)
    bench.told(S2)
    bench.now += GRACE + 1
    assert bench.saw(POST) == [S2]
    assert (bench.known.source, bench.known.contradicted) == (INFERRED, False)


def test_firmware_that_speaks_before_the_news_of_its_reset() -> None:
    bench = started()
    bench.told(S0)
    bench.saw(RESET)
    bench.told(S2)
    bench.saw(POST)
    assert (bench.known.source, bench.known.boot_id) == (HOST, "boot 2")
    assert bench.saw(DONE) == [S2]


# --- Rails outrank words ---


def test_without_power_no_word_is_believed() -> None:
    for state in (S0, S2, "S1_D1", "LEGACY_ON"):
        bench = Bench()
        bench.saw(OFF)
        assert bench.told(state).system == S5
        assert bench.known.contradicted
        assert not bench.told(S5).contradicted


def test_soft_off_with_power_is_shown_as_contradicted() -> None:
    bench = started()
    bench.told(S5, D3)
    assert bench.tracker.wake_in() == GRACE
    assert not bench.wait(GRACE / 2).contradicted
    assert bench.wait(GRACE / 2).contradicted
    assert bench.tracker.wake_in() is None
    assert bench.known.system == S5
    assert bench.saw(OFF) == [S5]
    assert not bench.known.contradicted


def test_a_host_that_stays_in_s2_is_overdue() -> None:
    bench = started()
    assert bench.tracker.wake_in() == BOUND
    assert not bench.wait(BOUND - 1).overdue
    assert bench.wait(1).overdue
    assert bench.known.system == S2
    assert bench.tracker.wake_in() is None
    assert not bench.told(S0).overdue


def test_no_message_starts_the_bound_again() -> None:
    bench = started()
    bench.wait(BOUND - 1)
    bench.told(S2)
    bench.told(S0)
    bench.told(S2)
    assert not bench.known.overdue
    assert bench.wait(1).overdue
    bench.told(S0)
    assert bench.told(S2).overdue
    bench.saw(RESET, POST)
    assert not bench.known.overdue


# --- The BMC starts ---


def test_a_bmc_that_finds_the_host_running_and_knows_nothing() -> None:
    for rails, state in ((POST, S2), (DONE, S0)):
        bench = Bench()
        assert bench.saw(rails) == [state]
        assert (bench.known.source, bench.known.boot_id, bench.known.cycle) == (INFERRED, "boot 1", 1)


def test_a_bmc_that_finds_what_it_left() -> None:
    for rails, state in ((POST, S2), (DONE, S0), (OFF, S5)):
        saved = Known(state, state, RESTORED, 5, UNKNOWN, "saved", 7)
        bench = Bench(saved)
        assert bench.saw(rails) == [state]
        assert bench.known == saved


def test_a_bmc_that_missed_something() -> None:
    cases = (
        (S0, OFF, S5, "saved", 7),
        (S2, OFF, S5, "saved", 7),
        (S5, POST, S2, "boot 1", 8),
        (S5, DONE, S0, "boot 1", 8),
        (S2, DONE, S0, "saved", 7),
        (S0, POST, S2, "boot 1", 7),
    )
    for state, rails, expected, boot, cycle in cases:
        bench = Bench(Known(state, state, RESTORED, 5, UNKNOWN, "saved", 7))
        assert bench.saw(rails) == [expected]
        assert (bench.known.boot_id, bench.known.cycle) == (boot, cycle)


def test_words_before_the_rails_are_known() -> None:
    bench = Bench()
    assert bench.told(S0).system == S0
    assert bench.saw(OFF) == [S5]


# --- Whatever comes ---

NEWS = st.one_of(
    st.builds(Rails, st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.sampled_from(["", *STATES]), st.sampled_from(["", S0, S2, D3]), st.sampled_from(SPEAKERS)),
    st.floats(0, 2 * BOUND),
)


@given(st.lists(NEWS))
def test_invariants(news: list[Rails | tuple[str, str, str] | float]) -> None:
    bench = Bench()
    s2_for = 0.0  # how long this boot has been in S2 since its first S2, at least
    cycle = 0
    for each in news:
        before = bench.known
        match each:
            case Rails():
                changed = bench.tracker.saw(each)
            case float():
                bench.now += each
                changed = bench.tracker.passed()
            case _:
                changed = bench.tracker.told(*each)
        known, rails = bench.known, bench.tracker.rails
        assert changed == (known != before)
        if rails and not rails.power_good:
            assert STATES[known.system].off
        if isinstance(each, Rails):
            s2_for = 0.0  # may be another boot
        elif isinstance(each, float) and before.system == S2:
            s2_for += each
        if known.system != S2:
            assert not known.overdue
        elif s2_for >= BOUND and not (rails and rails.platform_reset):
            assert known.overdue
        if known.system != before.system:
            assert known.previous == before.system
            assert known.since == int(bench.now * 1000)
        assert known.cycle >= cycle
        cycle = known.cycle
        wake = bench.tracker.wake_in()
        assert wake is None or 0 <= wake <= BOUND + 1e-6


def test_who_says_it_is_told() -> None:
    bench = started()
    assert bench.told(S0, source=OPERATOR).source == OPERATOR
