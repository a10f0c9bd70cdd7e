# SPDX-License-Identifier: Apache-2.0
"""The parser of files with users: whatever it is given, users or a DocumentError that names the place."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_accounts import document, users
from fleet_accounts.document import DocumentError

KEYS = {"id": users.check_id, "enabled": users.check_enabled}
GOOD: dict[str, Any] = {"format": 1, "users": {"root": {"id": 1, "enabled": True}}}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def parse(data: bytes) -> dict[str, dict[str, Any]]:
    return document.parse("f.json", data, KEYS, optional=("enabled",))


def test_a_file() -> None:
    assert parse(json.dumps(GOOD).encode()) == GOOD["users"]
    assert parse(b'{"format": 1, "users": {"a": {"id": 3}}}') == {"a": {"id": 3}}
    assert parse(b'{"format": 1, "users": {}}') == {}


def test_dump_writes_what_parse_reads() -> None:
    for table in ({}, GOOD["users"], {"a": {"id": 1}, "b": {"id": 2, "enabled": False}}):
        assert parse(document.dump(table)) == table
    assert document.dump(GOOD["users"]).endswith(b"\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "f.json: no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "f.json: must be an object with the keys format, users"),
        ('{"users": {}}', "f.json: format is missing"),
        ('{"format": 1}', "f.json: users is missing"),
        ('{"format": 2, "users": {}}', "f.json: format must be 1; a later version may have written the file"),
        ('{"format": true, "users": {}}', "f.json: format must be 1"),
        ('{"format": 1, "users": []}', "f.json: users must be an object"),
        ('{"format": 1, "users": {}, "user": {}}', "f.json: unknown key 'user'; allowed: format, users"),
        ('{"format": 1, "users": {"": {}}}', "f.json: users: '': a user name must be of A-Z"),
        ('{"format": 1, "users": {"a": 5}}', "f.json: users.a: must be an object with the keys id, enabled"),
        ('{"format": 1, "users": {"a": {}}}', "f.json: users.a: id is missing"),
        ('{"format": 1, "users": {"a": {"id": 16}}}', "f.json: users.a.id: must be a number from 1 to 15"),
        (
            '{"format": 1, "users": {"a": {"id": 1, "enabeld": true}}}',
            "f.json: users.a: unknown key 'enabeld'; allowed: id, enabled",
        ),
        ('{"format": 1, "users": {"a": {"id": 1, "id": 2}}}', "f.json: key 'id' is there twice"),
        ('{"format": 1, "users": {"a": {"id": 1}, "a": {"id": 2}}}', "f.json: key 'a' is there twice"),
        ("[" * 60_000, "f.json: no JSON: RecursionError"),
        (" " * 70_000, "f.json: 70000 bytes are too many; at most 65536 are possible"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(DocumentError, match="^" + re.escape(words)):
        parse(text.encode())


@given(data=st.binary(max_size=200))
@example(data=b"\xff\xfe")
@example(data=b'{"format": 1' + b"0" * 5000 + b"}")
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^f\.json: "):
        parse(data)


@given(value=values, name=st.text(max_size=8), key=st.sampled_from(["id", "enabled", "secret", ""]))
def test_any_values_in_any_place(value: Any, name: str, key: str) -> None:
    for top in (
        value,
        {"format": value, "users": {}},
        {"format": 1, "users": value},
        {"format": 1, "users": {name: value}},
        {"format": 1, "users": {name: {"id": 1, key: value}}},
    ):
        words, found = "", {}
        try:
            found = parse(json.dumps(top).encode())
        except DocumentError as error:
            words = str(error)
        assert bool(words) == (words.startswith("f.json: ") and "\n" not in words)
        assert all(users.check_name(user) and entry["id"] in users.IDS for user, entry in found.items())


@given(cut=st.integers(0, 60), at=st.integers(0, 60), byte=st.integers(0, 255))
def test_a_torn_or_damaged_file_is_an_error_or_means_the_same_kind(cut: int, at: int, byte: int) -> None:
    data = document.dump(GOOD["users"])
    with pytest.raises(DocumentError):
        parse(data[: min(cut, len(data) - 2)])
    damaged = bytearray(data)
    damaged[min(at, len(data) - 1)] = byte
    try:
        found = parse(bytes(damaged))
    except DocumentError:
        return
    assert all(entry["id"] in users.IDS for entry in found.values())
