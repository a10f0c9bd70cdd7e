# SPDX-License-Identifier: Apache-2.0
"""NetFn Storage: the SEL, which event-log keeps, and sensor data records (IPMI 2.0, sections 31 and 33)."""

from typing import NamedTuple

from fleet_ipmi import events, sdr
from fleet_ipmi.codec import U4, U8, U16, U32, Bytes3, Bytes16, Rest
from fleet_ipmi.dispatch import Code, Commands, CompletionError, Context, NetFn, Privilege

command = Commands()

_VERSION = 0x51
_NEVER = 0xFFFF_FFFF
_RECORD_BYTES = 16
_LAST = 0xFFFF  # record id
_WHOLE = 0xFF  # bytes to read


def _seconds(milliseconds: int) -> int:
    return min(milliseconds // 1000, _NEVER - 1) if milliseconds else _NEVER


def _part(data: bytes, offset: int, count: int) -> bytes:
    """Return the part of a record that was asked for, or what there is of it."""
    if offset >= len(data):
        raise CompletionError(Code.OUT_OF_RANGE)
    return data[offset:] if count == _WHOLE else data[offset : offset + count]


# --- SEL ---


class SelInfo(NamedTuple):
    """Response of Get SEL Info (table 31-2)."""

    version: U8
    entries: U16
    free: U16  # bytes
    last_added: U32  # seconds
    last_erased: U32  # seconds
    operations: U8


@command(NetFn.STORAGE, 0x40, "Get SEL Info", Privilege.USER)
async def get_sel_info(context: Context) -> SelInfo:
    """Tell how full the log is (31.2). It never gets full: the oldest entries make room."""
    info = await context.bmc.log_info()
    free = max(info.capacity - info.entries, 0) * _RECORD_BYTES
    return SelInfo(
        version=_VERSION,
        entries=min(info.records, 0xFFFF),
        free=min(free, 0xFFFF),
        last_added=_seconds(info.last_added),
        last_erased=_seconds(info.last_erased),
        operations=0x08 | 0x02 | 0x01,  # delete, reserve, allocation information
    )


@command(NetFn.STORAGE, 0x41, "Get SEL Allocation Info", Privilege.USER)
async def get_sel_allocation_info(context: Context) -> tuple[U16, U16, U16, U16, U8]:
    """Return units, bytes of one, units free, most of them in a row, units of the largest record (31.3)."""
    info = await context.bmc.log_info()
    free = min(max(info.capacity - info.entries, 0), 0xFFFF)
    return min(info.capacity, 0xFFFF), _RECORD_BYTES, free, free, 1


@command(NetFn.STORAGE, 0x42, "Reserve SEL", Privilege.USER)
def reserve_sel(context: Context) -> U16:
    """Return a reservation (31.4), which ends when the SEL is changed by a command."""
    return context.sel.reserve()


@command(NetFn.STORAGE, 0x43, "Get SEL Entry", Privilege.USER)
async def get_sel_entry(
    context: Context, reservation: U16, number: U16, offset: U8, count: U8
) -> tuple[U16, Rest]:
    """Return the id of the next record and this record or a part of it (31.5)."""
    if offset:
        context.sel.check(reservation)
    following, record = await context.bmc.sel_record(number)
    return following, _part(record, offset, count)


@command(NetFn.STORAGE, 0x44, "Add SEL Entry", Privilege.OPERATOR)
async def add_sel_entry(context: Context, record: Bytes16) -> U16:
    """Add a record; its id, when it is in flash (31.6). Record id and timestamp are the log's own."""
    if record[2] != events.SYSTEM_EVENT and record[2] < 0xC0:
        raise CompletionError(Code.INVALID_FIELD)
    events.follow(context.bmc, record)
    number = await context.bmc.add_sel_record(record)
    context.sel.cancel()
    return number


@command(NetFn.STORAGE, 0x46, "Delete SEL Entry", Privilege.OPERATOR)
async def delete_sel_entry(context: Context, reservation: U16, number: U16) -> U16:
    """Delete a record; its id (31.8)."""
    context.sel.check(reservation)
    deleted = await context.bmc.delete_sel_record(number)
    context.sel.cancel()
    return deleted


_START_ERASURE, _GET_STATUS = 0xAA, 0x00
_ERASED = 1


@command(NetFn.STORAGE, 0x47, "Clear SEL", Privilege.OPERATOR)
async def clear_sel(context: Context, reservation: U16, letters: Bytes3, operation: U8) -> tuple[U4, U4]:
    """Clear the log, which is done when this answers, or ask whether that is done (31.9)."""
    context.sel.check(reservation)
    if letters != b"CLR" or operation not in (_START_ERASURE, _GET_STATUS):
        raise CompletionError(Code.INVALID_FIELD)
    if operation == _START_ERASURE:
        await context.bmc.clear_log()
    return _ERASED, 0


@command(NetFn.STORAGE, 0x48, "Get SEL Time", Privilege.USER)
def get_sel_time(context: Context) -> U32:
    """Return the board's time in seconds (31.10)."""
    return min(max(context.bmc.time(), 0), _NEVER - 1)


@command(NetFn.STORAGE, 0x49, "Set SEL Time", Privilege.OPERATOR)
async def set_sel_time(context: Context, seconds: U32) -> None:
    """Set the board's time (31.11)."""
    await context.bmc.set_time(seconds)


# --- Sensor data records ---


class SdrInfo(NamedTuple):
    """Response of Get SDR Repository Info (table 33-3)."""

    version: U8
    records: U16
    free: U16  # bytes
    last_added: U32
    last_erased: U32
    operations: U8


@command(NetFn.STORAGE, 0x20, "Get SDR Repository Info", Privilege.USER)
def get_sdr_repository_info(_context: Context) -> SdrInfo:
    """Tell how many records there are (33.9). They are the image's and never change."""
    return SdrInfo(_VERSION, len(sdr.RECORDS), 0, _NEVER, _NEVER, 0x02)  # reserve


@command(NetFn.STORAGE, 0x22, "Reserve SDR Repository", Privilege.USER)
def reserve_sdr_repository(context: Context) -> U16:
    """Return a reservation (33.11)."""
    return context.sdr.reserve()


@command(NetFn.STORAGE, 0x23, "Get SDR", Privilege.USER)
def get_sdr(context: Context, reservation: U16, number: U16, offset: U8, count: U8) -> tuple[U16, Rest]:
    """Return the id of the next record and this record or a part of it (33.12)."""
    if offset:
        context.sdr.check(reservation)
    records = sdr.RECORDS
    place = {0: 1, _LAST: len(records)}.get(number, number)
    if not 1 <= place <= len(records):
        raise CompletionError(Code.NO_SUCH_RECORD)
    following = place + 1 if place < len(records) else _LAST
    return following, _part(records[place - 1], offset, count)
