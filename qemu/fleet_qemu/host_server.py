# SPDX-License-Identifier: Apache-2.0
"""The simulated server as a state machine: which event starts which program, and how a program advances.

Pure: it is told events and the time, and gives back what to do. host.py does it.
"""

from collections.abc import Mapping

from fleet_qemu.host_timeline import (
    Action,
    Await,
    Enter,
    Go,
    Message,
    Phase,
    Program,
    Settings,
    SpdRead,
    State,
    programs,
)
from fleet_qemu.host_wires import POWER_OUT, RESET_OUT
from fleetboard import Board

_RUNNING = (State.POST, State.OS, State.SHUTTING_DOWN)
_RAILS_UP = (State.POWERING, State.RESET, *_RUNNING)

# (state, event) -> program. An event that is not here does nothing in that state.
RULES: Mapping[tuple[State, str], str] = {
    (State.OFF, "power-press"): "power-up",
    (State.POST, "power-click"): "soft-off",  # no OS yet: the firmware does it
    (State.OS, "power-click"): "os-shutdown",
    **{(state, "power-hold"): "power-cut" for state in _RAILS_UP},
    **{(state, "reset-press"): "reset" for state in _RUNNING},
    (State.OS, "os-shutdown"): "os-shutdown",
    (State.OS, "os-reboot"): "reset",
    **{(state, "lose-power"): "power-lost" for state in (State.OFF, *_RAILS_UP)},
    (State.DARK, "restore"): "standby",
    (State.DARK, "restore-on"): "power-up",
}


class Server:
    """The server. Times are seconds on any clock that only goes forward."""

    def __init__(self, board: Board, settings: Settings) -> None:
        self._board = board
        self.state = State.DARK
        self.phase = ""  # of firmware or operating system; empty when neither runs
        self.boots = 0  # how often the firmware started
        self._asserted = {POWER_OUT: False, RESET_OUT: False}
        self._pressed_at: float | None = None  # POWER_OUT, until the press is over or was long enough
        self._spent = False  # that press has switched on: its end is no click
        self._program: Program = ()
        self._next = 0
        self._started = 0.0
        self._free_at = 0.0  # when the step before is done
        self._in_flight = False  # a message is on its way
        self.settings = settings

    @property
    def settings(self) -> Settings:
        """How it behaves; a program that runs keeps the times that it started with."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = settings
        self._programs = programs(self._board, settings)

    def event(self, name: str, now: float) -> bool:
        """Start the event's program; False when it means nothing in this state. Call `advance` then."""
        program = RULES.get((self.state, name))
        if program is None:
            return False
        self._start(program, now)
        return True

    def line(self, name: str, asserted: bool, now: float) -> None:
        """The BMC has asserted or released an output at `now`. Call `advance` then."""
        if name not in self._asserted:
            return
        self._asserted[name] = asserted
        if name == RESET_OUT:
            if asserted:
                self.event("reset-press", now)
        elif asserted:
            self._pressed_at, self._spent = now, self.event("power-press", now)
        elif self._pressed_at is not None:
            held = now - self._pressed_at
            self._pressed_at = None
            if held >= self._settings.override:
                self.event("power-hold", now)
            elif not self._spent:
                self.event("power-click", now)

    def answered(self, now: float) -> None:
        """The message on its way has been answered or given up. Call `advance` then."""
        self._in_flight = False
        self._free_at = now

    def due(self) -> float | None:
        """When `advance` has something to do next; None: not before something happens."""
        times = []
        if self._pressed_at is not None:
            times.append(self._pressed_at + self._settings.override)
        if self._next < len(self._program) and not self._in_flight and not self._held_up():
            times.append(self._step_at())
        return min(times, default=None)

    def advance(self, now: float) -> list[Action]:
        """Do what is due; what that means for wires, serial port, BMC and log, in order.

        After a `Message` nothing more is due until `answered`. One that is on its way when another program
        starts is to be dropped: see `in_flight`.
        """
        if self._pressed_at is not None and now >= self._pressed_at + self._settings.override:
            self._pressed_at = None
            self.event("power-hold", now)
        done: list[Action] = []
        while (
            self._next < len(self._program)
            and not self._in_flight
            and not self._held_up()
            and self._step_at() <= now
        ):
            at, action = self._step_at(), self._program[self._next].do
            self._next += 1
            self._free_at = at
            match action:
                case Go(program):
                    self._start(program, at)
                    continue
                case Await():
                    self._free_at = now
                    continue
                case Enter(state):
                    if state is self.state:
                        continue
                    self.state = state
                    if state not in _RUNNING:
                        self.phase = ""
                    self.boots += state is State.POST
                case Phase(name):
                    self.phase = name
                case Message():
                    self._in_flight = True
                case SpdRead():
                    self._free_at = max(now, at) + action.seconds
            done.append(action)
        return done

    @property
    def in_flight(self) -> bool:
        """Whether the program waits for a message's answer."""
        return self._in_flight

    def _start(self, program: str, now: float) -> None:
        self._program = self._programs[program]
        self._next = 0
        self._started = self._free_at = now
        self._in_flight = False

    def _step_at(self) -> float:
        return max(self._free_at, self._started + self._program[self._next].at)

    def _held_up(self) -> bool:
        action = self._program[self._next].do
        return isinstance(action, Await) and self._asserted.get(action.name, False)
