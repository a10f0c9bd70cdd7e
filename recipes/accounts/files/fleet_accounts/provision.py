# SPDX-License-Identifier: Apache-2.0
"""The first users, from whoever provisions the board: `provision.json` beside the users' file.

    {"format": 1, "users": {
    "root": {"privilege": "priv-admin", "enabled": true, "groups": ["ipmi", "redfish", "ssh", "web"],
             "password": "$6$…", "ipmi_password": "…"}
    }}

Only the board has its key, so the password for IPMI comes in plain text, and is sealed at the first start.
The file is removed when the users are in flash and before anybody is answered; a power cut in between makes
the same users once more. Users that it does not name stay; the IPMI user id is the lowest that is free.
"""

from collections.abc import Mapping
from typing import Any

from fleet_accounts import document, users
from fleet_accounts.document import Check, DocumentError
from fleet_accounts.secret import SecretError, Vault
from fleet_accounts.storage import Storage, set_aside
from fleet_accounts.store import Store, StoreError
from fleet_accounts.users import User

FILE = "provision.json"


def _ipmi_password(value: Any) -> str:
    return users.check_password(value, ("ipmi",))


KEYS: Mapping[str, Check] = {
    "privilege": users.check_privilege,
    "enabled": users.check_enabled,
    "groups": users.check_groups,
    "password": users.check_hash,
    "ipmi_password": _ipmi_password,
}


def take(storage: Storage, store: Store, vault: Vault) -> list[str]:
    """Make the users that the file names and remove it; their names.

    What is wrong with the file goes to the store's `problems`, and a damaged one is moved aside. Raises
    StoreError when flash refuses: it would bring back the first passwords at each start.
    """
    try:
        entries = document.parse(FILE, storage.read(FILE), KEYS, optional=("ipmi_password",))
        made = _users(entries, store, vault)
    except FileNotFoundError:
        return []
    except OSError as error:
        store.problems.append(f"{FILE}: {error.strerror}; it must belong to the service's user")
        return []
    except DocumentError as error:
        store.problems.append(f"{error}; {set_aside(storage, FILE)}, and nobody is made from it")
        return []
    except SecretError as error:
        raise StoreError(f"{FILE}: {error}") from None
    store.save({**store.users, **made})
    try:
        storage.remove(FILE)
    except OSError as error:
        raise StoreError(f"{FILE} cannot be removed: {error.strerror}") from None
    return list(made)


def _users(entries: Mapping[str, dict[str, Any]], store: Store, vault: Vault) -> dict[str, User]:
    made: dict[str, User] = {}
    for name, entry in entries.items():
        known = {**store.users, **made}
        number = known[name].id if name in known else users.free_id(known)
        if number is None:
            raise DocumentError(
                f"{FILE}: users.{name}: there is no room for more than {len(users.IDS)} users"
            )
        if any(users.path_part(other) == users.path_part(name) for other in known if other != name):
            raise DocumentError(f"{FILE}: users.{name}: on D-Bus another user would look the same")
        password = entry.pop("ipmi_password", "")
        if password and "ipmi" not in entry["groups"]:
            raise DocumentError(f"{FILE}: users.{name}: ipmi_password is for users in the group ipmi")
        made[name] = User(number, **entry, secret=vault.seal(name, password) if password else "")
    return made
