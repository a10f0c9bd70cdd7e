# SPDX-License-Identifier: Apache-2.0
"""Delay locks: who is waited for, and until when."""

from fleet_acpi_state.locks import Locks
from fleet_acpi_state.states import S0, S2


class Bench:
    def __init__(self) -> None:
        self.settled = 0
        self.locks = Locks(self._settle)
        self.locks.delay(":1.1", S2, "sensors")
        self.locks.delay(":1.2", S2, "fans")

    def _settle(self) -> None:
        self.settled += 1


def test_the_last_release_settles() -> None:
    bench = Bench()
    assert bench.locks.begin(S2)
    assert bench.locks.release(":1.1", S2)
    assert (bench.settled, bench.locks.waiting) == (0, True)
    assert bench.locks.release(":1.2", S2)
    assert bench.locks.release(":1.2", S2)
    assert (bench.settled, bench.locks.waiting) == (1, False)
    assert bench.locks.late() == []


def test_locks_stay_from_change_to_change() -> None:
    bench = Bench()
    for _ in range(2):
        assert bench.locks.begin(S2)
        bench.locks.release(":1.1", S2)
        bench.locks.release(":1.2", S2)
        assert not bench.locks.begin(S0)
    assert bench.settled == 2


def test_who_leaves_is_not_waited_for() -> None:
    bench = Bench()
    bench.locks.begin(S2)
    bench.locks.gone(":1.1")
    bench.locks.gone(":1.9")
    assert bench.locks.drop(":1.2", S2)
    assert bench.settled == 1
    assert not bench.locks.begin(S2)
    assert not bench.locks.drop(":1.2", S2)


def test_who_is_late_is_named_once() -> None:
    bench = Bench()
    bench.locks.begin(S2)
    bench.locks.release(":1.1", S2)
    assert bench.locks.late() == ["fans"]
    assert bench.locks.late() == []
    assert bench.locks.release(":1.2", S2)  # too late, and no harm
    assert bench.settled == 0


def test_others_cannot_release() -> None:
    bench = Bench()
    bench.locks.begin(S2)
    assert not bench.locks.release(":1.3", S2)
    assert not bench.locks.release(":1.1", S0)
    assert bench.locks.late() == ["fans", "sensors"]
