# SPDX-License-Identifier: Apache-2.0
"""The worker protocol's byte streams, as properties."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitbake.lib.fleet_engine import framing

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=framing.MAX_NAME - 2)
# Payloads are pickles: any bytes, among them the protocol's own words.
PAYLOADS = st.one_of(
    st.binary(max_size=300), st.sampled_from([b"</event>", b"<quit>", b"</runtask>\0\0\0\0"])
)
MESSAGES = st.lists(st.tuples(NAMES, PAYLOADS), max_size=6)


def request(name: str, payload: bytes) -> bytes:
    """Frame a message as the server does."""
    tag = name.encode()
    return b"<" + tag + b">" + len(payload).to_bytes(4, "big") + payload + b"</" + tag + b">"


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut `data` at the given places (taken modulo its length)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


@given(MESSAGES, st.lists(st.integers(min_value=0, max_value=5000), max_size=20))
def test_requests_survive_any_cutting(messages: list[tuple[str, bytes]], cuts: list[int]) -> None:
    stream = b"".join(request(name, payload) for name, payload in messages)
    reader = framing.MessageReader()
    assert [message for piece in pieces(stream, cuts) for message in reader.feed(piece)] == messages


@given(MESSAGES, st.binary(min_size=1).filter(lambda junk: junk[:1] != b"<"))
def test_junk_after_requests_is_an_error_and_loses_none_of_them(
    messages: list[tuple[str, bytes]], junk: bytes
) -> None:
    reader = framing.MessageReader()
    seen = []
    with pytest.raises(framing.FramingError):  # noqa: PT012 - what came before counts too
        for message in reader.feed(b"".join(request(*m) for m in messages) + junk):
            seen.append(message)
    assert seen == messages


@pytest.mark.parametrize(
    "stream",
    [
        b"<quit>\0\0\0\0</quot>",
        b"<quit>\0\0\0\1</quit>",
        b"<" + b"a" * (framing.MAX_NAME + 1),
        b"<a b>\0\0\0\0</a b>",
        b"<>\0\0\0\0</>",
    ],
    ids=["other end", "wrong length", "endless name", "odd name", "no name"],
)
def test_broken_requests_are_errors(stream: bytes) -> None:
    reader = framing.MessageReader()
    with pytest.raises(framing.FramingError):
        list(reader.feed(stream + b"<quit>\0\0\0\0</quit>" * 8))


@given(
    st.lists(PAYLOADS, max_size=6), PAYLOADS, st.lists(st.integers(min_value=0, max_value=5000), max_size=20)
)
def test_events_survive_any_cutting_and_half_of_one_is_none(
    payloads: list[bytes], last: bytes, cuts: list[int]
) -> None:
    half = framing.from_task(last)[:-1] if last else b"\0\0"
    stream = b"".join(framing.from_task(payload) for payload in payloads) + half
    reader = framing.EventReader()
    assert [event for piece in pieces(stream, cuts) for event in reader.feed(piece)] == payloads


def test_replies_are_framed_as_the_engine_reads_them() -> None:
    assert framing.to_server("event", b"\x80\x04N.") == b"<event>\x80\x04N.</event>"
    assert framing.to_server("exitcode", b"x") == b"<exitcode>x</exitcode>"
