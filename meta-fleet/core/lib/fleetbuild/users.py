# SPDX-License-Identifier: Apache-2.0
"""User and group tables of the image (passwd(5), group(5), shadow(5)).

Numbers are fixed in one table, because files on the writable partition outlive an update: a user that got
another number in the next image would lose them.
"""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fleetbuild import BuildError

NOLOGIN = "/usr/sbin/nologin"
# useradd(8)'s default and the limit of utmp(5).
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class User:
    """One system user with a group of its own name and number (1-999)."""

    name: str
    uid: int
    home: str = "/"
    shell: str = NOLOGIN
    comment: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The table of fixed numbers; ``overrides`` changes home or shell of an account of base-passwd."""

    users: Mapping[str, User]
    groups: Mapping[str, int]
    overrides: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Accounts:
    """The texts of /etc/passwd, /etc/group and /etc/shadow, and the numbers by name."""

    passwd: str
    group: str
    shadow: str
    uids: Mapping[str, int]
    gids: Mapping[str, int]


def _is_number(value: object) -> bool:
    return type(value) is int and 1 <= value <= 999


def _is_path(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"/[^:\n]*", value) is not None


# Key of a user, what its value must be, and the words for that.
_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "uid": (_is_number, "a number from 1 to 999"),
    "home": (_is_path, "an absolute path"),
    "shell": (_is_path, "an absolute path"),
    "comment": (
        lambda value: isinstance(value, str) and not re.search(r"[:\n]", value),
        "a text without colon",
    ),
    "groups": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "a list of names",
    ),
}


def load(path: Path) -> Table:
    """Read ``users.toml``; BuildError names the entry that is wrong."""
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BuildError(f"{path}: {error}") from None
    if unknown := sorted(data.keys() - {"users", "groups", "overrides"}):
        raise BuildError(f"{path}: unknown: {', '.join(unknown)}; allowed: users, groups, overrides")
    for key, value in data.items():
        if not isinstance(value, dict):
            raise BuildError(f"{path}: [{key}] must be a table")
    users = {}
    for name, entry in data.get("users", {}).items():
        _check(f"{path}: [users.{name}]", entry, _KEYS)
        if "uid" not in entry:
            raise BuildError(f"{path}: [users.{name}]: uid is missing")
        users[name] = User(name=name, **{**entry, "groups": tuple(entry.get("groups", ()))})
    groups: dict[str, int] = data.get("groups", {})
    _check(f"{path}: [groups]", groups, dict.fromkeys(groups, _KEYS["uid"]))
    overrides = data.get("overrides", {})
    for name, entry in overrides.items():
        _check(f"{path}: [overrides.{name}]", entry, {key: _KEYS[key] for key in ("home", "shell")})
    taken: dict[int, str] = {}
    for name, number in [*((user.name, user.uid) for user in users.values()), *groups.items()]:
        if not _NAME.fullmatch(name):
            raise BuildError(
                f"{path}: '{name}' cannot be a name: small letters, digits, '_' and '-', at most 32"
            )
        if number in taken:
            raise BuildError(f"{path}: {name} and {taken[number]} have the same number {number}")
        taken[number] = name
    if both := sorted(users.keys() & groups.keys()):
        raise BuildError(f"{path}: {', '.join(both)}: a user has a group of its name already")
    return Table(users, groups, overrides)


def _check(where: str, entry: object, keys: Mapping[str, tuple[Callable[[Any], bool], str]]) -> None:
    if not isinstance(entry, dict):
        raise BuildError(f"{where} must be a table")
    for key, value in entry.items():
        if key not in keys:
            raise BuildError(f"{where}: unknown key {key}; allowed: {', '.join(keys)}")
        right, words = keys[key]
        if not right(value):
            raise BuildError(f"{where}: {key} must be {words}, not {value!r}")


class _Useradd(argparse.ArgumentParser):
    """The options of useradd(8) that make a system user without a home folder."""

    def __init__(self) -> None:
        super().__init__(prog="useradd", add_help=False, allow_abbrev=False)
        for short, long in (("-r", "--system"), ("-M", "--no-create-home"), ("-U", "--user-group")):
            self.add_argument(short, long, action="store_true")
        for short, long in (("-d", "--home-dir"), ("-s", "--shell"), ("-c", "--comment"), ("-G", "--groups")):
            self.add_argument(short, long)
        self.add_argument("-N", "--no-user-group", action="store_true")
        self.add_argument("-g", "--gid")
        self.add_argument("name")

    def error(self, message: str) -> NoReturn:
        raise BuildError(message)


def parse_useradd(parameters: str) -> list[str]:
    """Return the user names of a USERADD_PARAM value (useradd(8) words, ``;`` between users).

    Numbers, homes, shells and groups come from the table of the distribution; a request for anything else
    than a system user without a home folder is an error.
    """
    names = []
    for words in parameters.split(";"):
        if not words.strip():
            continue
        try:
            options = _Useradd().parse_args(shlex.split(words))
        except (BuildError, ValueError) as error:
            raise BuildError(f"USERADD_PARAM '{words.strip()}': {error}") from None
        if not options.system:
            raise BuildError(
                f"USERADD_PARAM '{words.strip()}': only system users are made at build time (--system)"
            )
        names.append(options.name)
    return names


def tables(
    table: Table,
    wanted_users: Iterable[str],
    wanted_groups: Iterable[str],
    passwd_master: str,
    group_master: str,
) -> Accounts:
    """Return the accounts: the base tables, the wanted users with their groups, and all groups of the table.

    Every password is locked. Raises BuildError for a name without a fixed number, for a number of the table
    that the base tables use, and for an override or a group of a user that does not exist.
    """
    passwd = [line.split(":") for line in passwd_master.splitlines() if line.strip()]
    group = [line.split(":") for line in group_master.splitlines() if line.strip()]
    _check_numbers(table, passwd, group)
    if lost := sorted(table.overrides.keys() - {entry[0] for entry in passwd}):
        raise BuildError(f"users.toml: [overrides] names accounts that do not exist: {', '.join(lost)}")
    for entry in passwd:
        override = table.overrides.get(entry[0], {})
        entry[5], entry[6] = override.get("home", entry[5]), override.get("shell", entry[6])
    members: dict[str, list[str]] = {}
    for name in sorted(set(wanted_users) - {entry[0] for entry in passwd}):
        user = table.users.get(name)
        if user is None:
            raise BuildError(
                f"user '{name}' has no fixed number; add [users.{name}] with a free uid to the "
                "distribution's users.toml"
            )
        passwd.append([name, "x", str(user.uid), str(user.uid), user.comment, user.home, user.shell])
        group.append([name, "x", str(user.uid), ""])
        for other in user.groups:
            members.setdefault(other, []).append(name)
    present = {entry[0] for entry in group}
    group += [
        [name, "x", str(number), ""] for name, number in sorted(table.groups.items()) if name not in present
    ]
    if lost := sorted(set(wanted_groups) - {entry[0] for entry in group}):
        raise BuildError(
            f"group '{lost[0]}' has no fixed number; add it with a free number to [groups] of the "
            "distribution's users.toml"
        )
    for entry in group:
        entry[3] = ",".join(sorted({*filter(None, entry[3].split(",")), *members.pop(entry[0], ())}))
    if members:
        raise BuildError(f"users.toml names groups that do not exist: {', '.join(sorted(members))}")
    for entry in (*passwd, *group):
        entry[1] = "x"
    return Accounts(
        "".join(":".join(entry) + "\n" for entry in passwd),
        "".join(":".join(entry) + "\n" for entry in group),
        # The day of the last change (19000: 2022-01-08) is a constant, so that it does not change the image.
        "".join(f"{entry[0]}:!:19000:0:99999:7:::\n" for entry in passwd),
        {entry[0]: int(entry[2]) for entry in passwd},
        {entry[0]: int(entry[2]) for entry in group},
    )


def _check_numbers(table: Table, passwd: list[list[str]], group: list[list[str]]) -> None:
    """Raise BuildError where the table and Debian's fixed numbers contradict each other."""
    uids = {user.name: user.uid for user in table.users.values()}
    for kind, own, base in (("user", uids, passwd), ("group", {**uids, **table.groups}, group)):
        names = {int(entry[2]): entry[0] for entry in base}
        numbers = {entry[0]: int(entry[2]) for entry in base}
        for name, number in own.items():
            if names.get(number, name) != name or numbers.get(name, number) != number:
                raise BuildError(
                    f"users.toml: {name} = {number} contradicts base-passwd, where {kind} "
                    f"{names.get(number, name)} has {numbers.get(name, number)}; take a free number"
                )


def sysusers_names(text: str) -> tuple[list[str], list[str]]:
    """Return the names of the users and of the groups that a sysusers.d(5) file asks for.

    Raises BuildError for a line of another kind: memberships and ranges have no place in a table of fixed
    numbers.
    """
    found: dict[str, list[str]] = {"u": [], "g": []}
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        kind = words[0].rstrip("!")
        if kind not in found or len(words) < 2:
            raise BuildError(f"sysusers.d: only lines of type u and g can be followed, not '{line.strip()}'")
        found[kind].append(words[1])
    return found["u"], found["g"]
