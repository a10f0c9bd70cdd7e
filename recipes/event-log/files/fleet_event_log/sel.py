# SPDX-License-Identifier: Apache-2.0
"""SEL records (IPMI 2.0, section 32): 16 bytes, of which the log fills in those that are its own to know."""

import struct

RECORD_BYTES = 16
MESSAGE = "xyz.openbmc_project.Logging.SEL.Error.Created"  # of an event that is no more than its SEL record
_SYSTEM_EVENT = 0x02
_PLAIN_OEM = range(0xE0, 0x100)  # record types without a timestamp
# Record ids 0000h and FFFFh mean the first and the last record.
_IDS = 0xFFFE
_LAST_SECOND = 0xFFFF_FFFE  # FFFFFFFFh means that the time is not known


def record_id(number: int) -> int:
    """Return the 16-bit record id of the entry with this id: 1 to FFFEh, then 1 again.

    The log holds far fewer entries than that, so no two of them have the same.
    """
    return (number - 1) % _IDS + 1


def complete(record: bytes, number: int, time: int) -> bytes:
    """Return a SEL record with its record id and, where its type has one, its timestamp.

    `number` is the entry's id, `time` is in milliseconds since the epoch. A record of another length comes
    back as it is, for record.encode to refuse.
    """
    if len(record) != RECORD_BYTES:
        return record
    kind = record[2]
    stamp = record[3:7] if kind in _PLAIN_OEM else struct.pack("<I", min(max(time // 1000, 0), _LAST_SECOND))
    return struct.pack("<H", record_id(number)) + record[2:3] + stamp + record[7:]


def entry_id(record: int, last: int) -> int:
    """Return the id of the newest entry that has this record id, where `last` is the newest id.

    0 for none.
    """
    return max(0, last - (last - record) % _IDS)


def describe(record: bytes) -> dict[str, str]:
    """Return the fields of a SEL record by the names that phosphor-host-ipmid gives them."""
    if len(record) != RECORD_BYTES:
        return {}
    if record[2] != _SYSTEM_EVENT:
        return {"RECORD_TYPE": str(record[2]), "SENSOR_DATA": record[7:].hex().upper()}
    generator = struct.unpack_from("<H", record, 7)[0]
    return {
        "RECORD_TYPE": str(record[2]),
        "GENERATOR_ID": str(generator),
        "SENSOR_TYPE": str(record[10]),
        "SENSOR_NUMBER": str(record[11]),
        "EVENT_DIR": "0" if record[12] & 0x80 else "1",  # 1: asserted
        "EVENT_TYPE": str(record[12] & 0x7F),
        "SENSOR_DATA": record[13:].hex().upper(),
    }
