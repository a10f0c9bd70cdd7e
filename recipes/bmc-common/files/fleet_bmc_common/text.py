# SPDX-License-Identifier: Apache-2.0
"""Text beyond ASCII in D-Bus messages.

dbus-fast 1.84, which Debian 12 has, announces as many bytes as a text has characters and then sends its UTF-8
form, which may be longer: the bus cuts the connection. A text that counts its bytes is sent right, by later
versions too.
"""

from typing import Any

from dbus_fast import Variant


class ByteCounted(str):
    """A text whose length is that of its UTF-8 form."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.encode())


def sendable(value: Any) -> Any:
    """Return a value of a message with each text beyond ASCII, at any depth, as ByteCounted.

    Raises ValueError for a text that D-Bus cannot carry: one with NUL or with half a surrogate pair.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a D-Bus string cannot hold NUL")
        if value.isascii():
            return value
        value.encode()
        return ByteCounted(value)
    if isinstance(value, Variant):
        return Variant(value.signature, sendable(value.value), False)
    if isinstance(value, dict):
        return {sendable(key): sendable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(item) for item in value]
    return value
