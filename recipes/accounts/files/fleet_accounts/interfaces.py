# SPDX-License-Identifier: Apache-2.0
"""The users on D-Bus.

OpenBMC's names (phosphor-dbus-interfaces, xyz/openbmc_project/User): Manager on the root, Attributes and
Delete on each user. What those cannot do is in an interface of our own, io.metafleet.Accounts: passwords, and
what IPMI needs. Who may call what is the policy's to say. No message and no error shows a password.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbus_fast import DBusError, Variant

from fleet_accounts import users
from fleet_accounts.accounts import (
    Accounts,
    FullError,
    NameTakenError,
    NoSuchUserError,
    RefusedError,
)
from fleet_accounts.lockout import SECONDS
from fleet_accounts.secret import SecretError
from fleet_accounts.store import StoreError
from fleet_accounts.users import UserError, path_part
from fleet_bmc_common import log
from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree

BUS_NAME = "xyz.openbmc_project.User.Manager"
ROOT = "/xyz/openbmc_project/user"

MANAGER = "xyz.openbmc_project.User.Manager"
ATTRIBUTES = "xyz.openbmc_project.User.Attributes"
DELETE = "xyz.openbmc_project.Object.Delete"
ACCOUNTS = "io.metafleet.Accounts"

_COMMON = "xyz.openbmc_project.Common.Error."
_USER = "xyz.openbmc_project.User.Common.Error."
ERRORS: Mapping[type[Exception], str] = {
    NoSuchUserError: _USER + "UserNameDoesNotExist",
    NameTakenError: _USER + "UserNameExists",
    FullError: _USER + "NoResource",
    UserError: _COMMON + "InvalidArgument",
    RefusedError: _COMMON + "InsufficientPermission",
    SecretError: ACCOUNTS + ".Error.NoSecret",
    StoreError: "xyz.openbmc_project.Common.File.Error.Write",
}
_LATE = 0.1  # seconds; a timer may be early by less than this


class AccountObjects:
    """Shows the accounts and does what clients ask of them."""

    def __init__(self, accounts: Accounts, objects: ObjectTree) -> None:
        self._accounts = accounts
        self._objects = objects
        self._attributes: dict[str, Interface] = {}
        self._works = True
        self._manager = Interface(
            MANAGER,
            {
                "AllPrivileges": Variant("as", list(users.PRIVILEGES)),
                "AllGroups": Variant("as", list(users.GROUPS)),
            },
            methods={
                "CreateUser": self._method("sassb", "", self._create),
                "RenameUser": self._method("ss", "", self._rename),
                "GetUserInfo": self._method("s", "a{sv}", lambda name: [self._info(name)]),
            },
            signals={"UserRenamed": "ss"},
        )
        self._own = Interface(
            ACCOUNTS,
            {"IpmiUsers": Variant("a{qs}", self._ids())},
            methods={
                "CreateUserWithId": self._method("qsassb", "", self._create_with_id),
                "SetPassword": self._method("ss", "", self._set_password),
                "CheckPassword": self._method("ss", "b", self._check_password),
                "CountLogin": self._method("sb", "", self._count),
                "GetIpmiSecret": self._method("s", "ay", lambda name: [accounts.ipmi_secret(name)]),
            },
        )
        objects.manage(ROOT)
        objects.add(ROOT, self._manager, self._own)
        for name in accounts.users:
            self._add(name)

    # --- Users as objects ---

    def _add(self, name: str) -> None:
        attributes = self._attributes[name] = Interface(
            ATTRIBUTES,
            self._info(name),
            setters={
                "UserPrivilege": self._setter(name, self._accounts.set_privilege),
                "UserGroups": self._setter(name, self._accounts.set_groups),
                "UserEnabled": self._setter(name, self._accounts.set_enabled),
                "UserLockedForFailedAttempt": self._setter(name, self._set_locked),
            },
        )
        delete = self._method("", "", lambda: self._delete(name))
        self._objects.add(_path(name), attributes, Interface(DELETE, methods={"Delete": delete}))

    def _remove(self, name: str) -> None:
        del self._attributes[name]
        self._objects.remove(_path(name))

    def _info(self, name: str) -> dict[str, Variant]:
        user = self._accounts.user(name)
        return {
            "UserPrivilege": Variant("s", user.privilege),
            "UserGroups": Variant("as", list(user.groups)),
            "UserEnabled": Variant("b", user.enabled),
            "UserLockedForFailedAttempt": Variant("b", self._accounts.lockout.is_locked(name)),
            "UserPasswordExpired": Variant("b", False),
            "RemoteUser": Variant("b", False),
        }

    def _show(self, name: str) -> None:
        """Tell what has changed of a user, who may be gone when a timer calls."""
        if name in self._attributes:
            values = {key: value.value for key, value in self._info(name).items()}
            self._attributes[name].update(**values)

    def _ids(self) -> dict[int, str]:
        return {user.id: name for name, user in self._accounts.users.items()}

    # --- Changes ---

    def _create(self, name: str, groups: Sequence[str], privilege: str, enabled: bool) -> Body:
        return self._created(name, groups, privilege, enabled, None)

    def _create_with_id(
        self, number: int, name: str, groups: Sequence[str], privilege: str, enabled: bool
    ) -> Body:
        return self._created(name, groups, privilege, enabled, number)

    def _created(
        self, name: str, groups: Sequence[str], privilege: str, enabled: bool, number: int | None
    ) -> Body:
        self._accounts.create(name, groups, privilege, enabled, number)
        self._add(name)
        self._own.update(IpmiUsers=self._ids())
        log.info(f"user {name} was made")
        return ()

    def _delete(self, name: str) -> Body:
        self._accounts.delete(name)
        self._remove(name)
        self._own.update(IpmiUsers=self._ids())
        log.info(f"user {name} was deleted")
        return ()

    def _rename(self, name: str, new_name: str) -> Body:
        has_secret = self._accounts.rename(name, new_name)
        self._manager.emit("UserRenamed", name, new_name)
        self._remove(name)
        self._add(new_name)
        self._own.update(IpmiUsers=self._ids())
        log.info(f"user {name} is now {new_name}")
        if not has_secret:
            log.warning(f"the secret of {new_name} for IPMI cannot be read; set the password again")
        return ()

    def _set_password(self, name: str, password: str) -> Body:
        self._accounts.set_password(name, password)
        log.info(f"the password of user {name} was set")
        return ()

    def _set_locked(self, name: str, locked: bool) -> None:
        if locked:
            raise UserError("UserLockedForFailedAttempt can be set to false only")
        self._accounts.lockout.unlock(name)

    # --- Logins ---

    def _check_password(self, name: str, password: str) -> Body:
        was = self._accounts.lockout.is_locked(name)
        right = self._accounts.check_password(name, password)
        self._after_login(name, was)
        return [right]

    def _count(self, name: str, success: bool) -> Body:
        was = self._accounts.lockout.is_locked(name)
        self._accounts.count(name, success)
        self._after_login(name, was)
        return ()

    def _after_login(self, name: str, was_locked: bool) -> None:
        if self._accounts.lockout.is_locked(name) and not was_locked:
            log.warning(f"user {name} is locked out for {SECONDS:.0f} s after too many wrong passwords")
            asyncio.get_running_loop().call_later(SECONDS + _LATE, self._show, name)
        self._show(name)

    # --- Errors ---

    def _method(self, arguments: str, results: str, handler: Callable[..., Body]) -> Method:
        return Method(arguments, results, lambda _sender, *words: self._guarded(handler, *words))

    def _setter(self, name: str, change: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
        def set_value(_sender: str, value: Any) -> None:
            self._guarded(change, name, value)
            self._show(name)

        return set_value

    def _guarded(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """Do it, and tell what went wrong by the error that D-Bus has for it."""
        try:
            return do(*arguments)
        except tuple(ERRORS) as error:
            kind = next(name for known, name in ERRORS.items() if isinstance(error, known))
            raise DBusError(kind, str(error)) from None
        finally:
            self._tell_state()

    def _tell_state(self) -> None:
        """Say once when flash begins to refuse, and once when that is over."""
        works = self._accounts.store.works
        if self._works and not works:
            log.error("the users' file cannot be written; changes are refused until it can")
        elif works and not self._works:
            log.info("the users' file can be written again")
        self._works = works


def _path(name: str) -> str:
    return f"{ROOT}/{path_part(name)}"
