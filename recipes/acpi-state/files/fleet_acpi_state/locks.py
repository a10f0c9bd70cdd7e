# SPDX-License-Identifier: Apache-2.0
"""Delay locks: who wants to finish something before the host is told that its new state is known.

As logind's delay inhibitors (systemd, org.freedesktop.login1(5), "Inhibitor locks"), but by bus name and for
one state each, and kept from one change to the next.
"""

from collections.abc import Callable


class Locks:
    """Who delays which state, and whom the present change still waits for."""

    def __init__(self, settled: Callable[[], None]) -> None:
        """`settled` is called when the last one that a change waits for has released or gone."""
        self._settled = settled
        self._who: dict[tuple[str, str], str] = {}
        self._pending: set[str] = set()
        self._state = ""

    def delay(self, owner: str, state: str, who: str) -> None:
        """The connection `owner`, called `who`, wants to be waited for when `state` begins."""
        self._who[owner, state] = who

    def drop(self, owner: str, state: str) -> bool:
        """The connection no longer wants to be waited for; whether it ever did."""
        if self._who.pop((owner, state), None) is None:
            return False
        if state == self._state:
            self._done(owner)
        return True

    def begin(self, state: str) -> bool:
        """A change to `state` begins; whether somebody must be waited for."""
        self._state = state
        self._pending = {owner for owner, delayed in self._who if delayed == state}
        return bool(self._pending)

    def release(self, owner: str, state: str) -> bool:
        """The connection has finished what it wanted to; whether it holds a lock."""
        if (owner, state) not in self._who:
            return False
        if state == self._state:
            self._done(owner)
        return True

    def gone(self, owner: str) -> None:
        """The connection has left the bus."""
        for lock in [lock for lock in self._who if lock[0] == owner]:
            del self._who[lock]
        self._done(owner)

    def late(self) -> list[str]:
        """Return the names of those that the present change still waits for, and wait no longer."""
        names = sorted(self._who[owner, self._state] for owner in self._pending)
        self._pending = set()
        return names

    @property
    def waiting(self) -> bool:
        """Whether the present change still waits for somebody."""
        return bool(self._pending)

    def _done(self, owner: str) -> None:
        if owner in self._pending:
            self._pending.discard(owner)
            if not self._pending:
                self._settled()
