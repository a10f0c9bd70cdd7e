# SPDX-License-Identifier: Apache-2.0
"""The first users, over a folder that loses power at any instant."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts_fakes import FlakyFolder, PowerCut
from fleet_accounts import provision
from fleet_accounts.secret import Vault, hash_password
from fleet_accounts.store import Store, StoreError
from fleet_accounts.users import GROUPS, User

PASSWORD = "one-time password 20"
HASH = hash_password(PASSWORD)
ROOT: dict[str, Any] = {
    "privilege": "priv-admin",
    "enabled": True,
    "groups": list(GROUPS),
    "password": HASH,
    "ipmi_password": PASSWORD,
}


def dropped(users: Any = None, chance: random.Random | None = None) -> FlakyFolder:
    folder = FlakyFolder(chance)
    table = {"root": ROOT} if users is None else users
    folder.files[provision.FILE] = json.dumps({"format": 1, "users": table}).encode()
    return folder


def take(folder: FlakyFolder) -> tuple[list[str], Store]:
    """Start as the service does; who was made, and the store."""
    store = Store(folder)
    return provision.take(folder, store, Vault(folder)), store


def test_the_first_user() -> None:
    folder = dropped()
    made, store = take(folder)
    assert made == ["root"]
    root = store.users["root"]
    assert root._replace(secret="") == User(1, "priv-admin", True, GROUPS, HASH)
    assert Vault(folder).open("root", root.secret) == PASSWORD.encode()
    assert set(folder.files) == {"accounts.json", "key"}
    assert store.problems == []
    assert PASSWORD.encode() not in folder.files["accounts.json"]
    assert take(folder)[0] == []
    assert Store(folder).users == store.users


def test_nothing_to_do() -> None:
    made, store = take(FlakyFolder())
    assert (made, store.users, store.problems) == ([], {}, [])


def test_other_users_stay_and_ids_stay() -> None:
    folder = dropped({"new": {key: ROOT[key] for key in ROOT if key != "ipmi_password"}, "root": ROOT})
    other, old = User(1, "priv-user", True, ()), User(3, "priv-user", False, (), HASH)
    Store(folder).save({"other": other, "root": old})
    made, store = take(folder)
    assert made == ["new", "root"]
    assert store.users["other"] == other
    assert store.users["new"] == User(2, "priv-admin", True, GROUPS, HASH)
    assert store.users["root"].id == 3
    assert store.users["root"].privilege == "priv-admin"


def test_a_power_cut_at_any_instant() -> None:
    for seed in range(300):
        folder = dropped(chance=random.Random(seed))
        other = User(4, "priv-user", True, ())
        Store(folder).save({"other": other})
        cuts = 0
        for at in (seed % 5 + 1, seed // 5 % 5 + 1):  # twice: also in the middle of the second try
            folder.cut_at = at
            try:
                take(folder)
            except PowerCut:
                cuts += 1
            folder.cut_at = 0
        _, store = take(folder)
        assert store.problems == []
        assert store.users["other"] == other
        assert store.users["root"].password == HASH
        assert Vault(folder).open("root", store.users["root"].secret) == PASSWORD.encode()
        assert set(folder.files) == {"accounts.json", "key"}
        assert cuts or seed


def test_what_was_changed_later_is_never_undone() -> None:
    folder = dropped()
    _, store = take(folder)
    changed = {"root": store.users["root"]._replace(password="")}
    store.save(changed)
    assert take(folder)[1].users == changed


def test_flash_that_refuses_ends_the_start() -> None:
    for changes, words in ((0, "key of this board cannot be written"), (2, "accounts.json"), (4, "removed")):
        folder = dropped()
        counted = folder._is_cut

        def is_cut(folder: FlakyFolder = folder, changes: int = changes, counted: Any = counted) -> bool:
            folder.is_full = folder.changes >= changes
            return bool(counted())

        folder._is_cut = is_cut  # type: ignore[method-assign]
        with pytest.raises(StoreError, match=words):
            take(folder)
        assert provision.FILE in folder.files


@pytest.mark.parametrize(
    ("users", "words"),
    [
        (
            {"root": {**ROOT, "priviledge": "x"}},
            "users.root: unknown key 'priviledge'; allowed: privilege, enab",
        ),
        (
            {"root": {**ROOT, "privilege": "admin"}},
            "users.root.privilege: must be one of priv-admin, priv-op",
        ),
        (
            {"root": {**ROOT, "ipmi_password": "x" * 21}},
            "users.root.ipmi_password: a password for IPMI has at",
        ),
        ({"root": {**ROOT, "groups": ["ssh"]}}, "users.root: ipmi_password is for users in the group ipmi"),
        ({"root": {"enabled": True}}, "users.root: privilege is missing"),
        ({f"u{number}": ROOT for number in range(16)}, "users.u15: there is no room for more than 15 users"),
        ({"a-": ROOT, "a_2d": ROOT}, "users.a_2d: on D-Bus another user would look the same"),
    ],
)
def test_a_file_that_is_wrong_makes_nobody(users: Any, words: str) -> None:
    folder = dropped(users)
    made, store = take(folder)
    assert (made, store.users) == ([], {})
    (problem,) = store.problems
    assert problem.startswith(f"provision.json: {words}")
    assert problem.endswith("; it is now provision.json.damaged, and nobody is made from it")
    assert PASSWORD not in problem
    assert provision.FILE not in folder.files


@given(st.binary(max_size=200))
def test_any_file(data: bytes) -> None:
    folder = dropped()
    folder.files[provision.FILE] = data
    made, store = take(folder)
    assert made == []
    assert len(store.problems) == 1


def test_a_file_of_somebody_else_stays_and_is_told() -> None:
    class Foreign(FlakyFolder):
        def read(self, name: str) -> bytes:
            if name == provision.FILE:
                raise PermissionError(13, "Permission denied", name)
            return super().read(name)

    folder = Foreign()
    made, store = take(folder)
    assert made == []
    assert store.problems == ["provision.json: Permission denied; it must belong to the service's user"]
