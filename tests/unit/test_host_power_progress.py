# SPDX-License-Identifier: Apache-2.0
"""Boot progress: forward within a boot, back to Unspecified with the next."""

from hypothesis import given
from hypothesis import strategies as st

from fleet_host_power.progress import ORDER, STAGES, Progress


def test_a_boot() -> None:
    progress = Progress()
    assert (progress.stage, progress.last_update) == ("Unspecified", 0)
    for time, stage in enumerate(ORDER[1:], 1):
        progress.reach(stage, time)
        assert (progress.stage, progress.last_update) == (stage, time)
    progress.restart(99)
    assert (progress.stage, progress.last_update) == ("Unspecified", 99)
    progress.restart(100)  # nothing to update
    assert progress.last_update == 99


def test_a_late_word_changes_nothing() -> None:
    progress = Progress()
    progress.infer("OSRunning", 1)
    for stage in ("PrimaryProcInit", "OSStart", "OEM"):
        progress.reach(stage, 2)
        assert (progress.stage, progress.last_update) == ("OSRunning", 1)
    progress.infer("SystemInitComplete", 3)
    assert progress.stage == "OSRunning"


def test_what_nobody_told_is_older_than_what_somebody_did() -> None:
    progress = Progress()
    progress.reach("OSStart", 1)
    progress.infer("SystemInitComplete", 2)
    assert (progress.stage, progress.last_update) == ("OSStart", 1)
    progress.infer("OSRunning", 3)
    assert (progress.stage, progress.last_update) == ("OSRunning", 3)


def test_the_same_again_is_a_sign_of_life() -> None:
    progress = Progress()
    progress.reach("MemoryInit", 1)
    progress.reach("MemoryInit", 2)
    assert (progress.stage, progress.last_update) == ("MemoryInit", 2)


def test_oem_has_no_place_in_the_order() -> None:
    progress = Progress()
    progress.reach("PCIInit", 1)
    progress.reach("OEM", 2)
    assert progress.stage == "OEM"
    progress.reach("BusInit", 3)
    assert progress.stage == "OEM"
    progress.reach("SystemSetup", 4)
    assert progress.stage == "SystemSetup"


def test_writing_unspecified_begins_anew() -> None:
    progress = Progress()
    progress.reach("OSRunning", 1)
    progress.reach("Unspecified", 2)
    assert (progress.stage, progress.last_update) == ("Unspecified", 2)
    progress.reach("PrimaryProcInit", 3)
    assert progress.stage == "PrimaryProcInit"


@given(st.lists(st.sampled_from(STAGES[1:])))
def test_it_never_goes_back(stages: list[str]) -> None:
    progress, place = Progress(), 0
    for time, stage in enumerate(stages, 1):
        progress.reach(stage, time)
        if progress.stage != "OEM":
            assert ORDER.index(progress.stage) >= place
            place = ORDER.index(progress.stage)
