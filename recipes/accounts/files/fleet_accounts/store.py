# SPDX-License-Identifier: Apache-2.0
"""The users in flash: one small file, read at start and written anew at each change.

    {"format": 1, "users": {
    "root": {"id": 1, "privilege": "priv-admin", "enabled": true, "groups": ["ipmi", "ssh"],
             "password": "$6$…", "secret": "…"}
    }}

A power cut at any instant leaves the old users or the new ones. A file that is not understood is moved aside
and nobody gets in: to guess at rights would be worse.
"""

from collections.abc import Mapping
from typing import Any

from fleet_accounts import document, users
from fleet_accounts.document import Check, DocumentError
from fleet_accounts.storage import Storage, replace, set_aside
from fleet_accounts.users import User, Users

FILE = "accounts.json"

KEYS: Mapping[str, Check] = {
    "id": users.check_id,
    "privilege": users.check_privilege,
    "enabled": users.check_enabled,
    "groups": users.check_groups,
    "password": users.check_hash,
    "secret": users.check_sealed,
}


class StoreError(Exception):
    """The users cannot be written; one line."""


class Store:
    """The users. `problems` are lines for whoever has to mend something; `works` is of the last `save`."""

    def __init__(self, storage: Storage) -> None:
        """Read the users; none when there is no file or it is damaged."""
        self.problems: list[str] = []
        self.works = True
        self._storage = storage
        self._users: Users = {}
        try:
            self._users = decode(storage.read(FILE))
        except FileNotFoundError:
            pass
        except (DocumentError, OSError) as error:
            reason = f"{FILE}: {error.strerror}" if isinstance(error, OSError) else str(error)
            self.problems.append(f"{reason}; {set_aside(storage, FILE)}, and there are no users")

    @property
    def users(self) -> Users:
        """All users by name."""
        return self._users

    def save(self, changed: Users) -> None:
        """Put these users in place of those that are there. StoreError when flash refuses."""
        try:
            replace(self._storage, FILE, encode(changed))
        except OSError as error:
            self.works = False
            raise StoreError(f"{FILE} cannot be written: {error.strerror}") from None
        self.works = True
        self._users = dict(changed)


def encode(known: Users) -> bytes:
    """Return the file that holds these users."""
    return document.dump({name: user._asdict() for name, user in known.items()})


def decode(data: bytes) -> dict[str, User]:
    """Return the users of a file; DocumentError for anything that `encode` would not write."""
    entries: dict[str, dict[str, Any]] = document.parse(FILE, data, KEYS)
    found = {name: User(**entry) for name, entry in entries.items()}
    for what, values in (
        ("id", [user.id for user in found.values()]),
        ("object path", [users.path_part(name) for name in found]),
    ):
        if len(set(values)) != len(values):
            raise DocumentError(f"{FILE}: two users have the same {what}")
    return found
