# SPDX-License-Identifier: Apache-2.0
"""NetFn App: what this BMC is, and the ACPI power state (IPMI 2.0, sections 20 and 22)."""

from typing import NamedTuple

from fleet_ipmi.codec import U1, U2, U3, U4, U5, U6, U7, U8, U16, U24, Bytes3, Flag, Rest
from fleet_ipmi.dispatch import Code, Commands, CompletionError, Context, NetFn, Privilege
from fleet_ipmi.outside import BmcError

command = Commands()

DEVICE_ID = 0x20  # any number that is not 0, which means that there is none
DEVICE_REVISION = 1
IPMI_VERSION = 0x02  # 2.0; the digits are the other way round
# What else the device is: chassis, SEL and SDR repository, sensors (table 20-2, byte 7).
SUPPORT = 0x80 | 0x04 | 0x02 | 0x01
# 0 is "unspecified": the project has no enterprise number of its own.
MANUFACTURER_ID = 0
PRODUCT_ID = 0


class DeviceId(NamedTuple):
    """Response of Get Device ID (table 20-2)."""

    device: U8
    revision: U4
    reserved: U3
    has_device_sdrs: Flag
    firmware_major: U7
    is_updating: Flag
    firmware_minor: U8  # two decimal digits
    ipmi_version: U8
    support: U8
    manufacturer: U24
    product: U16
    build: Rest


@command(NetFn.APP, 0x01, "Get Device ID", Privilege.USER)
def get_device_id(context: Context) -> DeviceId:
    """Tell what this is (20.1)."""
    firmware = context.bmc.firmware()
    minor = min(firmware.minor, 99)
    return DeviceId(
        device=DEVICE_ID,
        revision=DEVICE_REVISION,
        reserved=0,
        has_device_sdrs=False,
        firmware_major=min(firmware.major, 0x7F),
        is_updating=False,
        firmware_minor=minor // 10 << 4 | minor % 10,
        ipmi_version=IPMI_VERSION,
        support=SUPPORT,
        manufacturer=MANUFACTURER_ID,
        product=PRODUCT_ID,
        build=firmware.build,
    )


@command(NetFn.APP, 0x04, "Get Self Test Results", Privilege.USER)
async def get_self_test_results(context: Context) -> tuple[U8, U8]:
    """Tell whether all is well (20.4): 55h, or 57h with what cannot be reached."""
    try:
        await context.bmc.log_info()
    except BmcError:
        return 0x57, 0x80  # the SEL
    return 0x55, 0


# --- ACPI power state (20.6, 20.7) ---

NO_CHANGE = 0x7F
UNKNOWN = 0x2A
# Table 20-8: states of the system by code, in the words of Control.Power.ACPIPowerState.
SYSTEM_STATES = {
    0x00: "S0_G0_D0",
    0x01: "S1_D1",
    0x02: "S2_D2",
    0x03: "S3_D3",
    0x04: "S4",
    0x05: "S5_G2",
    0x06: "S4_S5",
    0x07: "G3",
    0x08: "SLEEP",
    0x09: "G1_SLEEP",
    0x0A: "OVERRIDE",
    0x20: "LEGACY_ON",
    0x21: "LEGACY_OFF",
    UNKNOWN: "Unknown",
    NO_CHANGE: "",
}
DEVICE_STATES = {code: SYSTEM_STATES[code] for code in (0x00, 0x01, 0x02, 0x03, UNKNOWN, NO_CHANGE)}
SYSTEM_CODES = {name: code for code, name in SYSTEM_STATES.items() if name}
DEVICE_CODES = {name: code for code, name in DEVICE_STATES.items() if name}


def _state(states: dict[int, str], code: int, is_set: bool) -> str:
    """Return the state that a byte asks for, "" for none."""
    if not is_set:
        return ""
    if code not in states:
        raise CompletionError(Code.OUT_OF_RANGE)
    return states[code]


@command(NetFn.APP, 0x06, "Set ACPI Power State", Privilege.ADMIN)
async def set_acpi_power_state(
    context: Context, system: U7, set_system: Flag, device: U7, set_device: Flag
) -> None:
    """Tell the BMC in which ACPI state the host is. Nothing is written unless both bytes are right."""
    system_state = _state(SYSTEM_STATES, system, set_system)
    device_state = _state(DEVICE_STATES, device, set_device)
    if system_state or device_state:
        source = "Host" if context.channel.in_band else "Operator"
        await context.bmc.set_acpi_state(system_state, device_state, source)


@command(NetFn.APP, 0x07, "Get ACPI Power State", Privilege.USER)
async def get_acpi_power_state(context: Context) -> tuple[U7, U1, U7, U1]:
    """Return the ACPI states of system and devices."""
    system, device = await context.bmc.acpi_state()
    return SYSTEM_CODES.get(system, UNKNOWN), 0, DEVICE_CODES.get(device, UNKNOWN), 0


# --- Channels ---

_PRESENT_CHANNEL = 0x0E
_IPMI_FORUM = (7154).to_bytes(3, "little")  # enterprise number, for the channel's protocol


class ChannelInfo(NamedTuple):
    """Response of Get Channel Info (table 22-29)."""

    channel: U4
    reserved_1: U4
    medium: U7
    reserved_2: U1
    protocol: U5
    reserved_3: U3
    sessions: U6
    session_support: U2
    vendor: Bytes3
    auxiliary: U16


@command(NetFn.APP, 0x42, "Get Channel Info", Privilege.USER)
def get_channel_info(context: Context, channel: U4, _reserved: U4) -> ChannelInfo:
    """Describe the channel over which the request came (22.24); the others are not known here."""
    own = context.channel
    if channel not in (_PRESENT_CHANNEL, own.number):
        raise CompletionError(Code.INVALID_FIELD)
    # For the system interface the auxiliary bytes are its interrupts: there are none.
    auxiliary = 0xFFFF if own.in_band else 0
    return ChannelInfo(own.number, 0, own.medium, 0, own.protocol, 0, 0, 0, _IPMI_FORUM, auxiliary)
