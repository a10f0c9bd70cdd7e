# SPDX-License-Identifier: Apache-2.0
"""What can be done with users, over a folder in memory."""

import pytest

from accounts_fakes import FlakyFolder
from fleet_accounts import secret
from fleet_accounts.accounts import (
    Accounts,
    FullError,
    NameTakenError,
    NoSuchUserError,
    RefusedError,
)
from fleet_accounts.lockout import FAILURES, SECONDS, Lockout
from fleet_accounts.secret import SecretError, Vault
from fleet_accounts.store import Store, StoreError
from fleet_accounts.users import User, UserError, Users

PASSWORD = "correct horse"


class World:
    def __init__(self) -> None:
        self.folder = FlakyFolder()
        self.now = 0.0
        self.accounts = self.start()

    def start(self) -> Accounts:
        return Accounts(Store(self.folder), Vault(self.folder), Lockout(lambda: self.now))

    @property
    def in_flash(self) -> Users:
        return Store(self.folder).users


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def accounts(world: World) -> Accounts:
    accounts = world.accounts
    accounts.create("root", ["ssh", "ipmi"], "priv-admin", True)
    accounts.set_password("root", PASSWORD)
    return accounts


def lock(accounts: Accounts, user: str) -> None:
    for _ in range(FAILURES):
        assert not accounts.check_password(user, "wrong")


# --- Users ---


def test_create(world: World) -> None:
    world.accounts.create("a", ["web", "ipmi"], "priv-admin", True)
    world.accounts.create("b", [], "priv-user", False, 7)
    assert world.in_flash == {
        "a": User(1, "priv-admin", True, ("ipmi", "web")),
        "b": User(7, "priv-user", False, ()),
    }
    assert world.accounts.users == world.in_flash


def test_what_cannot_be_created(world: World, accounts: Accounts) -> None:
    for error, words, arguments in (
        (NameTakenError, "there is a user 'root' already", ("root", [], "priv-user", True)),
        (UserError, "at most 16 bytes", ("a" * 17, [], "priv-user", True)),
        (UserError, "privilege must be one of priv-admin, priv-operator", ("a", [], "", True)),
        (UserError, "groups must be a list of ipmi", ("a", ["wheel"], "priv-user", True)),
        (FullError, "IPMI user id 1 is taken", ("a", [], "priv-user", True, 1)),
        (UserError, "IPMI user id must be a number from 1 to 15", ("a", [], "priv-user", True, 0)),
        (UserError, "IPMI user id must be", ("a", [], "priv-user", True, 16)),
    ):
        with pytest.raises(error, match=words):
            accounts.create(*arguments)
    assert set(world.in_flash) == {"root"}


def test_no_two_users_look_the_same(accounts: Accounts) -> None:
    accounts.create("a-", [], "priv-user", True)
    with pytest.raises(NameTakenError, match="'a_2d' would look the same as 'a-'"):
        accounts.create("a_2d", [], "priv-user", True)
    accounts.rename("a-", "a_2d")  # it may take its own place
    assert set(accounts.users) == {"root", "a_2d"}


def test_fifteen_users_are_all(world: World) -> None:
    for number in range(1, 16):
        world.accounts.create(f"u{number}", [], "priv-user", True)
    with pytest.raises(FullError, match="15 users, more are not possible; delete one"):
        world.accounts.create("one", [], "priv-user", True)
    world.accounts.delete("u4")
    world.accounts.create("one", [], "priv-user", True)
    assert world.in_flash["one"].id == 4
    assert len(world.in_flash) == 15


def test_nobody_of_this_name(accounts: Accounts) -> None:
    for use in (
        lambda: accounts.delete("x"),
        lambda: accounts.rename("x", "y"),
        lambda: accounts.set_privilege("x", "priv-user"),
        lambda: accounts.set_groups("x", []),
        lambda: accounts.set_enabled("x", True),
        lambda: accounts.set_password("x", PASSWORD),
        lambda: accounts.count("x", True),
        lambda: accounts.ipmi_secret("x"),
    ):
        with pytest.raises(NoSuchUserError, match="there is no user 'x'"):
            use()


def test_changes(world: World, accounts: Accounts) -> None:
    before = accounts.user("root")
    accounts.set_privilege("root", "priv-operator")
    accounts.set_enabled("root", False)
    accounts.set_groups("root", ["web", "ipmi"])
    assert world.in_flash["root"] == before._replace(
        privilege="priv-operator", enabled=False, groups=("ipmi", "web")
    )
    with pytest.raises(UserError, match="privilege must be one of"):
        accounts.set_privilege("root", "admin")
    with pytest.raises(UserError, match="groups must be"):
        accounts.set_groups("root", ["ssh", "ssh"])


def test_what_stays_the_same_is_not_written(world: World, accounts: Accounts) -> None:
    before = world.folder.changes
    accounts.set_privilege("root", "priv-admin")
    accounts.set_groups("root", ["ipmi", "ssh"])
    accounts.set_enabled("root", True)
    assert accounts.check_password("root", PASSWORD)
    assert not accounts.check_password("root", "wrong")
    assert world.folder.changes == before


def test_a_full_flash_changes_nothing(world: World, accounts: Accounts) -> None:
    before = dict(accounts.users)
    world.folder.is_full = True
    for change in (
        lambda: accounts.create("a", [], "priv-user", True),
        lambda: accounts.delete("root"),
        lambda: accounts.rename("root", "a"),
        lambda: accounts.set_enabled("root", False),
        lambda: accounts.set_password("root", "another password"),
    ):
        with pytest.raises(StoreError, match="No space left on device"):
            change()
    assert accounts.users == before
    assert accounts.check_password("root", PASSWORD)


