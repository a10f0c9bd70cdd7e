# SPDX-License-Identifier: Apache-2.0
"""NetFn Sensor/Event: events from outside, readings (IPMI 2.0, sections 29 and 35)."""

from fleet_ipmi import events, sdr
from fleet_ipmi.codec import U5, U8, CodecError, Flag, Layout, Rest
from fleet_ipmi.dispatch import Code, Commands, CompletionError, Context, NetFn, Privilege

command = Commands()

_UNSPECIFIED = 0xFF
_REVISIONS = (0x03, 0x04)  # of the format: IPMI 1.0, and later ones
# Revision, sensor type, sensor number, direction and event type, event data 1 to 3 (29.3).
_EVENT = Layout([U8, U8, U8, U8, U8, U8 | None, U8 | None])


@command(NetFn.SENSOR_EVENT, 0x02, "Platform Event", Privilege.OPERATOR)
async def platform_event(context: Context, message: Rest) -> None:
    """Keep an event as a SEL record (29.3).

    Over the system interface the generator's id comes first; elsewhere it is the requester's address.
    """
    channel = context.channel
    generator = channel.requester
    second = channel.number << 4
    if channel.in_band:
        generator, message = message[0] if message else 0, message[1:]
        second = 0
    try:
        revision, sensor_type, number, event_type, *data = _EVENT.unpack(message)
    except CodecError:
        raise CompletionError(Code.REQUEST_LENGTH) from None
    if revision not in _REVISIONS:
        raise CompletionError(Code.INVALID_FIELD)
    details = bytes(_UNSPECIFIED if value is None else value for value in data)
    head = bytes((0, 0, events.SYSTEM_EVENT, 0, 0, 0, 0, generator, second))
    record = head + bytes((revision, sensor_type, number, event_type)) + details
    events.follow(context.bmc, record)
    await context.bmc.add_sel_record(record)
    context.sel.cancel()


@command(NetFn.SENSOR_EVENT, 0x2D, "Get Sensor Reading", Privilege.USER)
async def get_sensor_reading(context: Context, number: U8) -> tuple[U8, U5, Flag, Flag, Flag, U8, U8]:
    """Return the states of a discrete sensor, one bit each (35.14)."""
    if number != sdr.ACPI_STATUS:
        raise CompletionError(Code.NO_SUCH_RECORD)
    system, _ = await context.bmc.acpi_state()
    states = 1 << sdr.ACPI_OFFSETS.get(system, sdr.ACPI_OFFSETS["Unknown"])
    unavailable, scanning, events_on = False, True, True
    return 0, 0, unavailable, scanning, events_on, states & 0xFF, states >> 8 | 0x80
