# SPDX-License-Identifier: Apache-2.0
"""What dbus-fast makes of texts, on the wire."""

import io
from typing import Any

import pytest
from dbus_fast import Message, Variant
from dbus_fast._private.unmarshaller import Unmarshaller
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_bmc_common.text import sendable

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def over_the_wire(signature: str, *body: Any) -> list[Any]:
    """Marshal a message and read it back; a wrong length shows as an error or as other values."""
    message = Message("a.b", "/a", "a.b", "M", signature=signature, body=sendable(list(body)), serial=1)
    stream: Any = io.BytesIO(bytes(message._marshall(False)))
    found = Unmarshaller(stream).unmarshall()
    assert found is not None
    return list(found.body)


@given(TEXT)
@settings(deadline=None)
def test_any_text(text: str) -> None:
    assert over_the_wire("s", text) == [text]


@given(st.dictionaries(TEXT, TEXT, max_size=5), st.lists(TEXT, max_size=5))
@settings(deadline=None)
def test_at_any_depth(table: dict[str, str], texts: list[str]) -> None:
    body = [table, texts, Variant("a{sv}", {"k": Variant("as", texts)}), [(1, t) for t in texts]]
    found = over_the_wire("a{ss}asva(us)", *body)
    assert found == [table, texts, body[2], [[1, t] for t in texts]]


def test_other_values_are_left_alone() -> None:
    body = [1, True, 2.5, b"\xff", "plain"]
    assert sendable(body) == body
    assert type(sendable("plain")) is str


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_message_can_hold(text: str) -> None:
    with pytest.raises(ValueError, match=r"NUL|surrogates"):
        sendable([text])
