# SPDX-License-Identifier: GPL-2.0-only
"""The two byte streams of the worker protocol, free of I/O.

Server to worker: `<NAME>`, payload length (4 bytes, big-endian), payload, `</NAME>`.
Worker to server: `<NAME>`, payload, `</NAME>`; no length, so a message must never be cut by another.
Task to worker (ours alone): payload length (4 bytes, big-endian), payload. The length makes a
message that a killed task left half-written recognisable, so that it is never passed on.
"""

from collections.abc import Iterator

MAX_NAME = 64
"""Longest message name in bytes; more without a `>` means that the stream is not ours."""

_LENGTH = 4


class FramingError(Exception):
    """The peer sent bytes that are no message."""


class MessageReader:
    """Cuts the server's byte stream into (name, payload) messages, however it was chopped up."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Take `data` and yield every message that is now complete.

        Raises FramingError when the stream cannot be a sequence of messages.
        """
        self._buffer += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> tuple[str, bytes] | None:
        buffer = self._buffer
        if not buffer:
            return None
        end = buffer.find(b">", 0, MAX_NAME + 2)
        if buffer[0] != ord("<") or (end < 0 and len(buffer) > MAX_NAME + 1):
            raise FramingError(f"expected a message, got {bytes(buffer[:32])!r}")
        start = end + 1 + _LENGTH
        if end < 0 or len(buffer) < start:
            return None
        name = bytes(buffer[1:end])
        if not name.isalnum():
            raise FramingError(f"message name {name!r} is not made of letters and digits")
        stop = start + int.from_bytes(buffer[end + 1 : start], "big")
        closing = b"</" + name + b">"
        if len(buffer) < stop + len(closing):
            return None
        if buffer[stop : stop + len(closing)] != closing:
            raise FramingError(f"message {name.decode()!r} does not end where its length says")
        payload = bytes(buffer[start:stop])
        del buffer[: stop + len(closing)]
        return name.decode("ascii"), payload


class EventReader:
    """Cuts a task's byte stream into payloads; an incomplete last one stays unseen."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take `data` and yield every payload that is now complete."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH:
            stop = _LENGTH + int.from_bytes(self._buffer[:_LENGTH], "big")
            if len(self._buffer) < stop:
                return
            payload = bytes(self._buffer[_LENGTH:stop])
            del self._buffer[:stop]
            yield payload


def from_task(payload: bytes) -> bytes:
    """Frame a task's `payload` (below 4 GiB) for the worker."""
    return len(payload).to_bytes(_LENGTH, "big") + payload


def to_server(name: str, payload: bytes) -> bytes:
    """Frame `payload` as message `name` (`event` or `exitcode`) for the server."""
    tag = name.encode("ascii")
    return b"<" + tag + b">" + payload + b"</" + tag + b">"
