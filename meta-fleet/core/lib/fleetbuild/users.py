# SPDX-License-Identifier: Apache-2.0
"""User and group tables of the image (passwd(5), group(5), shadow(5)).

Numbers are fixed in one table, because files on the writable partition outlive an update: a user that got
another number in the next image would lose them.
"""

from __future__ import annotations

import argparse
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetbuild import BuildError

NOLOGIN = "/usr/sbin/nologin"


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


def load(path: Path) -> Table:
    """Read ``users.toml``; BuildError names the entry that is wrong."""
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BuildError(f"{path}: {error}") from None
    users = {}
    for name, entry in data.get("users", {}).items():
        try:
            users[name] = User(name=name, **{**entry, "groups": tuple(entry.get("groups", ()))})
        except TypeError as error:
            raise BuildError(
                f"{path}: [users.{name}]: {error}; allowed: uid, home, shell, comment, groups"
            ) from None
    groups = dict(data.get("groups", {}))
    numbers: dict[int, str] = {}
    for name, number in [*((u.name, u.uid) for u in users.values()), *groups.items()]:
        if not isinstance(number, int) or not 1 <= number <= 999:
            raise BuildError(f"{path}: {name}: the number must be 1 to 999, not {number!r}")
        if number in numbers:
            raise BuildError(f"{path}: {name} and {numbers[number]} have the same number {number}")
        numbers[number] = name
    overrides = data.get("overrides", {})
    for name, entry in overrides.items():
        if set(entry) - {"home", "shell"}:
            raise BuildError(f"{path}: [overrides.{name}]: allowed keys are home and shell")
    return Table(users, groups, overrides)


def parse_useradd(parameters: str) -> list[str]:
    """Return the user names of a USERADD_PARAM or GROUPADD_PARAM value (useradd(8) words, ``;`` between users).

    Numbers, homes and shells come from the table of the distribution; a request for anything else than a
    system user without a home folder is an error.
    """

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> None:  # type: ignore[override]
            raise BuildError(f"USERADD_PARAM '{parameters}': {message}")

    parser = Parser(prog="useradd", add_help=False)
    for flag in (
        ("-r", "--system"),
        ("-M", "--no-create-home"),
        ("-U", "--user-group"),
        ("-N", "--no-user-group"),
    ):
        parser.add_argument(*flag, action="store_true")
    for flag in (
        ("-d", "--home-dir"),
        ("-s", "--shell"),
        ("-c", "--comment"),
        ("-g", "--gid"),
        ("-G", "--groups"),
    ):
        parser.add_argument(*flag)
    parser.add_argument("name")
    names = []
    for words in parameters.split(";"):
        if words.strip():
            options = parser.parse_args(shlex.split(words))
            if not options.system:
                raise BuildError(
                    f"USERADD_PARAM '{words.strip()}': only system users are made at build time (--system)"
                )
            names.append(options.name)
    return names


def tables(
    table: Table, names: Iterable[str], passwd_master: str, group_master: str
) -> tuple[str, str, str, Mapping[str, int]]:
    """Return /etc/passwd, /etc/group, /etc/shadow and the numbers, for the base tables plus ``names``.

    Every password is locked. Raises BuildError for a user that has no fixed number.
    """
    passwd = [line.split(":") for line in passwd_master.splitlines() if line.strip()]
    group = [line.split(":") for line in group_master.splitlines() if line.strip()]
    have = {entry[0] for entry in passwd}
    for entry in passwd:
        entry[1] = "x"
        override = table.overrides.get(entry[0], {})
        entry[5], entry[6] = override.get("home", entry[5]), override.get("shell", entry[6])
    members: dict[str, list[str]] = {}
    for name in sorted(set(names) - have):
        user = table.users.get(name)
        if user is None:
            raise BuildError(
                f"user '{name}' has no fixed number; add [users.{name}] with a free uid to the distribution's users.toml"
            )
        passwd.append([name, "x", str(user.uid), str(user.uid), user.comment, user.home, user.shell])
        group.append([name, "x", str(user.uid), ""])
        for other in user.groups:
            members.setdefault(other, []).append(name)
    present = {entry[0] for entry in group}
    group += [
        [name, "x", str(number), ""] for name, number in sorted(table.groups.items()) if name not in present
    ]
    for entry in group:
        entry[1] = "x"
        entry[3] = ",".join(sorted({*filter(None, entry[3].split(",")), *members.pop(entry[0], ())}))
    if members:
        raise BuildError(f"users.toml names groups that do not exist: {', '.join(sorted(members))}")
    shadow = "".join(f"{entry[0]}:!:19000:0:99999:7:::\n" for entry in passwd)
    numbers = {entry[0]: int(entry[2]) for entry in group}
    return (
        "".join(":".join(entry) + "\n" for entry in passwd),
        "".join(":".join(entry) + "\n" for entry in group),
        shadow,
        numbers,
    )


def sysusers_names(text: str) -> list[str]:
    """Return the user and group names that a sysusers.d(5) file asks for."""
    names = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].rstrip("!") in {"u", "g"}:
            names.append(words[1])
    return names
