# SPDX-License-Identifier: Apache-2.0
"""Who is locked out, on a clock of the test."""

import pytest

from fleet_accounts.lockout import FAILURES, SECONDS, Lockout


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lockout(clock: Clock) -> Lockout:
    return Lockout(clock)


def lock(lockout: Lockout, user: str) -> None:
    assert [lockout.failed(user) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]


def test_the_documented_bounds() -> None:
    assert (FAILURES, SECONDS) == (5, 300.0)


def test_failures_in_a_row_lock_out(lockout: Lockout, clock: Clock) -> None:
    lock(lockout, "a")
    assert lockout.is_locked("a")
    assert not lockout.is_locked("b")
    clock.now += SECONDS - 0.001
    assert lockout.is_locked("a")
    clock.now += 0.001
    assert not lockout.is_locked("a")
    lock(lockout, "a")


def test_a_success_begins_the_count_anew(lockout: Lockout) -> None:
    for _ in range(3):
        for _ in range(FAILURES - 1):
            assert not lockout.failed("a")
        lockout.unlock("a")
    assert not lockout.is_locked("a")


def test_attempts_meanwhile_prolong_nothing(lockout: Lockout, clock: Clock) -> None:
    lock(lockout, "a")
    clock.now += SECONDS - 1
    for _ in range(100):
        assert not lockout.failed("a")
    clock.now += 1
    assert not lockout.is_locked("a")


def test_rename_keeps_the_count(lockout: Lockout) -> None:
    lock(lockout, "a")
    lockout.failed("b")
    lockout.rename("a", "c")
    lockout.rename("b", "d")
    lockout.rename("unknown", "e")
    assert [lockout.is_locked(user) for user in "abcde"] == [False, False, True, False, False]
    assert [lockout.failed("d") for _ in range(FAILURES - 1)][-1]
