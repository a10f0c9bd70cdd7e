# SPDX-License-Identifier: Apache-2.0
"""What a user is, and what its parts may be.

Each `check_*` returns the value in its final form; UserError says what is allowed, and never the value, which
may be a password that went astray.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# The words of OpenBMC's phosphor-user-manager.
PRIVILEGES = ("priv-admin", "priv-operator", "priv-user")
GROUPS = ("ipmi", "redfish", "ssh", "web")

IDS = range(1, 16)  # IPMI 2.0, 22.26: user ids have six bits; as many users as OpenBMC has
NAME_BYTES = 16  # IPMI 2.0, 22.28
PASSWORD_BYTES = range(8, 65)
IPMI_PASSWORD_BYTES = 20  # IPMI 2.0, 22.30
SEALED_BYTES = 48  # nonce, password filled up with zeros, tag: secret.py

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")
_FIRST = _LETTERS | {"_"}
_PORTABLE = _FIRST | _DIGITS | {".", "-"}  # POSIX.1-2017, 3.437 User Name
_IN_PATH = _FIRST | _DIGITS
_CRYPT = _LETTERS | _DIGITS | {".", "/"}
_SALT_CHARACTERS = range(1, 17)
_HASH_CHARACTERS = 86


class UserError(ValueError):
    """Something that a user cannot be or have, in one line."""


class User(NamedTuple):
    """A user without the name.

    `password` is a crypt(5) hash of the kind `$6$`, or empty; `secret` is the password as IPMI needs it,
    sealed, in hex, or empty.
    """

    id: int
    privilege: str
    enabled: bool
    groups: tuple[str, ...]
    password: str = ""
    secret: str = ""


Users = Mapping[str, User]


def check_name(value: Any) -> str:
    """A user name: POSIX portable, beginning with a letter or underscore, 1 to 16 bytes."""
    if not isinstance(value, str) or not value or value[0] not in _FIRST or not _PORTABLE.issuperset(value):
        raise UserError(
            "a user name must be of A-Z, a-z, 0-9, '.', '_' and '-' and begin with a letter or underscore"
        )
    if len(value) > NAME_BYTES:
        raise UserError(
            f"a user name has at most {NAME_BYTES} bytes, because IPMI has no more; this has {len(value)}"
        )
    return value


def check_id(value: Any) -> int:
    """An IPMI user id, 1 to 15."""
    if type(value) is not int or value not in IDS:
        raise UserError(f"must be a number from {IDS[0]} to {IDS[-1]}")
    return value


def check_privilege(value: Any) -> str:
    """One of PRIVILEGES."""
    if value not in PRIVILEGES:
        raise UserError(f"must be one of {', '.join(PRIVILEGES)}")
    return str(value)


def check_enabled(value: Any) -> bool:
    """A truth value."""
    if not isinstance(value, bool):
        raise UserError("must be true or false")
    return value


def check_groups(value: Any) -> tuple[str, ...]:
    """A list of GROUPS, in any order, none of them twice."""
    if (
        not isinstance(value, list | tuple)
        or any(group not in GROUPS for group in value)
        or len(set(value)) != len(value)
    ):
        raise UserError(f"must be a list of {', '.join(GROUPS)}, none of them twice")
    return tuple(sorted(value))


def check_hash(value: Any) -> str:
    """A hash of the kind `$6$` (SHA-512) with its own number of rounds, or nothing."""
    if value == "":
        return ""
    parts = value.split("$") if isinstance(value, str) else []
    if (
        len(parts) != 4
        or parts[:2] != ["", "6"]
        or len(parts[2]) not in _SALT_CHARACTERS
        or len(parts[3]) != _HASH_CHARACTERS
        or not _CRYPT.issuperset(parts[2] + parts[3])
    ):
        raise UserError("must be a hash of crypt(5) that begins with $6$ and has no rounds, or empty")
    return str(value)


def check_sealed(value: Any) -> str:
    """A sealed secret in hex, or nothing."""
    try:
        if value == "" or len(bytes.fromhex(value)) == SEALED_BYTES:
            return str(value)
    except (TypeError, ValueError):
        pass
    raise UserError(f"must be {SEALED_BYTES} bytes in hex, or empty")


def check_password(value: Any, groups: Iterable[str]) -> str:
    """A password for a user of these groups: 8 to 64 bytes, at most 20 when IPMI is among them."""
    if not isinstance(value, str) or not value.isprintable():
        raise UserError("a password must be text without control characters")
    size = len(value.encode(errors="replace"))
    if size not in PASSWORD_BYTES:
        raise UserError(f"a password has {PASSWORD_BYTES[0]} to {PASSWORD_BYTES[-1]} bytes; this has {size}")
    if "ipmi" in groups and size > IPMI_PASSWORD_BYTES:
        raise UserError(
            f"a password for IPMI has at most {IPMI_PASSWORD_BYTES} bytes, and the user is in its group; "
            f"this has {size}"
        )
    return value


def free_id(users: Users) -> int | None:
    """Return the lowest id that nobody has; None when there is none."""
    taken = {user.id for user in users.values()}
    return next((number for number in IDS if number not in taken), None)


def path_part(name: str) -> str:
    """Return the last part of the path of a user's object.

    It is the name; when that has other characters than D-Bus allows in paths, everything but letters and
    digits becomes an underscore and two hex digits, as sd_bus_path_encode(3) writes it.
    """
    if _IN_PATH.issuperset(name):
        return name
    plain = _LETTERS | _DIGITS
    return "".join(letter if letter in plain else f"_{ord(letter):02x}" for letter in name)
