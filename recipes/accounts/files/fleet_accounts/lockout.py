# SPDX-License-Identifier: Apache-2.0
"""Who is locked out after too many wrong passwords. In memory: a restart of the service forgets it."""

import time
from collections.abc import Callable

FAILURES = 5  # in a row
SECONDS = 300.0  # from the last of them on; attempts meanwhile are refused and do not prolong it


class Lockout:
    """Counts failures by user. The caller names known users only, so there are never many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def is_locked(self, user: str) -> bool:
        """Whether the user is locked out now."""
        until = self._until.get(user)
        if until is None:
            return False
        if self._clock() < until:
            return True
        self.unlock(user)
        return False

    def failed(self, user: str) -> bool:
        """Count a failure; whether it is the one that locks the user out."""
        if self.is_locked(user):
            return False
        self._failures[user] = self._failures.get(user, 0) + 1
        if self._failures[user] < FAILURES:
            return False
        self._until[user] = self._clock() + SECONDS
        return True

    def unlock(self, user: str) -> None:
        """Begin to count anew: after a success, by order, or because the user is gone."""
        self._failures.pop(user, None)
        self._until.pop(user, None)

    def rename(self, user: str, new_name: str) -> None:
        """Keep what is counted under the user's new name."""
        if user in self._failures:
            self._failures[new_name] = self._failures.pop(user)
        if user in self._until:
            self._until[new_name] = self._until.pop(user)
