# SPDX-License-Identifier: Apache-2.0
"""The service as shipped (program, policy) on a private system bus."""

import asyncio
import grp
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant

from dbus_harness import PATIENCE, CallError, PrivateBus, Service, call, wait_until
from fleet_accounts.interfaces import ERRORS
from fleet_accounts.secret import hash_password

NAME = "xyz.openbmc_project.User.Manager"
ROOT = "/xyz/openbmc_project/user"
ATTRIBUTES = "xyz.openbmc_project.User.Attributes"
ACCOUNTS = "io.metafleet.Accounts"
DELETE = "xyz.openbmc_project.Object.Delete"
PROPERTIES = "org.freedesktop.DBus.Properties"
USER_ERROR = "xyz.openbmc_project.User.Common.Error."
INVALID = "xyz.openbmc_project.Common.Error.InvalidArgument"

LAUNCH = ["-m", "fleet_bmc_common", "fleet_accounts"]
POLICY = Path(__file__).parents[2] / f"recipes/accounts/files/{NAME}.conf"
PASSWORD = "correct horse"


class Client:
    """What a test asks of the service."""

    def __init__(self, bus: PrivateBus) -> None:
        self.bus = bus

    def manager(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        return self.bus.call(NAME, ROOT, NAME, member, signature, *body)

    def own(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        return self.bus.call(NAME, ROOT, ACCOUNTS, member, signature, *body)

    def create(self, name: str, *groups: str, privilege: str = "priv-admin", enabled: bool = True) -> None:
        self.manager("CreateUser", "sassb", name, list(groups), privilege, enabled)

    def get(self, user: str, name: str) -> Any:
        (value,) = self.bus.call(NAME, f"{ROOT}/{user}", PROPERTIES, "Get", "ss", ATTRIBUTES, name)
        return value.value

    def set(self, user: str, name: str, value: Variant) -> None:
        self.bus.call(NAME, f"{ROOT}/{user}", PROPERTIES, "Set", "ssv", ATTRIBUTES, name, value)

    def check(self, user: str, password: str) -> bool:
        return bool(self.own("CheckPassword", "ss", user, password)[0])

    def objects(self) -> dict[str, Any]:
        (objects,) = self.bus.call(NAME, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        return dict(objects)

    def ids(self) -> dict[int, str]:
        (value,) = self.bus.call(NAME, ROOT, PROPERTIES, "Get", "ss", ACCOUNTS, "IpmiUsers")
        assert value.signature == "a{qs}"
        return dict(value.value)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[PrivateBus]:
    # the machine's groups lack fleet-logins: one of this user's stands for it
    policy = tmp_path / POLICY.name
    mine = grp.getgrgid(os.getgid()).gr_name
    policy.write_text(POLICY.read_text().replace('group="fleet-logins"', f'group="{mine}"'))
    users = {"fleet-accounts": os.getuid(), "root": os.getuid() + 1}
    with PrivateBus([policy], users=users) as bus:
        yield bus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


@pytest.fixture
def service(bus: PrivateBus, folder: Path) -> Iterator[Service]:
    with Service([*LAUNCH, str(folder)], bus.address) as service:
        service.wait_for("READY=1")
        yield service
        if service.process.poll() is None:
            assert service.stop() == 0


@pytest.fixture
def client(bus: PrivateBus, service: Service) -> Client:
    assert service.process.poll() is None
    return Client(bus)


def refused(error: str, words: str = "") -> Any:
    return pytest.raises(CallError, match=f"^{error.replace('.', '[.]')}: .*{words}")


# --- OpenBMC's names ---


def test_a_board_without_users_lets_nobody_in(client: Client) -> None:
    assert client.objects() == {}
    assert client.ids() == {}
    assert not client.check("root", "")
    (properties,) = client.bus.call(NAME, ROOT, PROPERTIES, "GetAll", "s", NAME)
    assert properties == {
        "AllPrivileges": Variant("as", ["priv-admin", "priv-operator", "priv-user"]),
        "AllGroups": Variant("as", ["ipmi", "redfish", "ssh", "web"]),
    }


def test_users_are_objects(client: Client) -> None:
    client.create("root", "ssh", "ipmi")
    (info,) = client.manager("GetUserInfo", "s", "root")
    assert info == {
        "UserPrivilege": Variant("s", "priv-admin"),
        "UserGroups": Variant("as", ["ipmi", "ssh"]),
        "UserEnabled": Variant("b", True),
        "UserLockedForFailedAttempt": Variant("b", False),
        "UserPasswordExpired": Variant("b", False),
        "RemoteUser": Variant("b", False),
    }
    assert client.objects() == {f"{ROOT}/root": {ATTRIBUTES: info, DELETE: {}}}
    assert client.ids() == {1: "root"}
    client.bus.call(NAME, f"{ROOT}/root", DELETE, "Delete")
    assert client.objects() == {}
    assert client.ids() == {}


def test_attributes_can_be_set(client: Client) -> None:
    client.create("root", "ssh")
    for name, value in (
        ("UserPrivilege", Variant("s", "priv-operator")),
        ("UserGroups", Variant("as", ["ipmi", "web"])),
        ("UserEnabled", Variant("b", False)),
    ):
        client.set("root", name, value)
        assert client.get("root", name) == value.value
    with refused(INVALID, "privilege must be one of priv-admin, priv-operator, priv-user"):
        client.set("root", "UserPrivilege", Variant("s", "admin"))
    with refused(INVALID, "groups must be a list of ipmi, redfish, ssh, web"):
        client.set("root", "UserGroups", Variant("as", ["wheel"]))
    for name in ("RemoteUser", "UserPasswordExpired"):
        with refused("org.freedesktop.DBus.Error.PropertyReadOnly"):
            client.set("root", name, Variant("b", True))
    assert client.get("root", "UserPrivilege") == "priv-operator"


def test_a_user_with_other_characters(client: Client) -> None:
    client.create("John.Doe-2")
    assert set(client.objects()) == {f"{ROOT}/John_2eDoe_2d2"}
    assert client.ids() == {1: "John.Doe-2"}


def test_errors_have_openbmcs_names(client: Client) -> None:
    client.create("root")
    with refused(USER_ERROR + "UserNameExists", "there is a user 'root' already"):
        client.create("root")
    with refused(INVALID, "at most 16 bytes, because IPMI has no more; this has 17"):
        client.create("a" * 17)
    for member in ("DeleteUser", "Create"):
        with refused("org.freedesktop.DBus.Error.UnknownMethod"):
            client.manager(member)
    for ask, member, arguments in (
        (client.manager, "RenameUser", ("ss", "x", "y")),
        (client.manager, "GetUserInfo", ("s", "x")),
        (client.own, "SetPassword", ("ss", "x", PASSWORD)),
        (client.own, "CountLogin", ("sb", "x", True)),
        (client.own, "GetIpmiSecret", ("s", "x")),
    ):
        with refused(USER_ERROR + "UserNameDoesNotExist", "there is no user 'x'"):
            ask(member, *arguments)
    for number in range(2, 16):
        client.own("CreateUserWithId", "qsassb", number, f"u{number}", [], "priv-user", True)
    with refused(USER_ERROR + "NoResource", "more are not possible"):
        client.create("one")
    assert client.ids()[15] == "u15"


def test_every_error_has_a_name_that_d_bus_allows() -> None:
    assert len(set(ERRORS.values())) == len(ERRORS) == 7


@pytest.mark.usefixtures("service")
def test_signals(bus: PrivateBus) -> None:
    found: list[tuple[str, Any]] = []

    async def run() -> None:
        connection = await bus.connect()

        def hear(message: Message) -> bool:
            if message.message_type is MessageType.SIGNAL and str(message.path).startswith(ROOT):
                found.append((str(message.member), message.body))
            return False

        connection.add_message_handler(hear)
        dbus = "org.freedesktop.DBus"
        await call(connection, dbus, "/", dbus, "AddMatch", "s", f"type='signal',path_namespace='{ROOT}'")
        await call(connection, NAME, ROOT, NAME, "CreateUser", "sassb", "a", [], "priv-user", True)
        enabled = ("UserEnabled", Variant("b", False))
        await call(connection, NAME, ROOT + "/a", PROPERTIES, "Set", "ssv", ATTRIBUTES, *enabled)
        await call(connection, NAME, ROOT, NAME, "RenameUser", "ss", "a", "b")
        await call(connection, NAME, ROOT + "/b", DELETE, "Delete")
        connection.disconnect()

    asyncio.run(run())
    ids = [(name, body) for name, body in found if name == "PropertiesChanged" and body[0] == ACCOUNTS]
    assert [body[1]["IpmiUsers"].value for _, body in ids] == [{1: "a"}, {1: "b"}, {}]
    others = [(name, body) for name, body in found if (name, body) not in ids]
    assert [name for name, _ in others] == [
        "InterfacesAdded",
        "PropertiesChanged",
        *("UserRenamed", "InterfacesRemoved", "InterfacesAdded"),
        "InterfacesRemoved",
    ]
    assert others[1][1][1] == {"UserEnabled": Variant("b", False)}
    assert others[2][1] == ["a", "b"]
    assert others[5][1][0] == ROOT + "/b"


# --- Passwords ---


def test_passwords_and_secrets(client: Client, folder: Path) -> None:
    client.create("root", "ssh", "ipmi")
    client.own("SetPassword", "ss", "root", PASSWORD)
    assert client.check("root", PASSWORD)
    assert not client.check("root", "wrong")
    assert client.own("GetIpmiSecret", "s", "root") == [PASSWORD.encode()]
    assert sorted(path.name for path in folder.iterdir()) == ["accounts.json", "key"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))
    assert PASSWORD.encode() not in b"".join(path.read_bytes() for path in folder.iterdir())
    with refused(INVALID, "a password for IPMI has at most 20 bytes"):
        client.own("SetPassword", "ss", "root", "x" * 21)
    client.set("root", "UserEnabled", Variant("b", False))
    with refused("xyz.openbmc_project.Common.Error.InsufficientPermission", "root is disabled"):
        client.own("GetIpmiSecret", "s", "root")
    client.create("new", "ipmi")
    with refused(ACCOUNTS + ".Error.NoSecret", "new has no password for IPMI"):
        client.own("GetIpmiSecret", "s", "new")


def test_lock_out(client: Client) -> None:
    client.create("root", "ipmi")
    client.own("SetPassword", "ss", "root", PASSWORD)
    for _ in range(2):
        assert not client.check("root", "wrong")
    for _ in range(3):
        client.own("CountLogin", "sb", "root", False)
    assert client.get("root", "UserLockedForFailedAttempt") is True
    assert client.manager("GetUserInfo", "s", "root")[0]["UserLockedForFailedAttempt"] == Variant("b", True)
    assert not client.check("root", PASSWORD)
    with refused("xyz.openbmc_project.Common.Error.InsufficientPermission", "locked out"):
        client.own("GetIpmiSecret", "s", "root")
    with refused(INVALID, "can be set to false only"):
        client.set("root", "UserLockedForFailedAttempt", Variant("b", True))
    client.set("root", "UserLockedForFailedAttempt", Variant("b", False))
    assert client.get("root", "UserLockedForFailedAttempt") is False
    assert client.check("root", PASSWORD)


def test_the_journal_shows_no_password(client: Client, service: Service) -> None:
    client.create("root", "ipmi")
    client.own("SetPassword", "ss", "root", PASSWORD)
    for _ in range(6):
        client.check("root", "wrong horse")
    for password in (PASSWORD + " \n", PASSWORD * 9):
        with refused(INVALID):
            client.own("SetPassword", "ss", "root", password)
    client.manager("RenameUser", "ss", "root", "boss")
    client.bus.call(NAME, f"{ROOT}/boss", DELETE, "Delete")
    service.process.terminate()
    status, errors = service.end()
    assert status == 0
    assert errors.splitlines() == [
        "user root was made",
        "the password of user root was set",
        "user root is locked out for 300 s after too many wrong passwords",
        "user root is now boss",
        "user boss was deleted",
    ]


# --- Flash ---


def test_users_outlive_the_service(bus: PrivateBus, folder: Path) -> None:
    for number in range(3):
        with Service([*LAUNCH, str(folder)], bus.address) as service:
            service.wait_for("READY=1")
            client = Client(bus)
            assert client.ids() == {known + 1: f"u{known}" for known in range(number)}
            client.create(f"u{number}")
            service.process.kill()  # what was answered is on disk
            service.process.wait(PATIENCE)


def test_a_damaged_file_is_told_and_lets_nobody_in(bus: PrivateBus, folder: Path) -> None:
    folder.mkdir()
    (folder / "accounts.json").write_text('{"format": 1, "users": {"root": {"idd": 1}}}')
    with Service([*LAUNCH, str(folder)], bus.address) as service:
        service.wait_for("READY=1")
        client = Client(bus)
        assert client.objects() == {}
        assert not client.check("root", PASSWORD)
        client.create("root")
        service.process.terminate()
        status, errors = service.end()
    assert status == 0
    assert errors.startswith(
        "accounts.json: users.root: unknown key 'idd'; allowed: id, privilege, enabled, "
    )
    assert "it is now accounts.json.damaged, and there are no users\n" in errors
    assert (folder / "accounts.json.damaged").exists()


def test_a_damaged_file_is_an_event_in_a_log_that_starts_later(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "accounts.json").write_text("{")
    log = "xyz.openbmc_project.Logging"
    policies = [POLICY, POLICY.parents[2] / f"event-log/files/{log}.conf"]
    users = dict.fromkeys(("fleet-accounts", "fleet-event-log", "root"), os.getuid())
    launch = ["-m", "fleet_bmc_common", "fleet_event_log", str(tmp_path / "log")]
    with PrivateBus(policies, users=users) as bus, Service([*LAUNCH, str(folder)], bus.address) as service:
        service.wait_for("READY=1")
        with Service(launch, bus.address) as event_log:
            event_log.wait_for("READY=1")

            def events() -> list[Any]:
                read = ("/xyz/openbmc_project/logging", "io.metafleet.EventLog", "Read", "uu", 0, 9)
                return list(bus.call(log, *read)[0])

            wait_until(lambda: events() != [])
            ((_, _, severity, message, data, _),) = events()
        assert service.stop() == 0
    assert (severity, message) == ("Error", "io.metafleet.Accounts.Damaged")
    assert data["REASON"].startswith("accounts.json: no JSON: ")


def test_flash_that_refuses_is_told_and_logged_once(client: Client, service: Service, folder: Path) -> None:
    client.create("root")
    temporary = folder / "accounts.json.new"
    temporary.mkdir()  # in the way
    for _ in range(2):
        with refused("xyz.openbmc_project.Common.File.Error.Write", "Is a directory"):
            client.create("other")
    assert set(client.objects()) == {f"{ROOT}/root"}
    temporary.rmdir()
    client.create("other")
    service.process.terminate()
    status, errors = service.end()
    assert status == 0
    assert errors.splitlines()[1:] == [
        "the users' file cannot be written; changes are refused until it can",
        "user other was made",
        "the users' file can be written again",
    ]


def test_a_folder_that_cannot_be_used_is_named(bus: PrivateBus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Service([*LAUNCH, str(tmp_path / "file")], bus.address) as service:
        status, errors = service.end()
    assert status == 1
    assert errors == f"the users' folder {tmp_path}/file cannot be used: File exists\n"


def test_a_provisioned_board(bus: PrivateBus, folder: Path) -> None:
    folder.mkdir()
    groups = ["ipmi", "redfish", "ssh", "web"]
    entry = {
        "privilege": "priv-admin",
        "enabled": True,
        "groups": groups,
        "password": hash_password(PASSWORD),
    }
    users = {"root": {**entry, "ipmi_password": PASSWORD}}
    (folder / "provision.json").write_text(json.dumps({"format": 1, "users": users}))
    with Service([*LAUNCH, str(folder)], bus.address) as service:
        service.wait_for("READY=1")
        client = Client(bus)
        assert client.ids() == {1: "root"}
        assert client.check("root", PASSWORD)
        assert client.own("GetIpmiSecret", "s", "root") == [PASSWORD.encode()]
        assert client.get("root", "UserGroups") == groups
        assert sorted(path.name for path in folder.iterdir()) == ["accounts.json", "key"]
        service.process.terminate()
        status, errors = service.end()
    assert (status, errors) == (0, "users made as provisioned: root\n")


# --- Who may ---


def refusals(client: Client) -> dict[str, bool]:
    """Of each call, whether the policy refuses it."""
    asked: dict[str, bool] = {}
    calls: dict[str, Callable[[], object]] = {
        "objects": client.objects,
        "ids": client.ids,
        "info": lambda: client.manager("GetUserInfo", "s", "root"),
        "create": lambda: client.create("root"),
        "rename": lambda: client.manager("RenameUser", "ss", "x", "y"),
        "set": lambda: client.set("root", "UserEnabled", Variant("b", True)),
        "delete": lambda: client.bus.call(NAME, f"{ROOT}/root", DELETE, "Delete"),
        "password": lambda: client.own("SetPassword", "ss", "x", PASSWORD),
        "check": lambda: client.check("x", PASSWORD),
        "count": lambda: client.own("CountLogin", "sb", "x", True),
        "with id": lambda: client.own("CreateUserWithId", "qsassb", 5, "five", [], "priv-user", True),
        "secret": lambda: client.own("GetIpmiSecret", "s", "x"),
    }
    for name, do in calls.items():
        try:
            do()
            asked[name] = False
        except CallError as error:
            asked[name] = error.name == "org.freedesktop.DBus.Error.AccessDenied"
    return asked


READS = {"objects", "ids", "info"}


@pytest.mark.parametrize("who", ["others", "root", "login services"])
def test_policy(who: str, tmp_path: Path) -> None:
    policy = tmp_path / POLICY.name
    mine = grp.getgrgid(os.getgid()).gr_name if who == "login services" else "fleet-logins"
    policy.write_text(POLICY.read_text().replace('group="fleet-logins"', f'group="{mine}"'))
    users = {"fleet-accounts": os.getuid(), "root": os.getuid() + (who != "root")}
    with (
        PrivateBus([policy], users=users) as bus,
        Service([*LAUNCH, str(tmp_path / "accounts")], bus.address) as service,
    ):
        service.wait_for("READY=1")
        asked = refusals(Client(bus))
    allowed = {name for name, is_refused in asked.items() if not is_refused}
    assert (
        allowed
        == {
            "others": READS,
            "root": set(asked) - {"secret"},
            "login services": set(asked),
        }[who]
    )
