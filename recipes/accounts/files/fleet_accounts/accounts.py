# SPDX-License-Identifier: Apache-2.0
"""What can be done with users. Each change is in flash when its method returns, or nothing has changed."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fleet_accounts import users
from fleet_accounts.lockout import Lockout
from fleet_accounts.secret import SecretError, Vault, hash_password, is_password
from fleet_accounts.store import Store
from fleet_accounts.users import User, UserError, Users

_T = TypeVar("_T")


class NoSuchUserError(Exception):
    """There is no user of this name."""


class NameTakenError(Exception):
    """There is a user of this name, or of one that looks the same on D-Bus."""


class FullError(Exception):
    """There is no room for another user, or not at this IPMI user id."""


class RefusedError(Exception):
    """The user may not log in by IPMI now."""


class Accounts:
    """The users, their secrets, and who is locked out.

    All methods raise NoSuchUserError for a name that nobody has, UserError for what cannot be, and StoreError
    when flash refuses.
    """

    def __init__(self, store: Store, vault: Vault, lockout: Lockout) -> None:
        self.lockout = lockout
        self.store = store
        self._vault = vault

    @property
    def users(self) -> Users:
        """All users by name."""
        return self.store.users

    def user(self, name: str) -> User:
        """Return a user."""
        found = self.users.get(name)
        if found is None:
            raise NoSuchUserError(f"there is no user {name[:40]!r}")
        return found

    def create(
        self, name: str, groups: Iterable[str], privilege: str, enabled: bool, number: int | None = None
    ) -> None:
        """Add a user without a password, so nobody can log in as this user yet.

        `number` is the IPMI user id, by default the lowest that is free. NameTakenError, FullError.
        """
        self._check_free(name)
        if number is None:
            number = users.free_id(self.users)
            if number is None:
                raise FullError(f"there are {len(users.IDS)} users, more are not possible; delete one")
        elif any(user.id == number for user in self.users.values()):
            raise FullError(f"IPMI user id {number} is taken")
        user = User(
            _checked("IPMI user id", users.check_id, number),
            _checked("privilege", users.check_privilege, privilege),
            enabled,
            _checked("groups", users.check_groups, list(groups)),
        )
        self.store.save({**self.users, name: user})

    def delete(self, name: str) -> None:
        """Remove a user."""
        self.user(name)
        self.store.save({other: user for other, user in self.users.items() if other != name})
        self.lockout.unlock(name)

    def rename(self, name: str, new_name: str) -> bool:
        """Give a user another name; whether the secret for IPMI came along. NameTakenError."""
        user = self.user(name)
        self._check_free(new_name, besides=name)
        secret = ""
        if user.secret:
            # it is bound to the name
            try:
                secret = self._vault.seal(new_name, self._vault.open(name, user.secret).decode())
            except SecretError:
                secret = ""
        renamed = {new_name if other == name else other: entry for other, entry in self.users.items()}
        self.store.save({**renamed, new_name: user._replace(secret=secret)})
        self.lockout.rename(name, new_name)
        return secret != "" or user.secret == ""

    def set_privilege(self, name: str, privilege: str) -> None:
        """Give a user another privilege."""
        self._change(name, privilege=_checked("privilege", users.check_privilege, privilege))

    def set_groups(self, name: str, groups: Iterable[str]) -> None:
        """Put a user into these groups and no other. Who leaves the group ipmi loses the secret for it."""
        checked = _checked("groups", users.check_groups, list(groups))
        secret = self.user(name).secret if "ipmi" in checked else ""
        self._change(name, groups=checked, secret=secret)

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Enable or disable a user."""
        self._change(name, enabled=enabled)

    def set_password(self, name: str, password: str) -> None:
        """Set a user's password, for IPMI too when the user is in that group. SecretError."""
        groups = self.user(name).groups
        users.check_password(password, groups)
        secret = self._vault.seal(name, password) if "ipmi" in groups else ""
        self._change(name, password=hash_password(password), secret=secret)

    def check_password(self, name: str, password: str) -> bool:
        """Whether somebody with this password may be let in as this user.

        It takes as long for a user that is not there, disabled or locked out; the answer is no.
        """
        user = self.users.get(name)
        may = user is not None and user.enabled and not self.lockout.is_locked(name)
        # nobody has another kind, and to hash megabytes would keep others waiting
        fits = password.isprintable() and len(password.encode()) <= users.PASSWORD_BYTES[-1]
        right = is_password(password if fits else "", user.password if user else "") and fits
        if may:
            self.count(name, right)
        return may and right

    def count(self, name: str, success: bool) -> bool:
        """Count a login that was tried; whether this one locked the user out."""
        self.user(name)
        if not success:
            return self.lockout.failed(name)
        if not self.lockout.is_locked(name):
            self.lockout.unlock(name)
        return False

    def ipmi_secret(self, name: str) -> bytes:
        """Return the password of a user who may log in by IPMI now. RefusedError, SecretError."""
        user = self.user(name)
        for refused, why in (
            (not user.enabled, "is disabled"),
            ("ipmi" not in user.groups, "is not in the group ipmi"),
            (self.lockout.is_locked(name), "is locked out after too many wrong passwords"),
        ):
            if refused:
                raise RefusedError(f"{name} {why}")
        return self._vault.open(name, user.secret)

    def _check_free(self, name: str, besides: str = "") -> None:
        if name in self.users:
            raise NameTakenError(f"there is a user {name[:40]!r} already")
        users.check_name(name)
        for other in self.users:
            if other != besides and users.path_part(other) == users.path_part(name):
                raise NameTakenError(f"on D-Bus {name!r} would look the same as {other!r}")

    def _change(self, name: str, **values: object) -> None:
        user = self.user(name)
        changed = user._replace(**values)  # type: ignore[arg-type]
        if changed != user:
            self.store.save({**self.users, name: changed})


def _checked(what: str, check: Callable[[Any], _T], value: Any) -> _T:
    try:
        return check(value)
    except UserError as error:
        raise UserError(f"{what} {error}") from None
