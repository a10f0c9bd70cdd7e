# SPDX-License-Identifier: Apache-2.0
"""How far the host's boot has come (phosphor-dbus-interfaces, xyz.openbmc_project.State.Boot.Progress).

Within a boot progress only goes forward: a late word about an earlier stage changes nothing, because messages
of the firmware may be overtaken by what the lines and the ACPI state say. A boot begins anew when power comes
or goes, at a reset, or when somebody writes Unspecified. Nothing is invented: without a word it stays
Unspecified.
"""

UNSPECIFIED, SYSTEM_INIT_COMPLETE, OS_RUNNING = "Unspecified", "SystemInitComplete", "OSRunning"

# In the order of a boot. OEM has no place in it: it replaces any stage but the last.
ORDER = (
    *(
        UNSPECIFIED,
        "PrimaryProcInit",
        "BusInit",
        "MemoryInit",
        "SecondaryProcInit",
        "PCIInit",
        "MotherboardInit",
    ),
    *(SYSTEM_INIT_COMPLETE, "SystemSetup", "OSStart", OS_RUNNING),
)
OEM = "OEM"
STAGES = (*ORDER, OEM)


class Progress:
    """The stage and when it was reached, in microseconds since the epoch (0: never)."""

    __slots__ = ("_reached", "last_update", "stage")

    def __init__(self) -> None:
        self.stage = UNSPECIFIED
        self.last_update = 0
        self._reached = 0  # place in ORDER; OEM stands where the stage before it stood

    def restart(self, now: int) -> None:
        """Begin a boot, or end one."""
        self._reached = 0
        if self.stage != UNSPECIFIED:
            self.stage = UNSPECIFIED
            self.last_update = now

    def reach(self, stage: str, now: int) -> None:
        """Take in that the boot has come to a stage, one of STAGES.

        Telling the present stage again counts as a sign of life: the time is new.
        """
        if stage == UNSPECIFIED:
            self.restart(now)
            return
        if stage == OEM:
            if self._reached == len(ORDER) - 1:
                return
        elif (place := ORDER.index(stage)) < self._reached:
            return
        else:
            self._reached = place
        self.stage = stage
        self.last_update = now

    def infer(self, stage: str, now: int) -> None:
        """Take in a stage that nobody told: it counts when the boot has not been there."""
        if ORDER.index(stage) > self._reached:
            self.reach(stage, now)
