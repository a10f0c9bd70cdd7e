# SPDX-License-Identifier: Apache-2.0
"""User tables: the table of fixed numbers, useradd's words, /etc/passwd and its kin."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbuild import BuildError, users
from fleetbuild.users import Table, User

TABLES = Path(__file__).parents[2] / "meta-fleet/distro/rootfs/users.toml"
PASSWD = (
    "root:*:0:0:root:/root:/bin/bash\nman:*:6:12:man:/var/cache/man:/usr/sbin/nologin\n"
    "nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
GROUP = "root:*:0:\nman:*:12:\nshadow:*:42:man\nusers:*:100:\nnogroup:*:65534:\n"


def read(folder: Path, text: str) -> Table:
    path = folder / "users.toml"
    path.write_text(text)
    return users.load(path)


class TestTable:
    def test_good(self, tmp_path: Path) -> None:
        table = read(
            tmp_path,
            '[overrides]\nroot = { home = "/var/root", shell = "/bin/sh" }\n'
            "[users]\na = { uid = 200 }\n"
            'b-1 = { uid = 201, groups = ["i2c"], comment = "B, 1", home = "/b" }\n'
            "[groups]\ni2c = 120\n",
        )
        assert table.users == {
            "a": User("a", 200, "/", "/usr/sbin/nologin", "", ()),
            "b-1": User("b-1", 201, home="/b", comment="B, 1", groups=("i2c",)),
        }
        assert table.groups == {"i2c": 120}
        assert table.overrides == {"root": {"home": "/var/root", "shell": "/bin/sh"}}

    def test_empty(self, tmp_path: Path) -> None:
        assert read(tmp_path, "") == Table({}, {}, {})

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[users", "users.toml: "),
            ("[user]\na = { uid = 1 }", "unknown: user; allowed: users, groups, overrides"),
            ("[users]\na = 1", r"\[users.a\] must be a table"),
            ("[users]\na = {}", r"\[users.a\]: uid is missing"),
            ("[users]\na = { uid = 0 }", r"\[users.a\]: uid must be a number from 1 to 999, not 0"),
            ("[users]\na = { uid = 1000 }", "not 1000"),
            ("[users]\na = { uid = true }", "not True"),
            ('[users]\na = { uid = "1" }', "not '1'"),
            (
                "[users]\na = { uid = 1, gid = 1 }",
                "unknown key gid; allowed: uid, home, shell, comment, groups",
            ),
            ('[users]\na = { uid = 1, home = "x" }', "home must be an absolute path, not 'x'"),
            ('[users]\na = { uid = 1, shell = "/a:b" }', "shell must be an absolute path"),
            ('[users]\na = { uid = 1, comment = "a:b" }', "comment must be a text without colon"),
            ('[users]\na = { uid = 1, comment = "a\\nb" }', "comment must be a text without colon"),
            ('[users]\na = { uid = 1, groups = "i2c" }', "groups must be a list of names, not 'i2c'"),
            ("[users]\na = { uid = 1, groups = [1] }", "groups must be a list of names"),
            ("[users]\nA = { uid = 1 }", "'A' cannot be a name"),
            ('[users]\n"a:b" = { uid = 1 }', "'a:b' cannot be a name"),
            ("[groups]\n1a = 1", "'1a' cannot be a name"),
            ("[groups]\na = 0", r"\[groups\]: a must be a number from 1 to 999, not 0"),
            ("users = 1", r"\[users\] must be a table"),
            ("groups = 1", r"\[groups\] must be a table"),
            ("[users]\na = { uid = 1 }\nb = { uid = 1 }", "b and a have the same number 1"),
            ("[users]\na = { uid = 1 }\n[groups]\nb = 1", "b and a have the same number 1"),
            ("[users]\na = { uid = 1 }\n[groups]\na = 2", "a: a user has a group of its name already"),
            (
                '[overrides]\nroot = { uid = "1" }',
                r"\[overrides.root\]: unknown key uid; allowed: home, shell",
            ),
            ('[overrides]\nroot = { home = "root" }', r"\[overrides.root\]: home must be an absolute path"),
        ],
    )
    def test_bad(self, text: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=message) as caught:
            read(tmp_path, text)
        assert str(caught.value).startswith(str(tmp_path / "users.toml"))

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"users\.toml: .*No such file"):
            users.load(tmp_path / "users.toml")

    def test_the_distributions_own(self) -> None:
        table = users.load(TABLES)
        assert users.tables(table, table.users, table.groups, PASSWD, GROUP).uids["root"] == 0


class TestUseradd:
    @pytest.mark.parametrize(
        ("words", "names"),
        [
            ("", []),
            (" ; ", []),
            ("--system --no-create-home --user-group fleet-a", ["fleet-a"]),
            ("-r -M -N -g x -d /x -s /bin/sh -c 'A; no'", None),
            ("-r -M -d / -s /bin/false -G i2c,gpio -c 'A b' a; --system b ;", ["a", "b"]),
            ("-rM a", ["a"]),
        ],
    )
    def test_names(self, words: str, names: list[str] | None) -> None:
        if names is None:
            with pytest.raises(BuildError):
                users.parse_useradd(words)
        else:
            assert users.parse_useradd(words) == names

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("a", r"USERADD_PARAM 'a': only system users are made at build time \(--system\)"),
            ("--system", "required: name"),
            ("--system a b", "unrecognized arguments: b"),
            ("--sys a", "unrecognized arguments: --sys"),
            ("--system -m a", "unrecognized arguments: -m"),
            ("--system -u 5 a", "unrecognized arguments: -u"),
            ("--system -p secret a", "unrecognized arguments: -p"),
            ("--system 'a", "No closing quotation"),
        ],
    )
    def test_everything_else_is_an_error(self, words: str, message: str) -> None:
        with pytest.raises(BuildError, match=message) as caught:
            users.parse_useradd(words)
        assert str(caught.value).startswith("USERADD_PARAM '")


class TestTables:
    TABLE = Table(
        {"svc": User("svc", 200, comment="A service", groups=("i2c", "shadow")), "idle": User("idle", 201)},
        {"i2c": 120, "gpio": 121},
        {"root": {"home": "/var/root", "shell": "/bin/sh"}},
    )

    def test_texts_and_numbers(self) -> None:
        made = users.tables(self.TABLE, ["svc", "man"], ["gpio", "users"], PASSWD, GROUP)
        assert made.passwd == (
            "root:x:0:0:root:/var/root:/bin/sh\nman:x:6:12:man:/var/cache/man:/usr/sbin/nologin\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            "svc:x:200:200:A service:/:/usr/sbin/nologin\n"
        )
        assert made.group == (
            "root:x:0:\nman:x:12:\nshadow:x:42:man,svc\nusers:x:100:\nnogroup:x:65534:\nsvc:x:200:\n"
            "gpio:x:121:\ni2c:x:120:svc\n"
        )
        assert made.shadow == "".join(
            f"{name}:!:19000:0:99999:7:::\n" for name in ("root", "man", "nobody", "svc")
        )
        assert (made.uids["man"], made.gids["man"]) == (6, 12)
        assert "nogroup" not in made.uids
        assert "idle" not in made.uids

    @given(st.permutations(["svc", "idle", "man", "root"]))
    @settings(deadline=None)
    def test_the_order_of_the_wishes_plays_no_part(self, wanted: list[str]) -> None:
        assert users.tables(self.TABLE, wanted, [], PASSWD, GROUP) == users.tables(
            self.TABLE, ["idle", "svc"], [], PASSWD, GROUP
        )

    def test_no_password_is_usable(self) -> None:
        master = PASSWD.replace("root:*", "root:$6$abc").replace("man:*", "man:")
        made = users.tables(self.TABLE, [], [], master, GROUP)
        assert {line.split(":")[1] for line in made.passwd.splitlines()} == {"x"}
        assert {line.split(":")[1] for line in made.shadow.splitlines()} == {"!"}
        assert {line.split(":")[1] for line in made.group.splitlines()} == {"x"}

    @pytest.mark.parametrize(
        ("table", "wanted", "message"),
        [
            (TABLE, (["new"], []), r"user 'new' has no fixed number; add \[users.new\] with a free uid"),
            (
                TABLE,
                ([], ["new"]),
                r"group 'new' has no fixed number; add it with a free number to \[groups\]",
            ),
            (
                Table({"a": User("a", 200, groups=("no",))}, {}, {}),
                (["a"], []),
                "users.toml names groups that do not exist: no",
            ),
            (Table({}, {}, {"roto": {}}), ([], []), r"\[overrides\] names accounts that do not exist: roto"),
            (
                Table({"a": User("a", 6)}, {}, {}),
                ([], []),
                "a = 6 contradicts base-passwd, where user man has 6; take a free number",
            ),
            (
                Table({"a": User("a", 42)}, {}, {}),
                ([], []),
                "a = 42 contradicts base-passwd, where group shadow has 42",
            ),
            (Table({}, {"a": 12}, {}), ([], []), "a = 12 contradicts base-passwd, where group man has 12"),
            (
                Table({}, {"users": 7}, {}),
                ([], []),
                "users = 7 contradicts base-passwd, where group users has 100",
            ),
            (Table({"man": User("man", 7)}, {}, {}), ([], []), "man = 7 contradicts .* user man has 6"),
        ],
    )
    def test_bad(self, table: Table, wanted: tuple[list[str], list[str]], message: str) -> None:
        with pytest.raises(BuildError, match=message):
            users.tables(table, *wanted, PASSWD, GROUP)

    def test_a_group_of_the_base_may_stand_in_the_table(self) -> None:
        made = users.tables(Table({}, {"users": 100}, {}), [], [], PASSWD, GROUP)
        assert len(re.findall("^users:", made.group, re.M)) == 1


class TestSysusers:
    def test_names(self) -> None:
        text = '# comment\n\nu  messagebus - "System Message Bus"\ng tty 5 -\nu! man 6:12 - /var/cache/man\n'
        assert users.sysusers_names(text) == (["messagebus", "man"], ["tty"])

    @pytest.mark.parametrize("line", ["m svc i2c", "r - 500-900", "u"])
    def test_what_a_fixed_table_cannot_do_is_an_error(self, line: str) -> None:
        with pytest.raises(BuildError, match=f"only lines of type u and g can be followed, not '{line}'"):
            users.sysusers_names(f"g tty 5\n {line} \n")
