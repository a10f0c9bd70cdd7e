# SPDX-License-Identifier: Apache-2.0
"""The simulated server as a state machine, on a clock of its own."""

from itertools import pairwise

import pytest

import fleetboard
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.host_server import RULES, Server
from fleet_qemu.host_timeline import SET_S0, SET_S2, SET_S5, Message, Settings, SpdRead, State, Wire, programs

BOARD = fleetboard.load(DEFAULT_BOARD_FILE)


class Machine:
    """A server whose time passes as told, with a BMC that answers each message after `latency` seconds."""

    def __init__(self, latency: float = 0.03, **settings: float) -> None:
        self.server = Server(BOARD, Settings().changed(settings))
        self.now = 100.0
        self.latency = latency
        self.answer_at: float | None = None
        self.wires = {"SLP_S5": True, "PLTRST": True, "PS_PWROK": False, "POST_COMPLETE": False}
        self.edges: list[tuple[float, str]] = []  # "NAME" asserted, "/NAME" released
        self.said: list[tuple[float, Message]] = []
        self.spd: list[tuple[float, float]] = []
        self.states: list[State] = []
        self.event("restore")

    def _advance(self) -> None:
        for action in self.server.advance(self.now):
            match action:
                case Wire(name, asserted):
                    self.wires[name] = asserted
                    self.edges.append((round(self.now - 100, 3), name if asserted else f"/{name}"))
                case Message():
                    self.said.append((self.now - 100, action))
                    self.answer_at = self.now + self.latency
                case SpdRead():
                    self.spd.append((self.now, self.now + action.seconds))
        if not self.server.in_flight:
            self.answer_at = None
        if not self.states or self.states[-1] is not self.server.state:
            self.states.append(self.server.state)

    def event(self, name: str) -> bool:
        meant = self.server.event(name, self.now)
        self._advance()
        return meant

    def line(self, name: str, asserted: bool) -> None:
        self.server.line(name, asserted, self.now)
        self._advance()

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            times = [time for time in (self.server.due(), self.answer_at) if time is not None and time <= end]
            if not times:
                break
            self.now = max(self.now, min(times))
            if self.answer_at is not None and self.answer_at <= self.now:
                self.answer_at = None
                self.server.answered(self.now)
            self._advance()
        self.now = end

    def is_in(self, state: State) -> bool:
        return self.server.state is state

    def press(self, name: str = "POWER_OUT", seconds: float = 0.2) -> None:
        self.line(name, True)
        self.wait(seconds)
        self.line(name, False)

    def boot(self) -> None:
        self.press()
        self.wait(10)
        assert self.is_in(State.OS)
        self.edges.clear()
        self.said.clear()
        self.states.clear()


def names(edges: list[tuple[float, str]]) -> list[str]:
    return [name for _, name in edges]


def labels(machine: Machine) -> list[Message]:
    return [message for _, message in machine.said]


def test_every_rule_names_a_program() -> None:
    assert set(RULES.values()) <= set(programs(BOARD, Settings()))


def test_in_standby_nothing_happens() -> None:
    machine = Machine()
    machine.wait(1000)
    assert machine.is_in(State.OFF)
    assert machine.server.due() is None
    assert (machine.edges, machine.said) == ([], [])


def test_power_on_to_the_operating_system() -> None:
    machine = Machine()
    machine.press()
    machine.wait(10)
    assert machine.states == [State.OFF, State.POWERING, State.RESET, State.POST, State.OS]
    assert names(machine.edges) == ["/SLP_S5", "PS_PWROK", "/PLTRST", "POST_COMPLETE"]
    times = [time for time, _ in machine.edges]
    assert times[:3] == [0.0, 0.1, 0.2]
    assert times[3] == pytest.approx(4.2)
    assert machine.server.phase == "login"
    assert machine.server.boots == 1
    said = labels(machine)
    assert said.index(SET_S2) == 1
    assert said.index(SET_S0) == len(said) - 2  # only the OS's own event comes later
    (first, first_end), (second, _) = machine.spd
    assert first_end - first == pytest.approx(0.02331)
    assert second >= first_end


def test_a_slow_bmc_delays_what_comes_after_its_answer_only() -> None:
    machine = Machine(latency=0.9)
    machine.press()
    machine.wait(20)
    times = [time for time, _ in machine.said]
    assert all(later - earlier >= 0.9 for earlier, later in pairwise(times))
    assert machine.is_in(State.OS)


def test_a_bmc_that_never_answers_holds_the_boot_until_that_is_given_up() -> None:
    machine = Machine(latency=1000)
    machine.press()
    machine.wait(100)
    assert machine.is_in(State.POST)
    assert len(machine.said) == 1
    machine.server.answered(machine.now)  # given up
    machine.wait(1)
    assert labels(machine)[1] is SET_S2


def test_soft_off() -> None:
    machine = Machine()
    machine.boot()
    machine.press()
    start = machine.now
    machine.wait(5)
    assert machine.states[-2:] == [State.SHUTTING_DOWN, State.OFF]
    assert labels(machine) == [SET_S5]
    assert machine.said[0][0] + 100 - start == pytest.approx(1.0, abs=0.01)
    assert names(machine.edges) == ["/POST_COMPLETE", "SLP_S5", "/PS_PWROK", "PLTRST"]
    assert machine.server.phase == ""


