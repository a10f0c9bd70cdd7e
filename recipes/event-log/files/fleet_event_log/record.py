# SPDX-License-Identifier: Apache-2.0
"""What the log holds, and the line that each record is in a file.

A line is the CRC-32 of what follows it in eight hex digits, a space, a JSON object, and a newline. So a log
can be read with `cat`, a torn or damaged line is known as one, and reading goes on behind it. The first
line of a file is a header, which names the format; the others are entries and two kinds of marks:

    {"format":1,"segment":7}
    {"id":12,"time":1790000000000,"severity":"Notice","message":"…","data":{…},"sel":"…"}
    {"id":13,"time":1790000000500,"deleted":12}
    {"id":14,"time":1790000001000,"cleared":true}

`id` grows from line to line over all files, marks included, and is never used twice. `time` is milliseconds
since the epoch by the board's clock. `sel` is a 16-byte SEL record in hex, absent for an event without one.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

FORMAT = 1
LINE_BYTES = 2048  # the longest line, newline included
# xyz.openbmc_project.Logging.Entry.Level
SEVERITIES = (
    "Emergency",
    "Alert",
    "Critical",
    "Error",
    "Warning",
    "Notice",
    "Informational",
    "Debug",
)
LAST_ID = 0xFFFF_FFFF


class Draft(NamedTuple):
    """An event that has no place in the log yet. `sel` is empty or a SEL record of 16 bytes."""

    time: int
    severity: str
    message: str
    data: Mapping[str, str] = {}
    sel: bytes = b""


class Entry(NamedTuple):
    """An event in the log."""

    id: int
    time: int
    severity: str
    message: str
    data: Mapping[str, str]
    sel: bytes


class Deletion(NamedTuple):
    """The entry `deleted` is no longer in the log."""

    id: int
    time: int
    deleted: int


class Clearing(NamedTuple):
    """No entry before this is in the log any more."""

    id: int
    time: int


class Header(NamedTuple):
    """The first line of a file."""

    format: int
    segment: int


Record = Entry | Deletion | Clearing | Header


class RecordError(ValueError):
    """A draft that cannot be an entry, or a line that is none."""


def encode(record: Record) -> bytes:
    """Return the line of a record. RecordError names what a line cannot hold."""
    fields: dict[str, Any] = record._asdict()
    match record:
        case Entry():
            _check(record)
            fields["data"] = dict(record.data)
            fields["sel"] = record.sel.hex()
            if not record.sel:
                del fields["sel"]
        case Clearing():
            fields["cleared"] = True
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    line = b"%08x %s\n" % (zlib.crc32(body), body)
    if len(line) > LINE_BYTES:
        raise RecordError(f"an event of {len(line)} bytes is too long; at most {LINE_BYTES} are possible")
    return line


def decode(line: bytes) -> Record:
    """Return the record of a line without its newline.

    RecordError when the line is not one of ours, whole.
    """
    checksum, separator, body = line[:8], line[8:9], line[9:]
    if separator != b" " or checksum != b"%08x" % zlib.crc32(body):
        raise RecordError("the checksum is wrong")
    try:
        return _record(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # the checksum is right: another program, or a later version of this one, wrote it
        raise RecordError(f"not understood: {error!r}") from None


def _record(fields: dict[str, Any]) -> Record:
    if "format" in fields:
        return Header(int(fields["format"]), int(fields["segment"]))
    number, time = int(fields["id"]), int(fields["time"])
    if "cleared" in fields:
        return Clearing(number, time)
    if "deleted" in fields:
        return Deletion(number, time, int(fields["deleted"]))
    data = {str(key): str(value) for key, value in fields["data"].items()}
    entry = Entry(
        number, time, fields["severity"], fields["message"], data, bytes.fromhex(fields.get("sel", ""))
    )
    _check(entry)
    return entry


def _check(entry: Entry) -> None:
    if entry.severity not in SEVERITIES:
        raise RecordError(f"severity '{entry.severity}' is not known; allowed: {', '.join(SEVERITIES)}")
    if not entry.message:
        raise RecordError("an event needs a message")
    if len(entry.sel) not in (0, 16):
        raise RecordError(f"a SEL record has 16 bytes, not {len(entry.sel)}")
