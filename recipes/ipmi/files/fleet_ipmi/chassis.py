# SPDX-License-Identifier: Apache-2.0
"""NetFn Chassis: power (IPMI 2.0, section 28)."""

from typing import NamedTuple

from fleet_ipmi.codec import U1, U2, U3, U4, U8, Flag
from fleet_ipmi.dispatch import Code, Commands, CompletionError, Context, NetFn, Privilege
from fleet_ipmi.outside import BmcError

command = Commands()

_BMC_ADDRESS = 0x20
# The rails are up until State.Chassis says Off: a power-off under way is still on.
_ON = ("On", "TransitioningToOff")
_POLICY_UNKNOWN = 3


@command(NetFn.CHASSIS, 0x00, "Get Chassis Capabilities", Privilege.USER)
def get_chassis_capabilities(_context: Context) -> tuple[U8, U8, U8, U8, U8]:
    """Tell what the chassis can do, and who has FRU, SDR, SEL and system management (28.1)."""
    return 0, 0, _BMC_ADDRESS, _BMC_ADDRESS, _BMC_ADDRESS  # there is no FRU device


class ChassisStatus(NamedTuple):
    """Response of Get Chassis Status (table 28-3)."""

    is_on: Flag
    overload: Flag
    interlock: Flag
    power_fault: Flag
    control_fault: Flag  # the last attempt to switch power failed
    restore_policy: U2
    reserved_1: U1
    last_event_causes: U4  # AC failed, overload, interlock, power fault: not known
    was_commanded: Flag  # power was switched on by command
    reserved_2: U3
    misc: U8  # intrusion, lockout, drive fault, cooling fault: not known


@command(NetFn.CHASSIS, 0x01, "Get Chassis Status", Privilege.USER)
async def get_chassis_status(context: Context) -> ChassisStatus:
    """Tell whether the power is on (28.2): PS_PWROK, whatever the host does with it."""
    power = await context.bmc.power()
    try:
        cause = await context.bmc.restart_cause()
    except BmcError:
        cause = ""  # the power matters more
    return ChassisStatus(
        is_on=power.state in _ON,
        overload=False,
        interlock=False,
        power_fault=False,
        control_fault=power.failed,
        restore_policy=_POLICY_UNKNOWN,
        reserved_1=0,
        last_event_causes=0,
        was_commanded=cause == "RemoteCommand",
        reserved_2=0,
        misc=0,
    )


_POWER_DOWN = 0
_POWER_CYCLE = 2
# Table 28-4: what the host is asked for. Power down cuts the power; the others are for host-power to do.
_TRANSITIONS = {1: "On", _POWER_CYCLE: "Reboot", 3: "ForceWarmReboot", 5: "Off"}


@command(NetFn.CHASSIS, 0x02, "Chassis Control", Privilege.OPERATOR)
async def chassis_control(context: Context, control: U4, _reserved: U4) -> None:
    """Switch power or reset the host (28.3). A diagnostic interrupt (4) cannot be given: CCh."""
    if control == _POWER_DOWN:
        await context.bmc.request_chassis("Off")
        return
    if control not in _TRANSITIONS:
        raise CompletionError(Code.INVALID_FIELD)
    if control == _POWER_CYCLE and (await context.bmc.power()).state not in _ON:
        raise CompletionError(Code.NOT_IN_THIS_STATE)  # 28.3: no action when the power is off
    await context.bmc.request_host(_TRANSITIONS[control])


# Table 28-11, from the words of State.Host.RestartCause.
_CAUSES = {
    "RemoteCommand": 0x1,
    "ResetButton": 0x2,
    "PowerButton": 0x3,
    "WatchdogTimer": 0x4,
    "PowerPolicyAlwaysOn": 0x6,
    "PowerPolicyPreviousState": 0x7,
    "SoftReset": 0xA,
    "ScheduledPowerOn": 0xB,
}


@command(NetFn.CHASSIS, 0x07, "Get System Restart Cause", Privilege.USER)
async def get_system_restart_cause(context: Context) -> tuple[U4, U4, U8]:
    """Tell why the host was last started, 0 for unknown, and over which channel: not known (28.11)."""
    return _CAUSES.get(await context.bmc.restart_cause(), 0), 0, 0