def test_power_button_during_post_needs_no_operating_system() -> None:
    machine = Machine()
    machine.press()
    machine.wait(2)
    machine.press()
    machine.wait(0.5)
    assert machine.is_in(State.OFF)
    assert labels(machine)[-1] is SET_S5
    assert not machine.wires["PS_PWROK"]


def test_a_long_press_that_switches_on_does_not_switch_off_again() -> None:
    machine = Machine()
    machine.press(seconds=1.5)
    machine.wait(10)
    assert machine.is_in(State.OS)


@pytest.mark.parametrize("when", [0.05, 0.15, 2.0, 8.0], ids=["powering", "reset", "post", "os"])
def test_override_cuts_the_power_with_no_word(when: float) -> None:
    machine = Machine(reset=10.0 if when == 0.15 else 0.1)
    machine.press(seconds=0.04)
    machine.wait(when - 0.04)
    machine.line("POWER_OUT", True)
    if when < 0.2:  # keep it there
        machine.server.settings = machine.server.settings.changed({"override": 0.01})
    said = len(machine.said)
    override = machine.server.settings.override
    machine.wait(override - 0.005)
    assert not machine.is_in(State.OFF)
    machine.wait(0.01)
    assert machine.is_in(State.OFF)
    assert machine.wires == {"SLP_S5": True, "PLTRST": True, "PS_PWROK": False, "POST_COMPLETE": False}
    assert SET_S5 not in labels(machine)[said:]
    machine.line("POWER_OUT", False)
    machine.wait(20)
    assert machine.is_in(State.OFF)


def test_shutting_down_ignores_another_press_but_not_the_override() -> None:
    machine = Machine(shutdown=60)
    machine.boot()
    machine.press()
    machine.press()
    machine.wait(1)
    assert machine.is_in(State.SHUTTING_DOWN)
    machine.press(seconds=4.1)
    assert machine.is_in(State.OFF)
    assert SET_S5 not in labels(machine)


@pytest.mark.parametrize("cause", ["line", "os-reboot"])
def test_warm_reset(cause: str) -> None:
    machine = Machine()
    machine.boot()
    if cause == "line":
        machine.press("RESET_OUT", 0.5)
    else:
        machine.event(cause)
    machine.wait(10)
    assert machine.states[-3:] == [State.RESET, State.POST, State.OS]
    assert names(machine.edges) == ["PLTRST", "/POST_COMPLETE", "/PLTRST", "POST_COMPLETE"]
    assert machine.wires["PS_PWROK"]
    assert machine.server.boots == 2


def test_the_reset_line_holds_the_host_in_reset() -> None:
    machine = Machine()
    machine.boot()
    machine.line("RESET_OUT", True)
    machine.wait(60)
    assert machine.is_in(State.RESET)
    assert machine.server.due() is None
    released = machine.now
    machine.line("RESET_OUT", False)
    machine.wait(1)
    time, edge = machine.edges[-1]
    assert (time, edge) == (round(released - 100 + 0.1, 3), "/PLTRST")


def test_the_reset_line_holds_a_host_that_is_switched_on() -> None:
    machine = Machine()
    machine.line("RESET_OUT", True)
    machine.press()
    machine.wait(60)
    assert machine.is_in(State.RESET)
    assert machine.wires["PLTRST"]
    machine.line("RESET_OUT", False)
    machine.wait(10)
    assert machine.is_in(State.OS)


@pytest.mark.parametrize("when", [0.05, 0.15, 0.31, 2.0, 8.0])
def test_lost_power(when: float) -> None:
    machine = Machine()
    machine.press(seconds=0.04)
    machine.wait(when - 0.04)
    said = len(machine.said)
    assert machine.event("lose-power")
    assert machine.is_in(State.DARK)
    assert machine.edges[-4:] == [
        (when, name) for name in ("/PS_PWROK", "SLP_S5", "PLTRST", "/POST_COMPLETE")
    ]
    machine.press()
    machine.wait(10)
    assert machine.is_in(State.DARK)  # no supply, no power
    assert len(machine.said) == said
    assert machine.event("restore")
    machine.press()
    machine.wait(10)
    assert machine.is_in(State.OS)


def test_power_that_comes_back_may_switch_on() -> None:
    machine = Machine()
    machine.boot()
    machine.event("lose-power")
    assert machine.event("restore-on")
    machine.wait(10)
    assert machine.is_in(State.OS)


def test_what_makes_no_sense_does_nothing() -> None:
    machine = Machine()
    assert not any(machine.event(name) for name in ("os-reboot", "os-shutdown", "restore", "nonsense"))
    machine.press("RESET_OUT")
    machine.press("NMI_OUT")
    machine.press("POWER_OUT", 0.2)
    machine.wait(0.01)
    assert machine.is_in(State.POST)


def test_new_settings_are_for_the_next_program() -> None:
    machine = Machine()
    machine.press()
    machine.wait(1)
    machine.server.settings = Settings(post_scale=100)
    machine.wait(5)
    assert machine.is_in(State.OS)
    machine.press("RESET_OUT")
    machine.wait(200)
    assert machine.is_in(State.POST)
