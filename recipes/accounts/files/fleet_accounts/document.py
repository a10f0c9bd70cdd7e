# SPDX-License-Identifier: Apache-2.0
"""The files that hold users: JSON, a format number and users by name, each a table of keys.

{"format": 1, "users": {"root": {"id": 1, "privilege": "priv-admin", …}}}
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fleet_accounts.users import UserError, check_name

FORMAT = 1
_BYTES = 64 * 1024  # no file of 15 users is longer

Check = Callable[[Any], Any]


class DocumentError(ValueError):
    """A file is not as it should be; one line with the file, the key, and what is allowed there."""


def parse(
    file: str, data: bytes, keys: Mapping[str, Check], optional: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return the users of a file, each with the values of `keys` as their checks return them.

    A key is missing from the result when it is in `optional` and not in the file. DocumentError says what is
    wrong and never shows a value.
    """
    if len(data) > _BYTES:
        raise DocumentError(f"{file}: {len(data)} bytes are too many; at most {_BYTES} are possible")
    try:
        top = json.loads(data.decode(), object_pairs_hook=_once)
    except UserError as error:
        raise DocumentError(f"{file}: {error}") from None
    except json.JSONDecodeError as error:
        raise DocumentError(f"{file}: no JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{file}: no JSON: {type(error).__name__}") from None
    _check_keys(file, top, ("format", "users"))
    if type(top["format"]) is not int or top["format"] != FORMAT:
        raise DocumentError(f"{file}: format must be {FORMAT}; a later version may have written the file")
    if not isinstance(top["users"], dict):
        raise DocumentError(f"{file}: users must be an object")
    return {name: _user(file, name, entry, keys, optional) for name, entry in top["users"].items()}


def dump(users: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the text of a file with these users, one of them in a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in users.items()]
    return (f'{{"format": {FORMAT}, "users": {{\n' + ",\n".join(lines) + "\n}}\n").encode()


def _user(
    file: str, name: str, entry: Any, keys: Mapping[str, Check], optional: Collection[str]
) -> dict[str, Any]:
    try:
        check_name(name)
    except UserError as error:
        raise DocumentError(f"{file}: users: {name[:40]!r}: {error}") from None
    where = f"{file}: users.{name}"
    _check_keys(where, entry, tuple(keys), optional)
    values = {}
    for key, value in entry.items():
        try:
            values[key] = keys[key](value)
        except UserError as error:
            raise DocumentError(f"{where}.{key}: {error}") from None
    return values


def _check_keys(where: str, table: Any, keys: Collection[str], optional: Collection[str] = ()) -> None:
    if not isinstance(table, dict):
        raise DocumentError(f"{where}: must be an object with the keys {', '.join(keys)}")
    for key in table:
        if key not in keys:
            raise DocumentError(f"{where}: unknown key {key[:40]!r}; allowed: {', '.join(keys)}")
    for key in keys:
        if key not in table and key not in optional:
            raise DocumentError(f"{where}: {key} is missing")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise UserError(f"key {twice[:40]!r} is there twice")
    return table
