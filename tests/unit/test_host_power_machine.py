# SPDX-License-Identifier: Apache-2.0
"""The power state machine: every cell of its table, whole stories, and what holds for any story."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_host_power import machine as m
from fleet_host_power.machine import Cell, Machine, NotInThisState

ALL = (*m.INPUTS, *m.OUTPUTS)

# What follows on what. A row is an event, a column a state:
#   Off, PoweringOn, oN, gracefulOff, GracefulCycle, forceOff, ForceCycle, cycleOff, shuttingDown, resetting,
#   warmReset, in short o p N g G f F c s r w. "." stays, "=" is so already, "!" is refused; the state's own
#   letter is written where something happens though it stays.
COLUMNS = dict(zip("opNgGfFcsrw", m.STATES, strict=True))
EXPECTED = """
PS_PWROK asserted        N N . . . . . N . . .
PS_PWROK released        . . o o c o c . o o o
SLP_S5 asserted          . . s . . . . . . . s
SLP_S5 released          p . . . . . . p N . .
PLTRST asserted          . . w g G f F . s N w
PLTRST released          . . . . . . . . . N .
POST_COMPLETE asserted   . . . . . . . . . . .
POST_COMPLETE released   . . w g G f F . s N w
POWER_BUTTON asserted    p p g g G f F p s g g
POWER_BUTTON released    . . . . . . . . . . .
RESET_BUTTON asserted    . . r r r . . . . . r
RESET_BUTTON released    . . . . . . . . . . .
power_pulse_ms           . . . . . . . . . . .
reset_pulse_ms           . . . . . . . . . . .
power_button_ms          . . . . . . . . . . .
reset_button_ms          . . . . . . . . . . .
power_ok_ms              . o . . . . . . . . .
off_time_ms              . . . . . . . p . . .
force_off_ms             . . . . . N N . . . .
graceful_off_ms          . . . N N . . . . . .
shutdown_ms              . . . . . . . . N . .
reset_ms                 . . . . . . . . . N .
warm_reset_ms            . . . . . . . . . . N
on                       p = = G = F = = G = =
off                      = ! g = g = f o = ! g
force off                = ! f f f = f o f f f
cycle                    ! ! F F F F = = F F F
graceful cycle           ! ! G G = F = = G ! G
reset                    ! ! r r r ! ! ! ! = r
"""


def cells() -> list[tuple[str, str, str]]:
    found = []
    for row in EXPECTED.strip().splitlines():
        event, marks = row[:25].strip(), row[25:].split()
        found += [(state, event, mark) for state, mark in zip(m.STATES, marks, strict=True)]
    return found


def test_every_cell_is_expected() -> None:
    assert len(cells()) == len(m.STATES) * len(m.EVENTS) == len(m.TABLE)
    assert {(state, event) for state, event, _ in cells()} == set(m.TABLE)


@pytest.mark.parametrize(("state", "event", "mark"), cells())
def test_cell(state: str, event: str, mark: str) -> None:
    cell = m.TABLE[state, event]
    assert cell.state == COLUMNS.get(mark, state)
    assert cell.fulfilled == (mark == "=")
    assert bool(cell.refusal) == (mark == "!")
    if mark in ".=!":
        assert cell == Cell(state, fulfilled=cell.fulfilled, refusal=cell.refusal)
    else:
        assert cell != Cell(state)


# What else follows, where something does: timers that start beside the state's own, cause, log event.
MORE = {
    ("Off", "on"): (["power_pulse_ms"], "RemoteCommand", ""),
    ("On", "off"): (["power_pulse_ms"], "", ""),
    ("On", "graceful cycle"): (["power_pulse_ms"], "RemoteCommand", ""),
    ("On", "force off"): ([], "", ""),
    ("On", "cycle"): ([], "RemoteCommand", ""),
    ("On", "reset"): (["reset_pulse_ms"], "RemoteCommand", ""),
    ("WarmReset", "off"): (["power_pulse_ms"], "", ""),
    ("GracefulOff", "graceful cycle"): ([], "RemoteCommand", ""),
    ("GracefulCycle", "off"): ([], "", ""),
    ("ShuttingDown", "graceful cycle"): ([], "RemoteCommand", ""),
    ("CycleOff", "off_time_ms"): (["power_pulse_ms"], "", ""),
    ("CycleOff", "force off"): ([], "", ""),
    ("Off", "PS_PWROK asserted"): ([], "Unknown", ""),
    ("Off", "SLP_S5 released"): ([], "Unknown", ""),
    ("PoweringOn", "PS_PWROK asserted"): ([], "", ""),
    ("On", "PS_PWROK released"): ([], "", "PowerLost"),
    ("Resetting", "PS_PWROK released"): ([], "", "PowerLost"),
    ("WarmReset", "PS_PWROK released"): ([], "", "PowerLost"),
    ("GracefulOff", "PS_PWROK released"): ([], "", ""),
    ("ForceOff", "PS_PWROK released"): ([], "", ""),
    ("ShuttingDown", "PS_PWROK released"): ([], "", ""),
    ("Off", "POWER_BUTTON asserted"): (["power_button_ms"], "PowerButton", ""),
    ("On", "POWER_BUTTON asserted"): (["power_button_ms"], "", ""),
    ("GracefulOff", "POWER_BUTTON asserted"): (["power_button_ms"], "", ""),
    ("On", "RESET_BUTTON asserted"): (["reset_button_ms"], "ResetButton", ""),
    ("PoweringOn", "power_ok_ms"): ([], "", "PowerOnFailed"),
    ("ForceOff", "force_off_ms"): ([], "", "PowerOffFailed"),
    ("ForceCycle", "force_off_ms"): ([], "", "PowerOffFailed"),
    ("ShuttingDown", "shutdown_ms"): ([], "", "PowerOffFailed"),
    ("GracefulOff", "graceful_off_ms"): ([], "", ""),
    ("WarmReset", "warm_reset_ms"): ([], "SoftReset", ""),
}


@pytest.mark.parametrize(("place", "more"), MORE.items())
def test_what_else_follows(place: tuple[str, str], more: tuple[list[str], str, str]) -> None:
    cell = m.TABLE[place]
    assert (list(cell.start), cell.cause, cell.event) == more


def test_the_end_of_each_bound_leads_to_where_the_rails_are() -> None:
    assert set(m.STATES) - set(m.BOUND) == {m.OFF, m.ON}
    for state, timer in m.BOUND.items():
        cell = m.TABLE[state, timer]
        assert cell.state != state
        assert (cell.state in m.POWERED) == (state in m.POWERED)
        assert bool(cell.fault) == (state not in (m.CYCLE_OFF, m.WARM_RESET))


def test_every_log_event_and_cause_is_known() -> None:
    assert {cell.event for cell in m.TABLE.values()} == {
        *("", m.POWER_LOST, m.POWER_ON_FAILED, m.POWER_OFF_FAILED),
    }
    assert {cell.cause for cell in m.TABLE.values()} == {
        *("", "RemoteCommand", "PowerButton", "ResetButton", "SoftReset", "Unknown"),
    }


# --- Stories ---


class Story:
    """A machine and its clock."""

    def __init__(self, *asserted: str, lines: Any = ALL, **timers: int) -> None:
        self.now = 1_000
        self.machine = Machine({**m.TIMERS, **timers}, lines, dict.fromkeys(asserted, True))

    def edges(self, *signs: str) -> None:
        """`+X` asserts X, `-X` releases it."""
        for sign in signs:
            self.machine.edge(sign[1:], sign[0] == "+", self.now)

    def ask(self, request: str) -> bool:
        return self.machine.request(request, self.now)

    def wait(self, milliseconds: int) -> None:
        """Let time pass, as a service would see it: it wakes up at each deadline."""
        end = self.now + milliseconds
        while self.machine.deadline is not None and self.machine.deadline <= end:
            self.now = max(self.now, self.machine.deadline)
            self.machine.expire(self.now)
        self.now = end

    @property
    def driven(self) -> set[str]:
        return {line for line in m.OUTPUTS if self.machine.drives(line)}

    @property
    def shown(self) -> tuple[str, str, str]:
        return self.machine.state, self.machine.chassis_state, self.machine.host_state

    def come_up(self) -> None:
        self.edges("-SLP_S5", "+PS_PWROK", "-PLTRST")


def standby(**options: Any) -> Story:
    return Story("SLP_S5", "PLTRST", **options)


def running(**options: Any) -> Story:
    return Story("PS_PWROK", "POST_COMPLETE", **options)


def names(story: Story) -> list[str]:
    return [event.name for event in story.machine.events]


def test_power_on() -> None:
    story = standby()
    assert story.shown == ("Off", "Off", "Off")
    assert story.ask("on")
    assert story.driven == {"POWER_OUT"}
    assert story.shown == ("PoweringOn", "TransitioningToOn", "Off")
    story.wait(199)
    assert story.driven == {"POWER_OUT"}
    story.wait(1)
    assert story.driven == set()
    story.come_up()
    assert story.shown == ("On", "On", "TransitioningToRunning")
    story.edges("+POST_COMPLETE")
    assert story.shown == ("On", "On", "Running")
    assert story.machine.cause == "RemoteCommand"
    assert not story.ask("on")
    assert story.machine.deadline is None
    assert names(story) == []


def test_power_on_that_fails_says_so() -> None:
    story = standby()
    story.ask("on")
    story.wait(7_999)
    assert story.machine.state == "PoweringOn"
    story.wait(1)
    assert story.shown == ("Off", "Off", "Off")
    assert story.machine.fault == "power-on failed: PS_PWROK did not come within 8000 ms"
    (event,) = story.machine.events
    assert event == m.Event("PowerOnFailed", "PoweringOn", story.machine.fault)
    story.ask("on")
    assert story.machine.fault == ""


def test_power_that_came_in_time_is_heard_before_a_late_timer() -> None:
    story = standby()
    story.ask("on")
    story.now += 9_000  # the service was late
    story.come_up()
    story.machine.expire(story.now)
    assert (story.machine.state, story.machine.fault, names(story)) == ("On", "", [])


def test_forced_off_holds_until_power_drops() -> None:
    story = running()
    story.ask("force off")
    assert story.shown == ("ForceOff", "TransitioningToOff", "TransitioningToOff")
    story.wait(14_999)
    assert story.driven == {"POWER_OUT"}
    story.edges("-PS_PWROK")
    assert story.driven == set()
    assert story.shown == ("Off", "Off", "Off")
    story.wait(600_000)
    assert (names(story), story.machine.fault) == ([], "")


def test_forced_off_gives_up() -> None:
    story = running()
    story.ask("force off")
    story.wait(10_000)
    story.ask("cycle")
    story.wait(5_000)  # changing one's mind gains no time
    assert story.driven == set()
    assert story.shown == ("On", "On", "Running")
    assert "POWER_OUT was held for 15000 ms" in story.machine.fault
    assert names(story) == ["PowerOffFailed"]


def test_cycle() -> None:
    story = running()
    story.ask("cycle")
    story.wait(4_000)
    story.edges("-PLTRST", "-POST_COMPLETE", "+PLTRST", "-PS_PWROK", "+SLP_S5")
    assert story.shown == ("CycleOff", "Off", "Off")
    assert story.driven == set()
    story.wait(999)
    assert story.driven == set()
    story.wait(1)
    assert story.driven == {"POWER_OUT"}
    story.come_up()
    assert story.shown == ("On", "On", "TransitioningToRunning")
    assert (story.machine.cause, story.machine.fault, names(story)) == ("RemoteCommand", "", [])


def test_graceful_off() -> None:
    story = running()
    story.ask("off")
    assert story.shown == ("GracefulOff", "On", "TransitioningToOff")
    assert story.driven == {"POWER_OUT"}
    story.wait(200)
    assert story.driven == set()
    story.edges("+PLTRST", "-POST_COMPLETE", "+SLP_S5", "-PS_PWROK")
    assert story.shown == ("Off", "Off", "Off")
    assert (names(story), story.machine.fault) == ([], "")


def test_graceful_off_that_is_not_heeded() -> None:
    story = running()
    story.ask("off")
    story.wait(299_999)
    assert not story.ask("off")  # which starts nothing anew
    story.wait(1)
    assert story.shown == ("On", "On", "Running")
    assert story.machine.fault == "the host did not shut down within 300000 ms; it stays on"


def test_graceful_cycle() -> None:
    story = running()
    story.ask("graceful cycle")
    story.wait(500)
    story.edges("+SLP_S5", "-PS_PWROK")
    story.wait(1_000)
    assert story.shown == ("PoweringOn", "TransitioningToOn", "Off")
    story.come_up()
    assert story.machine.state == "On"


def test_warm_reset_is_never_off() -> None:
    story = running()
    seen = set()
    for sign in ("+PLTRST", "-POST_COMPLETE", "-PLTRST"):
        story.edges(sign)
        seen.add(story.machine.host_state)
        assert story.machine.chassis_state == "On"
    story.wait(500)
    seen.add(story.machine.host_state)
    assert seen == {"TransitioningToRunning"}
    assert story.machine.cause == "SoftReset"
    story.edges("+POST_COMPLETE")
    assert story.shown == ("On", "On", "Running")
    assert story.machine.boots == 1
    assert names(story) == []


def test_post_complete_that_is_released_late_is_the_same_reset() -> None:
    story = running()
    story.edges("+PLTRST", "-PLTRST")
    story.wait(2_000)
    story.edges("-POST_COMPLETE")
    assert (story.machine.state, story.machine.boots) == ("On", 1)


def test_a_board_without_pltrst_sees_a_reset_by_post_complete() -> None:
    story = running(lines=set(ALL) - {"PLTRST"})
    story.edges("-POST_COMPLETE")
    assert (story.machine.state, story.machine.boots) == ("WarmReset", 1)
    story = running(lines=set(ALL) - {"PLTRST"})
    story.ask("reset")
    assert (story.machine.state, story.machine.boots) == ("On", 1)
    assert story.driven == {"RESET_OUT"}
    story.edges("-POST_COMPLETE")
    story.wait(10_000)
    assert (story.machine.cause, story.machine.fault, story.driven) == ("RemoteCommand", "", set())


def test_reset() -> None:
    story = running()
    story.ask("reset")
    assert story.driven == {"RESET_OUT"}
    assert story.shown == ("Resetting", "On", "Running")  # nothing has happened yet
    story.edges("+PLTRST", "-POST_COMPLETE")
    assert story.shown == ("On", "On", "TransitioningToRunning")
    story.wait(500)
    assert story.driven == set()
    story.edges("-PLTRST")
    story.wait(10_000)
    assert (story.machine.cause, story.machine.fault) == ("RemoteCommand", "")


def test_reset_that_is_not_heeded() -> None:
    story = running()
    story.ask("reset")
    story.wait(2_000)
    assert story.shown == ("On", "On", "Running")
    assert story.machine.fault == "the host was not reset: PLTRST did not come within 2000 ms"


def test_shutdown_by_the_host_is_no_loss() -> None:
    story = running()
    story.edges("+PLTRST", "-POST_COMPLETE", "+SLP_S5")
    assert story.shown == ("ShuttingDown", "TransitioningToOff", "TransitioningToOff")
    story.edges("-PS_PWROK")
    assert story.shown == ("Off", "Off", "Off")
    assert (names(story), story.machine.cause) == ([], "Unknown")


def test_loss_of_power() -> None:
    for before in ((), ("+PLTRST",), ("-POST_COMPLETE",)):
        story = running()
        story.edges(*before, "-PS_PWROK")
        assert story.shown == ("Off", "Off", "Off")
        assert names(story) == ["PowerLost"]
        story.edges("+PS_PWROK")  # the supply is back
        assert story.machine.state == "On"
        assert not story.machine.is_running  # POST_COMPLETE of before is no evidence


def test_loss_of_power_is_not_told_where_it_cannot_be_known() -> None:
    story = running(lines=set(ALL) - {"SLP_S5"})
    story.edges("-PS_PWROK")
    assert (story.machine.state, names(story)) == ("Off", [])


def test_power_button() -> None:
    story = standby()
    story.edges("+POWER_BUTTON")
    story.wait(1_000)
    assert story.driven == {"POWER_OUT"}  # as long as somebody presses
    story.edges("-POWER_BUTTON")
    assert story.driven == set()
    assert (story.machine.state, story.machine.cause) == ("PoweringOn", "PowerButton")
    story.come_up()
    story.edges("+POWER_BUTTON")
    story.wait(4_000)
    assert story.driven == {"POWER_OUT"}
    story.edges("-PS_PWROK")  # overridden
    assert story.driven == set()
    assert (story.machine.state, names(story)) == ("Off", [])


def test_a_power_button_that_sticks_is_let_go() -> None:
    story = running()
    story.edges("+POWER_BUTTON")
    story.wait(15_000)
    assert story.driven == set()


def test_buttons_that_are_pressed_at_the_start_press_nothing() -> None:
    story = running()
    story = Story("PS_PWROK", "POWER_BUTTON", "RESET_BUTTON")
    assert story.driven == set()
    assert (story.machine.state, story.machine.deadline, names(story)) == ("On", None, [])
    story.edges("-POWER_BUTTON", "-RESET_BUTTON")
    assert story.driven == set()


def test_reset_button() -> None:
    story = running()
    story.edges("+RESET_BUTTON")
    assert story.driven == {"RESET_OUT"}
    story.edges("+PLTRST")
    story.wait(3_000)
    assert story.driven == {"RESET_OUT"}
    story.edges("-RESET_BUTTON")
    assert story.driven == set()
    assert (story.machine.state, story.machine.cause) == ("On", "ResetButton")


def test_evidence() -> None:
    story = running()
    story.edges("-POST_COMPLETE")
    story.wait(500)
    assert story.machine.host_state == "TransitioningToRunning"
    story.machine.tell(True)
    assert story.machine.host_state == "Running"
    story.machine.tell(False)
    assert story.machine.host_state == "TransitioningToRunning"
    story.machine.tell(True)
    story.edges("-PS_PWROK")
    assert story.machine.host_state == "Off"
    story.machine.tell(True)  # rails outrank words
    story.edges("+PS_PWROK")
    assert story.machine.host_state == "TransitioningToRunning"


@pytest.mark.parametrize(
    ("asserted", "state", "is_running"),
    [
        ((), "Off", False),
        (("PS_PWROK",), "On", False),
        (("PS_PWROK", "POST_COMPLETE"), "On", True),
        (("PS_PWROK", "POST_COMPLETE", "PLTRST"), "On", False),
        (("POST_COMPLETE",), "Off", False),
    ],
)
def test_start(asserted: tuple[str, ...], state: str, is_running: bool) -> None:
    story = Story(*asserted)
    assert (story.machine.state, story.machine.is_running) == (state, is_running)
    assert (story.driven, names(story), story.machine.boots) == (set(), [], 0)


def test_what_is_refused_changes_nothing() -> None:
    story = standby()
    for request, words in (("cycle", "the host is off"), ("reset", "the host is off")):
        with pytest.raises(NotInThisState, match=words):
            story.ask(request)
    assert (story.machine.state, story.driven, story.machine.cause) == ("Off", set(), "Unknown")
    story = running(lines=set(ALL) - {"RESET_OUT"})
    with pytest.raises(NotInThisState, match="no RESET_OUT line"):
        story.ask("reset")


# --- What holds for any story ---

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("edge"), st.sampled_from(m.INPUTS), st.booleans()),
        st.tuples(st.just("ask"), st.sampled_from(m.REQUESTS), st.just(False)),
        st.tuples(st.just("tell"), st.just(""), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([1, 200, 500, 1_000, 5_000, 20_000]), st.just(False)),
    ),
    max_size=40,
)
LINES = st.sets(st.sampled_from([m.SLP_S5, m.PLTRST, m.POST_COMPLETE, m.RESET_OUT])).map(
    lambda some: {m.PS_PWROK, m.POWER_OUT, m.POWER_BUTTON, m.RESET_BUTTON, *some}
)


@settings(max_examples=300, deadline=None)
@given(asserted=st.sets(st.sampled_from(m.INPUTS)), lines=LINES, steps=STEPS)
def test_any_story(asserted: set[str], lines: set[str], steps: list[tuple[str, Any, bool]]) -> None:
    story = Story(*asserted & lines, lines=lines)
    machine = story.machine
    assert story.driven == set()
    for kind, what, flag in steps:
        asked = ""
        if kind == "edge" and what in lines:
            machine.edge(what, flag, story.now)
        elif kind == "ask":
            before = (machine.state, machine.deadline, machine.cause, machine.fault)
            try:
                asked = "begun" if story.ask(what) else "fulfilled"
            except NotInThisState:
                asked = "refused"
            if asked != "begun":
                assert (machine.state, machine.deadline, machine.cause, machine.fault) == before
        elif kind == "tell":
            machine.tell(flag)
        elif kind == "wait":
            story.wait(what)

        # the state is what the rails say
        assert (machine.state in m.POWERED) == machine.is_powered == machine.levels[m.PS_PWROK]
        assert (machine.chassis_state in ("On", "TransitioningToOff")) == machine.is_powered
        assert (machine.host_state == "Off") == (not machine.is_powered)
        if machine.host_state == "Running":
            assert machine.is_posted or machine.is_told
        # nothing is under way for ever, and what is driven ends with its timer
        if machine.state in m.BOUND or story.driven:
            assert machine.deadline is not None
            assert machine.deadline - story.now <= max(m.TIMERS.values())
        # RESET_OUT is for a host that has power
        assert machine.is_powered or m.RESET_OUT not in story.driven

    # Left alone, POWER_OUT is let go in time, and the machine comes to rest where the rails are.
    was_powered = machine.is_powered
    story.wait(max(m.TIMERS[timer] for timer in (m.FORCE, m.POWER_HOLD)) + m.TIMERS[m.POWER_PULSE])
    cycling = machine.state == m.POWERING_ON and m.POWER_OUT in story.driven
    assert cycling or m.POWER_OUT not in story.driven
    story.wait(sum(m.TIMERS.values()))
    assert machine.state == (m.ON if was_powered else m.OFF)
    assert (story.driven, machine.deadline) == (set(), None)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_power_out_is_never_held_longer_than_its_bound(steps: list[tuple[str, Any, bool]]) -> None:
    story = Story("PS_PWROK")
    last_reason, held_since = story.now, story.now
    bound = max(m.TIMERS[timer] for timer in (m.FORCE, m.POWER_HOLD, m.POWER_PULSE))
    for kind, what, flag in steps:
        if kind == "edge":
            story.machine.edge(what, flag, story.now)
            last_reason = story.now
        elif kind == "ask":
            try:
                if story.ask(what):
                    last_reason = story.now
            except NotInThisState:
                pass
        elif kind == "wait":
            for _ in range(min(what // 100, 50) or 1):
                was = story.machine.state
                story.wait(max(what // 50, 1))
                if story.machine.state != was:
                    last_reason = story.now  # the pulse at the end of a cycle
                if m.POWER_OUT not in story.driven:
                    held_since = story.now
                assert story.now - max(last_reason, held_since) <= bound + max(what // 50, 1)
