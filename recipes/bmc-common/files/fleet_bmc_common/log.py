# SPDX-License-Identifier: Apache-2.0
"""Messages on standard error, with the level prefix that journald reads (sd-daemon(3)).

The prefix is written only when standard error goes to the journal, so that a run by hand stays readable.
"""

import os
import sys

# Levels of syslog(3).
_ERROR, _WARNING, _INFO = 3, 4, 6


def error(text: str) -> None:
    """Something failed and somebody has to act."""
    _write(_ERROR, text)


def warning(text: str) -> None:
    """Something is wrong; the service goes on."""
    _write(_WARNING, text)


def info(text: str) -> None:
    """Something that the operator wants to find in the journal later."""
    _write(_INFO, text)


def _write(level: int, text: str) -> None:
    prefix = f"<{level}>" if _is_journal() else ""
    sys.stderr.write("".join(f"{prefix}{line}\n" for line in text.splitlines()))
    sys.stderr.flush()


def _is_journal() -> bool:
    """Whether standard error is what systemd connected to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    expected = os.environ.get("JOURNAL_STREAM")
    if not expected:
        return False
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return expected == f"{status.st_dev}:{status.st_ino}"
