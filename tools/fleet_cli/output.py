# SPDX-License-Identifier: Apache-2.0
"""What a command says: lines for people, or with --json one object for machines (and the lines on stderr)."""

import json
import sys
from typing import Any, TextIO


class Output:
    """Where a command's words go."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def stream(self) -> TextIO:
        """The stream for people's lines, also for the output of programs that the command runs."""
        return sys.stderr if self.as_json else sys.stdout

    def say(self, line: str = "") -> None:
        """One line for people, at once."""
        print(line, file=self.stream, flush=True)

    def result(self, data: dict[str, Any] | list[Any]) -> None:
        """The result for machines; nothing without --json."""
        if self.as_json:
            print(json.dumps(data, indent=2), flush=True)
