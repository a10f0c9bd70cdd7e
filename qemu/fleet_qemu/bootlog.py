# SPDX-License-Identifier: Apache-2.0
"""How far a board has booted, read from its serial console."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Marker:
    """A phase of the boot and the line that shows it was reached."""

    phase: str
    pattern: re.Pattern[str]


def _marker(phase: str, pattern: str) -> Marker:
    return Marker(phase, re.compile(pattern))


MARKERS = (
    _marker("SPL", r"^U-Boot SPL \d"),
    _marker("U-Boot", r"^U-Boot \d"),
    _marker("FIT", r"^## Loading (kernel|.*from FIT)"),
    _marker("kernel", r"Booting Linux on physical CPU|Linux version \d"),
    _marker("systemd", r"systemd\[1\]: (systemd \S+ running in system mode|Hostname set to)|^Welcome to "),
    # The kernel may speak on the line that waits for a name.
    _marker("login", r"\blogin: ?(?=$|\[)"),
)

# What ends a boot for good: (what to tell the user, pattern).
FAILURES = (
    ("the kernel panicked", re.compile(r"Kernel panic - not syncing: ?(.*)")),
    ("U-Boot stopped", re.compile(r"### ERROR ### (.*)")),
    ("U-Boot refused the image", re.compile(r"(Bad hash value for .*|ERROR: can't get kernel image.*)")),
    ("the boot went to emergency mode", re.compile(r"You are in (emergency|rescue) mode")),
)

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class BootLog:
    """Follows one boot. Feed it what the console says, in any pieces."""

    def __init__(self) -> None:
        self._rest = ""
        self._next = 0
        self.phase = ""  # the last one reached
        self.restarts = 0  # how often the board started over by itself
        self.failure = ""  # why it will not come up, empty while it may

    def feed(self, text: str) -> list[str]:
        """Take more text; the phases reached in it. A phase that shows no line of its own is passed over."""
        lines = (self._rest + text).split("\n")
        self._rest = lines[-1]  # the login prompt has no line end
        reached = []
        for line in lines:
            phase = self._line(_ESCAPES.sub("", line).strip("\r"))
            if phase:
                reached.append(phase)
        return reached

    def _line(self, line: str) -> str:
        if self._next > 1 and MARKERS[0].pattern.search(line):
            self._next = 0
            self.restarts += 1
            self.failure = ""  # a panic may be followed by a reset
        for index in range(self._next, len(MARKERS)):
            if MARKERS[index].pattern.search(line):
                self._next = index + 1
                self.phase = MARKERS[index].phase
                return self.phase
        for what, pattern in FAILURES:
            match = pattern.search(line)
            if match and not self.failure:
                self.failure = f"{what}: {match[0].strip()}"
        return ""