# --- Passwords ---


def test_a_password_opens_until_there_is_another(world: World, accounts: Accounts) -> None:
    assert accounts.check_password("root", PASSWORD)
    assert world.start().check_password("root", PASSWORD)
    accounts.set_password("root", "another one")
    assert not accounts.check_password("root", PASSWORD)
    assert accounts.check_password("root", "another one")
    assert accounts.ipmi_secret("root") == b"another one"


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD + " ", "x" * 65, "x" * 1_000_000, "\ud800"])
def test_wrong_passwords(accounts: Accounts, password: str) -> None:
    assert not accounts.check_password("root", password)
    assert not accounts.check_password("nobody", password)


def test_nobody_gets_in_without_a_password_or_disabled(accounts: Accounts) -> None:
    accounts.create("new", ["ssh"], "priv-user", True)
    assert not accounts.check_password("new", "")
    accounts.set_enabled("root", False)
    assert not accounts.check_password("root", PASSWORD)
    accounts.set_enabled("root", True)
    assert accounts.check_password("root", PASSWORD)


def test_a_hash_is_computed_for_everybody(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    crypt = secret._crypt

    def note(word: str, setting: str) -> str:
        computed.append(setting)
        return crypt(word, setting)

    monkeypatch.setattr(secret, "_crypt", note)
    accounts.create("off", [], "priv-user", False)
    accounts.create("held", [], "priv-user", True)
    lock(accounts, "held")
    computed.clear()
    for user in ("root", "nobody", "off", "held"):
        accounts.check_password(user, "wrong")
    assert len(computed) == 4
    assert all(setting.startswith("$6$") for setting in computed)


def test_the_length_for_ipmi(accounts: Accounts) -> None:
    with pytest.raises(UserError, match="a password for IPMI has at most 20 bytes"):
        accounts.set_password("root", "x" * 21)
    accounts.set_groups("root", ["ssh"])
    accounts.set_password("root", "x" * 21)
    assert accounts.check_password("root", "x" * 21)


# --- IPMI ---


def test_who_leaves_ipmi_has_no_secret(world: World, accounts: Accounts) -> None:
    accounts.set_groups("root", ["ssh"])
    assert world.in_flash["root"].secret == ""
    with pytest.raises(RefusedError, match="root is not in the group ipmi"):
        accounts.ipmi_secret("root")
    accounts.set_groups("root", ["ipmi", "ssh"])
    with pytest.raises(SecretError, match="root has no password for IPMI; set it"):
        accounts.ipmi_secret("root")
    accounts.set_password("root", PASSWORD)
    assert accounts.ipmi_secret("root") == PASSWORD.encode()


def test_a_secret_is_refused_while_the_user_is_disabled_or_locked_out(accounts: Accounts) -> None:
    accounts.set_enabled("root", False)
    with pytest.raises(RefusedError, match="root is disabled"):
        accounts.ipmi_secret("root")
    accounts.set_enabled("root", True)
    lock(accounts, "root")
    with pytest.raises(RefusedError, match="root is locked out"):
        accounts.ipmi_secret("root")


def test_rename_takes_everything_along(world: World, accounts: Accounts) -> None:
    before = accounts.user("root")
    accounts.count("root", False)
    assert accounts.rename("root", "boss")
    assert accounts.ipmi_secret("boss") == PASSWORD.encode()
    assert accounts.check_password("boss", PASSWORD)
    assert world.in_flash["boss"]._replace(secret="") == before._replace(secret="")
    assert set(world.in_flash) == {"boss"}
    for new_name, error in (("boss", NameTakenError), ("a b", UserError)):
        with pytest.raises(error):
            accounts.rename("boss", new_name)


def test_rename_goes_on_without_a_secret_that_nobody_can_read(world: World, accounts: Accounts) -> None:
    del world.folder.files["key"]
    assert not accounts.rename("root", "boss")
    assert world.in_flash["boss"].secret == ""
    assert accounts.check_password("boss", PASSWORD)
    assert accounts.rename("boss", "root")  # there is none to lose


# --- Lock-out ---


def test_five_wrong_passwords_lock_out(world: World, accounts: Accounts) -> None:
    lock(accounts, "root")
    assert not accounts.check_password("root", PASSWORD)
    world.now += SECONDS
    assert accounts.check_password("root", PASSWORD)


def test_logins_by_ipmi_count_too(world: World, accounts: Accounts) -> None:
    assert [accounts.count("root", False) for _ in range(FAILURES)][-1]
    accounts.count("root", True)  # came too late, and changes nothing
    assert not accounts.check_password("root", PASSWORD)
    world.now += SECONDS
    for _ in range(FAILURES - 1):
        accounts.count("root", False)
    accounts.count("root", True)
    assert not accounts.count("root", False)
    assert accounts.check_password("root", PASSWORD)


def test_only_users_that_are_there_are_counted(accounts: Accounts) -> None:
    for _ in range(FAILURES):
        accounts.check_password("later", "wrong")
    accounts.create("later", [], "priv-user", True)
    assert not accounts.lockout.is_locked("later")
    lock(accounts, "later")
    accounts.delete("later")
    accounts.create("later", [], "priv-user", True)
    assert not accounts.lockout.is_locked("later")
