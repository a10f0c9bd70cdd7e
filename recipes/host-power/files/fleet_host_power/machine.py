# SPDX-License-Identifier: Apache-2.0
"""The power state machine: a table from (state, event) to what follows, and a clock that the caller holds.

Three rules keep it whole:

- A state says whether PS_PWROK is asserted (`POWERED`), and an edge of PS_PWROK leads to one that agrees.
- Each state that is not at rest has one timer (`BOUND`), so none can last for ever. After it the machine is
  where the rails are, and `Machine.fault` tells what did not happen.
- What is driven follows from the state and the timers that run: POWER_OUT while power is forced off, during a
  power pulse and while the power button is passed on; RESET_OUT likewise.

Nothing here reads a clock or touches a line. Times are milliseconds of any clock that never goes backwards.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

# --- Lines ---

POWER_OUT, RESET_OUT = "POWER_OUT", "RESET_OUT"
PS_PWROK, SLP_S5, PLTRST, POST_COMPLETE = "PS_PWROK", "SLP_S5", "PLTRST", "POST_COMPLETE"
POWER_BUTTON, RESET_BUTTON = "POWER_BUTTON", "RESET_BUTTON"
INPUTS = (PS_PWROK, SLP_S5, PLTRST, POST_COMPLETE, POWER_BUTTON, RESET_BUTTON)
OUTPUTS = (POWER_OUT, RESET_OUT)

# --- States ---

OFF = "Off"
POWERING_ON = "PoweringOn"  # told to come on, or coming on by itself; waiting for PS_PWROK
ON = "On"
GRACEFUL_OFF = "GracefulOff"  # the operating system was asked to shut down
GRACEFUL_CYCLE = "GracefulCycle"  # likewise, and then on again
FORCE_OFF = "ForceOff"  # POWER_OUT is held until PS_PWROK drops
FORCE_CYCLE = "ForceCycle"  # likewise, and then on again
CYCLE_OFF = "CycleOff"  # off for a moment, in the middle of a cycle
SHUTTING_DOWN = "ShuttingDown"  # the host goes off by itself: SLP_S5 before PS_PWROK
RESETTING = "Resetting"  # RESET_OUT was driven; waiting for the reset to be seen
WARM_RESET = "WarmReset"  # a reset was seen; for a moment it may still turn out to be a shutdown

STATES = (
    *(OFF, POWERING_ON, ON, GRACEFUL_OFF, GRACEFUL_CYCLE, FORCE_OFF, FORCE_CYCLE, CYCLE_OFF),
    *(SHUTTING_DOWN, RESETTING, WARM_RESET),
)
POWERED = frozenset(STATES) - {OFF, POWERING_ON, CYCLE_OFF}
FORCING = frozenset({FORCE_OFF, FORCE_CYCLE})
GOING_OFF = FORCING | {GRACEFUL_OFF, GRACEFUL_CYCLE, SHUTTING_DOWN}

# --- Timers ---

POWER_PULSE, RESET_PULSE = "power_pulse_ms", "reset_pulse_ms"
POWER_HOLD, RESET_HOLD = "power_button_ms", "reset_button_ms"
POWER_OK, OFF_TIME, FORCE, GRACEFUL = "power_ok_ms", "off_time_ms", "force_off_ms", "graceful_off_ms"
SHUTDOWN, RESET, WARM = "shutdown_ms", "reset_ms", "warm_reset_ms"

# The timer of each state that is not at rest. It starts when the state begins; between two states with the
# same timer it runs on, so that changing one's mind gains no time.
BOUND = {
    POWERING_ON: POWER_OK,
    GRACEFUL_OFF: GRACEFUL,
    GRACEFUL_CYCLE: GRACEFUL,
    FORCE_OFF: FORCE,
    FORCE_CYCLE: FORCE,
    CYCLE_OFF: OFF_TIME,
    SHUTTING_DOWN: SHUTDOWN,
    RESETTING: RESET,
    WARM_RESET: WARM,
}
# The timers that drive a line while they run.
DRIVES = {POWER_PULSE: POWER_OUT, POWER_HOLD: POWER_OUT, RESET_PULSE: RESET_OUT, RESET_HOLD: RESET_OUT}
_PRESSED = {POWER_BUTTON: POWER_HOLD, RESET_BUTTON: RESET_HOLD}
# What they are when nothing else is configured.
TIMERS = {
    POWER_PULSE: 200,
    RESET_PULSE: 500,
    POWER_HOLD: 15_000,
    RESET_HOLD: 15_000,
    POWER_OK: 8_000,
    OFF_TIME: 1_000,
    FORCE: 15_000,
    GRACEFUL: 300_000,
    SHUTDOWN: 15_000,
    RESET: 2_000,
    WARM: 500,
}

# --- Events: an edge of a line, the end of a timer, a request ---

EDGES = tuple(f"{line} {edge}" for line in INPUTS for edge in ("asserted", "released"))
DO_ON, DO_OFF, DO_FORCE_OFF = "on", "off", "force off"
DO_CYCLE, DO_GRACEFUL_CYCLE, DO_RESET = "cycle", "graceful cycle", "reset"
REQUESTS = (DO_ON, DO_OFF, DO_FORCE_OFF, DO_CYCLE, DO_GRACEFUL_CYCLE, DO_RESET)
EVENTS = (*EDGES, *TIMERS, *REQUESTS)

# --- What follows ---

# Causes of a restart (phosphor-dbus-interfaces, xyz.openbmc_project.State.Host, RestartCause).
REMOTE, BY_POWER_BUTTON, BY_RESET_BUTTON = "RemoteCommand", "PowerButton", "ResetButton"
SOFT_RESET, UNKNOWN_CAUSE = "SoftReset", "Unknown"

# Events for the log.
POWER_LOST, POWER_ON_FAILED, POWER_OFF_FAILED = "PowerLost", "PowerOnFailed", "PowerOffFailed"


class Cell(NamedTuple):
    """What an event leads to in a state. `start` names timers; empty texts mean: nothing.

    `refusal`: nothing happens, and the client is told why. `fulfilled`: nothing happens, it is so already.
    """

    state: str
    start: tuple[str, ...] = ()
    cause: str = ""
    fault: str = ""
    event: str = ""
    new_boot: bool = False
    fulfilled: bool = False
    refusal: str = ""


class NotInThisState(Exception):
    """A request makes no sense in the present state; the text says why and when it would."""


# Refusals, and faults; {0} is a time in ms.
_IS_OFF = "the host is off"
_COMING = "the host is being powered on; ask again when it is on"
_IN_RESET = "the host is being reset; ask again when that is done"
_GOING = "the host is on its way to off; it cannot be reset"
_IN_CYCLE = "the host is in a power cycle; it cannot be reset"

_NO_POWER = "power-on failed: PS_PWROK did not come within {0} ms"
_STILL_POWER = "forced power-off failed: PS_PWROK did not drop while POWER_OUT was held for {0} ms"
_STILL_RUNNING = "the host did not shut down within {0} ms; it stays on"
_STUCK = "the host did not go off: SLP_S5 was asserted, but PS_PWROK did not drop within {0} ms"
_NO_RESET = "the host was not reset: PLTRST did not come within {0} ms"

# Requests, in the order of REQUESTS: the next state, _SAME where it is so already, or the text of a refusal.
# On the way to off, a request to be on in the end makes a cycle of it.
_SAME = ""
_ANSWERS = {
    OFF: (POWERING_ON, _SAME, _SAME, _IS_OFF, _IS_OFF, _IS_OFF),
    POWERING_ON: (_SAME, _COMING, _COMING, _COMING, _COMING, _COMING),
    ON: (_SAME, GRACEFUL_OFF, FORCE_OFF, FORCE_CYCLE, GRACEFUL_CYCLE, RESETTING),
    GRACEFUL_OFF: (GRACEFUL_CYCLE, _SAME, FORCE_OFF, FORCE_CYCLE, GRACEFUL_CYCLE, RESETTING),
    GRACEFUL_CYCLE: (_SAME, GRACEFUL_OFF, FORCE_OFF, FORCE_CYCLE, _SAME, RESETTING),
    FORCE_OFF: (FORCE_CYCLE, _SAME, _SAME, FORCE_CYCLE, FORCE_CYCLE, _GOING),
    FORCE_CYCLE: (_SAME, FORCE_OFF, FORCE_OFF, _SAME, _SAME, _IN_CYCLE),
    CYCLE_OFF: (_SAME, OFF, OFF, _SAME, _SAME, _IN_CYCLE),
    SHUTTING_DOWN: (GRACEFUL_CYCLE, _SAME, FORCE_OFF, FORCE_CYCLE, GRACEFUL_CYCLE, _GOING),
    RESETTING: (_SAME, _IN_RESET, FORCE_OFF, FORCE_CYCLE, _IN_RESET, _SAME),
    WARM_RESET: (_SAME, GRACEFUL_OFF, FORCE_OFF, FORCE_CYCLE, GRACEFUL_CYCLE, RESETTING),
}

# Where PS_PWROK drops: the next state, the log's event.
_POWER_DROPS = {
    ON: (OFF, POWER_LOST),
    RESETTING: (OFF, POWER_LOST),
    WARM_RESET: (OFF, POWER_LOST),
    GRACEFUL_OFF: (OFF, ""),
    FORCE_OFF: (OFF, ""),
    SHUTTING_DOWN: (OFF, ""),
    GRACEFUL_CYCLE: (CYCLE_OFF, ""),
    FORCE_CYCLE: (CYCLE_OFF, ""),
}

# The end of a state's timer: the next state, the fault, the log's event.
_TOO_LATE = {
    POWERING_ON: (OFF, _NO_POWER, POWER_ON_FAILED),
    GRACEFUL_OFF: (ON, _STILL_RUNNING, ""),
    GRACEFUL_CYCLE: (ON, _STILL_RUNNING, ""),
    FORCE_OFF: (ON, _STILL_POWER, POWER_OFF_FAILED),
    FORCE_CYCLE: (ON, _STILL_POWER, POWER_OFF_FAILED),
    SHUTTING_DOWN: (ON, _STUCK, POWER_OFF_FAILED),
    RESETTING: (ON, _NO_RESET, ""),
}


def _table() -> dict[tuple[str, str], Cell]:
    # Where nothing else is said, an event changes nothing.
    table = {(state, event): Cell(state) for state in STATES for event in EVENTS}

    for state, answers in _ANSWERS.items():
        for request, answer in zip(REQUESTS, answers, strict=True):
            table[state, request] = _answer(state, answer)

    power_comes, power_drops = f"{PS_PWROK} asserted", f"{PS_PWROK} released"
    table[OFF, power_comes] = Cell(ON, cause=UNKNOWN_CAUSE, new_boot=True)
    for state in (POWERING_ON, CYCLE_OFF):
        table[state, power_comes] = Cell(ON, new_boot=True)
    for state, (following, event) in _POWER_DROPS.items():
        table[state, power_drops] = Cell(following, event=event, new_boot=True)

    table[OFF, f"{SLP_S5} released"] = Cell(POWERING_ON, cause=UNKNOWN_CAUSE)
    table[CYCLE_OFF, f"{SLP_S5} released"] = Cell(POWERING_ON)
    for state in (ON, WARM_RESET):
        table[state, f"{SLP_S5} asserted"] = Cell(SHUTTING_DOWN)
    table[SHUTTING_DOWN, f"{SLP_S5} released"] = Cell(ON)

    # POST_COMPLETE is heard only when it was asserted in this boot: Machine.edge.
    for sign in (f"{PLTRST} asserted", f"{POST_COMPLETE} released"):
        for state in POWERED:
            table[state, sign] = Cell(state, new_boot=True)
        table[ON, sign] = Cell(WARM_RESET, new_boot=True)
        table[RESETTING, sign] = Cell(ON, new_boot=True)
    table[RESETTING, f"{PLTRST} released"] = Cell(ON, new_boot=True)  # it was held in reset before

    pressed = f"{POWER_BUTTON} asserted"
    for state in STATES:
        table[state, pressed] = Cell(state, (POWER_HOLD,))
    for state in (OFF, CYCLE_OFF):
        table[state, pressed] = Cell(POWERING_ON, (POWER_HOLD,), cause=BY_POWER_BUTTON)
    for state in (ON, RESETTING, WARM_RESET):
        table[state, pressed] = Cell(GRACEFUL_OFF, (POWER_HOLD,))
    pressed = f"{RESET_BUTTON} asserted"
    for state in (ON, GRACEFUL_OFF, GRACEFUL_CYCLE, WARM_RESET):
        table[state, pressed] = Cell(RESETTING, (RESET_HOLD,), cause=BY_RESET_BUTTON)

    for state, (following, fault, event) in _TOO_LATE.items():
        table[state, BOUND[state]] = Cell(following, fault=fault, event=event)
    table[CYCLE_OFF, OFF_TIME] = Cell(POWERING_ON, (POWER_PULSE,))
    table[WARM_RESET, WARM] = Cell(ON, cause=SOFT_RESET)
    return table


def _answer(state: str, answer: str) -> Cell:
    if answer == _SAME:
        return Cell(state, fulfilled=True)
    if answer not in STATES:
        return Cell(state, refusal=answer)
    pulses: tuple[str, ...] = ()
    if answer == RESETTING:
        pulses = (RESET_PULSE,)
    elif answer == POWERING_ON or (answer in (GRACEFUL_OFF, GRACEFUL_CYCLE) and state in (ON, WARM_RESET)):
        pulses = (POWER_PULSE,)  # a host that goes off already is not pressed again
    return Cell(answer, pulses, cause="" if answer in (OFF, GRACEFUL_OFF, FORCE_OFF) else REMOTE)


TABLE: Mapping[tuple[str, str], Cell] = _table()


class Event(NamedTuple):
    """An event for the log: its name, the state in which it happened, the fault if there is one."""

    name: str
    state: str
    fault: str


class Machine:
    """The machine of one host: its state, its levels, its timers.

    `lines` are those that the board has. `levels` are those of the inputs now, True for asserted; one that is
    missing counts as released. The state at first is what the rails say; nothing is driven and nothing told.
    """

    def __init__(self, timers: Mapping[str, int], lines: Collection[str], levels: Mapping[str, bool]) -> None:
        self._timers = timers
        self._lines = frozenset(lines)
        self._running: dict[str, int] = {}  # timer: when it ends
        self.levels = {line: levels.get(line, False) for line in INPUTS}
        self.state = ON if self.levels[PS_PWROK] else OFF
        self.cause = UNKNOWN_CAUSE
        self.fault = ""
        # Evidence that something runs, each from this boot.
        self.is_posted = self.is_powered and self.levels[POST_COMPLETE] and not self.levels[PLTRST]
        self.is_told = False
        self.boots = 0  # how often what was known of the host's boot has become void
        self.events: list[Event] = []  # for the log; the caller takes them out

    # --- What the world sees ---

    @property
    def is_powered(self) -> bool:
        """Whether PS_PWROK is asserted."""
        return self.levels[PS_PWROK]

    @property
    def is_running(self) -> bool:
        """Whether there is evidence from this boot that the host's firmware has done its work."""
        return self.is_powered and (self.is_posted or self.is_told)

    @property
    def host_state(self) -> str:
        """State of the host (phosphor-dbus-interfaces, xyz.openbmc_project.State.Host, HostState)."""
        if not self.is_powered:
            return "Off"
        if self.state in GOING_OFF:
            return "TransitioningToOff"
        return "Running" if self.is_running else "TransitioningToRunning"

    @property
    def chassis_state(self) -> str:
        """State of the chassis (phosphor-dbus-interfaces, xyz.openbmc_project.State.Chassis, PowerState)."""
        if not self.is_powered:
            return "TransitioningToOn" if self.state == POWERING_ON else "Off"
        return "TransitioningToOff" if self.state in FORCING or self.state == SHUTTING_DOWN else "On"

    def drives(self, line: str) -> bool:
        """Whether an output has to be asserted."""
        is_forced = line == POWER_OUT and self.state in FORCING
        return is_forced or any(DRIVES.get(timer) == line for timer in self._running)

    @property
    def deadline(self) -> int | None:
        """When `expire` has to be called, or None when nothing is under way."""
        return min(self._running.values(), default=None)

    # --- What happens ---

    def request(self, request: str, now: int) -> bool:
        """Do what a client asks for; return whether something has begun, False when it is so already.

        Raises NotInThisState.
        """
        self.expire(now)
        if request == DO_RESET and RESET_OUT not in self._lines:
            raise NotInThisState("this board has no RESET_OUT line, so the host cannot be reset")
        cell = TABLE[self.state, request]
        if cell.refusal:
            raise NotInThisState(cell.refusal)
        if not cell.fulfilled:
            self.fault = ""
            self._follow(cell, now)
        return not cell.fulfilled

    def edge(self, line: str, level: bool, now: int) -> None:
        """Take in that an input is asserted, or not any more.

        Timers do not end here even when they are due: what was in time is heard before a timer judges.
        """
        if self.levels[line] == level:
            return
        self.levels[line] = level
        cell = TABLE[self.state, f"{line} {'asserted' if level else 'released'}"]
        if line == POST_COMPLETE:
            was_posted, self.is_posted = self.is_posted, level and self.is_powered
            if not level and not was_posted:
                return  # firmware takes its time to release it; that reset has been seen
        elif line in _PRESSED:
            if level:
                self.fault = ""
            else:
                self._running.pop(_PRESSED[line], None)
        elif line == PS_PWROK and not level:
            if self._is_expected_to_drop():
                cell = cell._replace(event="")
            for timer in DRIVES:
                self._running.pop(timer, None)
        self._follow(cell, now)

    def tell(self, is_running: bool) -> None:
        """Take in whether the host says that its operating system runs. Rails outrank words."""
        self.is_told = is_running and self.is_powered

    def expire(self, now: int) -> None:
        """End the timers whose time has come, the earliest first."""
        while self._running:
            timer = min(self._running, key=self._running.__getitem__)
            if self._running[timer] > now:
                return
            del self._running[timer]
            self._follow(TABLE[self.state, timer], now)

    def _follow(self, cell: Cell, now: int) -> None:
        before, self.state = self.state, cell.state
        old, new = BOUND.get(before), BOUND.get(cell.state)
        if old != new and old is not None:
            self._running.pop(old, None)
        for timer in (*cell.start, *([new] if new is not None and new != old else [])):
            self._running[timer] = now + self._timers[timer]
        if cell.cause:
            self.cause = cell.cause
        if cell.fault:
            self.fault = cell.fault.format(self._timers[BOUND[before]])
        if cell.event:
            self.events.append(Event(cell.event, before, cell.fault and self.fault))
        if cell.new_boot:
            self.boots += 1
            self.is_posted = self.is_told = False
        if cell.state == RESETTING != before and PLTRST not in self._lines:
            # Nothing will tell of the reset: take the pulse for it.
            self._follow(TABLE[RESETTING, f"{PLTRST} asserted"], now)

    def _is_expected_to_drop(self) -> bool:
        """Whether somebody wants the power to drop, or nobody can tell because the board lacks SLP_S5."""
        return POWER_HOLD in self._running or self.levels[SLP_S5] or SLP_S5 not in self._lines
