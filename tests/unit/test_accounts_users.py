# SPDX-License-Identifier: Apache-2.0
"""What a user may be."""

from collections.abc import Callable
from typing import Any

import pytest

from fleet_accounts import users
from fleet_accounts.users import User, UserError

HASH = "$6$salt$" + "a" * 86


@pytest.mark.parametrize("name", ["root", "a", "_x", "John.Doe-2", "a" * 16])
def test_names(name: str) -> None:
    assert users.check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "1a", ".a", "a b", "a/b", "ä", "a\n", "a\0", "a$", 5, None])
def test_names_that_are_not_portable(name: Any) -> None:
    with pytest.raises(UserError, match="begin with a letter or underscore"):
        users.check_name(name)


def test_a_name_is_no_longer_than_ipmi_has_room_for() -> None:
    with pytest.raises(UserError, match="at most 16 bytes, because IPMI has no more; this has 17"):
        users.check_name("a" * 17)


@pytest.mark.parametrize(
    ("check", "right", "wrong", "words"),
    [
        (users.check_id, [1, 15], [0, 16, True, "1", 1.0, None], "from 1 to 15"),
        (
            users.check_privilege,
            ["priv-admin"],
            ["admin", "", None, []],
            "priv-admin, priv-operator, priv-user",
        ),
        (users.check_enabled, [True, False], [1, "true", None], "true or false"),
        (users.check_hash, ["", HASH], [None, "x", "$6$a", "$5$salt$" + "a" * 86, HASH + "a"], "begins with"),
        (users.check_hash, [], ["$6$rounds=9999999$salt$" + "a" * 86, "$6$$" + "a" * 86], "has no rounds"),
        (users.check_sealed, ["", "0" * 96], ["0" * 94, "x" * 96, None, 5], "48 bytes in hex"),
    ],
)
def test_values(check: Callable[[Any], Any], right: list[Any], wrong: list[Any], words: str) -> None:
    for value in right:
        assert check(value) == value
    for value in wrong:
        with pytest.raises(UserError, match=words):
            check(value)


def test_groups_are_sorted() -> None:
    assert users.check_groups(["web", "ipmi"]) == ("ipmi", "web")
    assert users.check_groups([]) == ()
    for wrong in ("ipmi", ["wheel"], ["ipmi", "ipmi"], [["ipmi"]], None):
        with pytest.raises(UserError, match="list of ipmi, redfish, ssh, web, none of them twice"):
            users.check_groups(wrong)


def test_passwords() -> None:
    for password, groups in (
        ("12345678", ["ipmi"]),
        ("x" * 20, ["ipmi"]),
        ("x" * 64, ["ssh"]),
        ("ä" * 10, ["ipmi"]),
    ):
        assert users.check_password(password, groups) == password
    refused: list[tuple[Any, list[str], str]] = [
        ("1234567", [], "8 to 64 bytes; this has 7"),
        ("x" * 65, [], "this has 65"),
        (
            "x" * 21,
            ["ssh", "ipmi"],
            "for IPMI has at most 20 bytes, and the user is in its group; this has 21",
        ),
        ("ä" * 11, ["ipmi"], "this has 22"),
        ("12345678\n", [], "control characters"),
        ("1234567\0", [], "control characters"),
        (5, [], "must be text"),
    ]
    for password, groups, words in refused:
        with pytest.raises(UserError, match=words):
            users.check_password(password, groups)


def test_no_error_shows_the_value() -> None:
    secret = "hunter2-hunter2-hunter2"
    checks = (users.check_name, users.check_id, users.check_privilege, users.check_enabled)
    for check in (*checks, users.check_groups, users.check_hash, users.check_sealed):
        for value in (secret, [secret], secret + "!"):
            with pytest.raises(UserError) as caught:
                check(value)
            assert "hunter" not in str(caught.value)


def test_the_lowest_free_id() -> None:
    known = {f"u{number}": User(number, "priv-user", True, ()) for number in (1, 2, 4)}
    assert users.free_id(known) == 3
    assert users.free_id({}) == 1
    assert users.free_id({f"u{n}": User(n, "priv-user", True, ()) for n in range(1, 16)}) is None


def test_path_part() -> None:
    assert users.path_part("fleet_admin2") == "fleet_admin2"
    assert users.path_part("John.Doe-2") == "John_2eDoe_2d2"
    assert users.path_part("a_b.c") == "a_5fb_2ec"
