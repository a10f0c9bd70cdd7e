# SPDX-License-Identifier: Apache-2.0
"""The store over a folder that loses power at any byte: the old users or the new ones, and nobody else."""

import json
import os
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts_fakes import FlakyFolder, PowerCut
from fleet_accounts import store as store_module
from fleet_accounts import users
from fleet_accounts.document import DocumentError
from fleet_accounts.store import FILE, Store, StoreError, decode, encode
from fleet_accounts.users import GROUPS, PRIVILEGES, User

CUTS = 10_000 if os.environ.get("FLEET_NIGHTLY") == "1" else 1_000
ROOT = User(1, "priv-admin", True, ("ipmi", "ssh"), "$6$salt$" + "a" * 86, "0f" * 48)
GUEST = User(2, "priv-user", False, ())

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,15}", fullmatch=True)
user_tables = st.builds(
    lambda found, made: {
        name: user._replace(id=number)
        for number, (name, user) in enumerate(zip(found, made, strict=False), start=1)
    },
    st.lists(names, unique=True, max_size=15),
    st.lists(
        st.builds(
            User,
            st.just(0),
            st.sampled_from(PRIVILEGES),
            st.booleans(),
            st.lists(st.sampled_from(GROUPS), unique=True).map(lambda groups: tuple(sorted(groups))),
            st.sampled_from(["", ROOT.password]),
            st.binary(min_size=48, max_size=48).map(bytes.hex) | st.just(""),
        ),
        max_size=15,
    ),
)


@given(user_tables)
def test_what_is_encoded_is_decoded(known: dict[str, User]) -> None:
    assert decode(encode(known)) == known


def test_a_board_without_users() -> None:
    store = Store(FlakyFolder())
    assert store.users == {}
    assert store.problems == []


def test_users_outlive_the_store() -> None:
    folder = FlakyFolder()
    Store(folder).save({"root": ROOT, "guest": GUEST})
    again = Store(folder)
    assert again.users == {"root": ROOT, "guest": GUEST}
    assert again.problems == []


def test_the_old_or_the_new_users_after_a_power_cut() -> None:
    chance = random.Random(20)
    outcomes = set()
    for _ in range(CUTS):
        folder = FlakyFolder(chance)
        Store(folder).save({"root": ROOT})
        folder.cut_at = chance.randint(1, 2)
        with pytest.raises(PowerCut):
            Store(folder).save({"guest": GUEST})
        after = Store(folder)
        assert after.problems == []
        assert after.users in ({"root": ROOT}, {"guest": GUEST})
        outcomes.add("root" in after.users)
        after.save({"root": ROOT, "guest": GUEST})
        assert Store(folder).users == {"root": ROOT, "guest": GUEST}
        assert set(folder.files) == {FILE}
    assert outcomes == {True, False}


def test_the_first_users_or_none_after_a_power_cut() -> None:
    for seed in range(100):
        folder = FlakyFolder(random.Random(seed))
        folder.cut_at = seed % 2 + 1
        with pytest.raises(PowerCut):
            Store(folder).save({"root": ROOT})
        after = Store(folder)
        assert (after.users, after.problems) in (({}, []), ({"root": ROOT}, []))


def test_a_full_flash_changes_nothing() -> None:
    folder = FlakyFolder()
    store = Store(folder)
    store.save({"root": ROOT})
    folder.is_full = True
    with pytest.raises(StoreError, match=r"accounts\.json cannot be written: No space left on device"):
        store.save({})
    assert not store.works
    assert store.users == Store(folder).users == {"root": ROOT}
    folder.is_full = False
    store.save({})
    assert store.works
    assert store.users == {}


@given(st.binary(max_size=300))
def test_a_damaged_file_is_moved_aside_and_nobody_gets_in(data: bytes) -> None:
    folder = FlakyFolder()
    folder.files[FILE] = data
    store = Store(folder)
    assert store.users == {}
    (problem,) = store.problems
    assert problem.startswith("accounts.json: ")
    assert problem.endswith("; it is now accounts.json.damaged, and there are no users")
    assert folder.files == {FILE + ".damaged": data}
    store.save({"root": ROOT})
    assert Store(folder).users == {"root": ROOT}


def test_a_damaged_file_that_cannot_be_moved_is_said_to_be_there() -> None:
    folder = FlakyFolder()
    folder.files[FILE] = b"{"
    folder.is_full = True
    store = Store(folder)
    assert store.users == {}
    assert "it cannot be moved aside: No space left on device" in store.problems[0]


def test_a_file_that_cannot_be_read_lets_nobody_in() -> None:
    class Unreadable(FlakyFolder):
        def read(self, name: str) -> bytes:
            raise OSError(5, "Input/output error", name)

    folder = Unreadable()
    folder.files[FILE] = encode({"root": ROOT})
    store = Store(folder)
    assert store.users == {}
    assert store.problems[0].startswith("accounts.json: Input/output error; it is now")


@pytest.mark.parametrize("key", [*store_module.KEYS])
def test_each_key_is_needed_and_checked(key: str) -> None:
    entry: dict[str, Any] = ROOT._asdict()
    for table, words in (
        ({**entry, key: {}}, rf"^accounts\.json: users\.root\.{key}: must be "),
        ({name: value for name, value in entry.items() if name != key}, rf"users\.root: {key} is missing"),
        (
            {**entry, key + "s": 1},
            rf"unknown key '{key}s'; allowed: id, privilege, enabled, groups, password, s",
        ),
    ):
        with pytest.raises(DocumentError, match=words) as caught:
            decode(json.dumps({"format": 1, "users": {"root": table}}).encode())
        assert ROOT.password not in str(caught.value)
        assert ROOT.secret not in str(caught.value)


def test_two_users_are_not_the_same() -> None:
    with pytest.raises(DocumentError, match="two users have the same id"):
        decode(encode({"a": ROOT, "b": ROOT}))
    assert users.path_part("a-") == users.path_part("a_2d")
    with pytest.raises(DocumentError, match="two users have the same object path"):
        decode(encode({"a-": ROOT, "a_2d": GUEST}))
