# SPDX-License-Identifier: Apache-2.0
"""The root file system: what goes in, what is taken out, users, permissions, components."""

import hashlib
import importlib.util
import io
import json
import marshal
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType
from typing import ClassVar

import pytest

from fleetbuild import BuildError, names, rootfs, sandbox, users
from fleetbuild.archive import cached
from fleetbuild.lock import Lock, Package
from fleetbuild.rootfs import Component
from fleetbuild.tree import Tree

TABLES = Path(__file__).parents[2] / "meta-fleet/distro/rootfs"
SHA = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "rootfs"
    root.mkdir()
    return Tree(root)


def put(tree: Tree, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = tree.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


# --- What goes in ---


def component(folder: Path, name: str, files: Mapping[str, str] | None = None, **fields: object) -> Component:
    """Write a component's record and archive as do_package does, and load it."""
    target = folder / name
    target.mkdir(parents=True)
    record = {"name": name, "version": "1", "license": "MIT", "summary": "", "rdepends": [], "users": []}
    (target / "package.json").write_text(json.dumps({**record, **fields}))
    with tarfile.open(target / "package.tar", "w") as tar:
        for path, text in (files or {}).items():
            info = tarfile.TarInfo(f"./{path}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    loaded = rootfs.load_component([folder], name)
    assert loaded is not None
    return loaded


class TestPlan:
    @pytest.fixture(autouse=True)
    def table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "names.toml"
        path.write_text('[names]\nsystemd = ["systemd", "udev"]\npython3-core = ["python3.11"]\n')
        monkeypatch.setattr(names.table, "__defaults__", (path,))

    @pytest.fixture
    def have(self) -> Lock:
        depends = {
            "systemd": ("libc6",),
            "udev": ("libc6",),
            "python3.11": ("libc6",),
            "libc6": (),
            "more": (),
        }
        packages = {
            name: Package(name, "1", "armhf", name, "debian", f"pool/{name}.deb", SHA, 1, needs)
            for name, needs in depends.items()
        }
        return Lock(1, {}, {"native": {}, "target": packages}, {})

    def plan(self, have: Lock, install: Iterable[str], *folders: Path) -> tuple[list[str], list[str]]:
        made = rootfs.plan(have, install, folders)
        return [package.name for package in made.debian], [entry.name for entry in made.components]

    def test_components_bring_what_they_need(self, have: Lock, tmp_path: Path) -> None:
        component(tmp_path / "all", "a", rdepends=["b", "python3-core"])
        component(tmp_path / "all", "b", rdepends=["a", "systemd"])
        component(tmp_path / "all", "other")
        assert self.plan(have, ["a"], tmp_path / "all") == (
            ["libc6", "python3.11", "systemd", "udev"],
            ["a", "b"],
        )

    def test_the_most_specific_record_counts(self, have: Lock, tmp_path: Path) -> None:
        component(tmp_path / "all", "a", version="all")
        component(tmp_path / "machine", "a", version="machine")
        made = rootfs.plan(have, ["a"], [tmp_path / "machine", tmp_path / "armhf", tmp_path / "all"])
        assert [entry.version for entry in made.components] == ["machine"]
        assert made.components[0].archive == tmp_path / "machine/a/package.tar"

    def test_nothing(self, have: Lock) -> None:
        assert self.plan(have, []) == ([], [])

    def test_a_name_that_nobody_knows_is_an_error(self, have: Lock, tmp_path: Path) -> None:
        component(tmp_path, "a", rdepends=["typo"])
        with pytest.raises(
            BuildError, match=r"package 'typo' does not exist: .*names\.toml has no Debian package"
        ):
            rootfs.plan(have, ["a"], [tmp_path])


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
class TestDebian:
    def deb(self, folder: Path, name: str, files: Mapping[str, str], links: Mapping[str, str]) -> Package:
        """Make a package and put it into the download cache."""
        top = folder / f"content-{name}"
        control = (
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
        )
        for path, text in {**files, "DEBIAN/control": control}.items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text(text)
        for path, target in links.items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).symlink_to(target)
        deb = folder / f"{name}.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "-b", top, deb], check=True, capture_output=True
        )
        data = deb.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        package = Package(name, "1", "all", name, "debian", f"pool/{deb.name}", digest, len(data), ())
        cached(folder, package).write_bytes(data)
        return package

    def test_packages_are_unpacked_over_each_other_and_licences_taken(
        self, tree: Tree, tmp_path: Path
    ) -> None:
        doc = "usr/share/doc"
        packages = [
            self.deb(tmp_path, "a", {"lib/one": "1", f"{doc}/a/copyright": "licence of a"}, {}),
            # Two share the file of another package, which comes later, or which came in an earlier run.
            self.deb(tmp_path, "b", {"usr/lib/two": "2"}, {f"{doc}/b": "c"}),
            self.deb(tmp_path, "c", {f"{doc}/c/copyright": "licence of c"}, {f"{doc}/d": "earlier"}),
            self.deb(tmp_path, "e", {f"{doc}/e/changelog": "none"}, {f"{doc}/f/copyright": "../c/copyright"}),
        ]
        rootfs.unpack(tree, tmp_path, packages)
        assert {link: (tree.root / link).readlink() for link in ("bin", "sbin", "lib")} == {
            link: Path("usr") / link for link in ("bin", "sbin", "lib")
        }
        assert {path.name for path in (tree.root / "usr/lib").iterdir()} == {"one", "two"}
        licences = tmp_path / "licences"
        rootfs.take_licences(tree, licences)
        assert {path.name: path.read_text() for path in licences.iterdir() if path.exists()} == {
            "a": "licence of a",
            "b": "licence of c",
            "c": "licence of c",
            "f": "licence of c",
        }
        (licences / "earlier").write_text("licence of earlier")
        assert (licences / "d").read_text() == "licence of earlier"
        rootfs.take_licences(tree, licences)
        assert (licences / "earlier").read_text() == "licence of earlier"

    def test_a_licence_is_never_a_file_of_the_host(self, tree: Tree, tmp_path: Path) -> None:
        (tmp_path / "copyright").write_text("host")
        package = self.deb(tmp_path, "a", {}, {"usr/share/doc/a/copyright": str(tmp_path / "copyright")})
        rootfs.unpack(tree, tmp_path, [package])
        rootfs.take_licences(tree, tmp_path / "licences")
        assert list((tmp_path / "licences").iterdir()) == []

    def test_wrong_bytes_in_the_cache_are_removed_and_named(self, tree: Tree, tmp_path: Path) -> None:
        package = self.deb(tmp_path, "a", {}, {})
        cached(tmp_path, package).write_text("wrong")
        with pytest.raises(BuildError, match=r"a\.deb: the download cache held wrong bytes; removed"):
            rootfs.unpack(tree, tmp_path, [package])
        assert not cached(tmp_path, package).exists()

    def test_a_tree_without_documentation_has_no_licences(self, tree: Tree, tmp_path: Path) -> None:
        rootfs.take_licences(tree, tmp_path / "licences")
        assert list((tmp_path / "licences").iterdir()) == []


class TestComponents:
    def test_files_are_laid_over_the_tree(self, tree: Tree, tmp_path: Path) -> None:
        (tree.root / "usr/lib").mkdir(parents=True)
        (tree.root / "lib").symlink_to("usr/lib")
        made = component(tmp_path / "data", "a", {"lib/x": "1", "etc/a": "2"})
        assert rootfs.add_component(tree, made) == ["usr/lib/x", "etc/a"]
        assert (tree.root / "usr/lib/x").read_text() == "1"

    @pytest.mark.parametrize("there", ["usr/lib/x", "lib/x"])
    def test_a_file_that_is_there_is_a_conflict(self, there: str, tree: Tree, tmp_path: Path) -> None:
        put(tree, {"usr/lib/x": "debian's"})
        (tree.root / "lib").symlink_to("usr/lib")
        made = component(tmp_path / "data", "a", {"etc/first": "", there: "ours"})
        with pytest.raises(
            BuildError, match=r"^component 'a': would overwrite /usr/lib/x; let only one recipe"
        ):
            rootfs.add_component(tree, made)
        assert (tree.root / "usr/lib/x").read_text() == "debian's"
        assert not tree.has("etc")

    def test_a_link_to_nothing_is_a_conflict_too(self, tree: Tree, tmp_path: Path) -> None:
        tree.link("etc/x", "/nowhere")
        with pytest.raises(BuildError, match=r"^component 'a': would overwrite /etc/x"):
            rootfs.add_component(tree, component(tmp_path / "data", "a", {"etc/x": ""}))

    def test_two_components_cannot_bring_the_same(self, tree: Tree, tmp_path: Path) -> None:
        rootfs.add_component(tree, component(tmp_path / "data", "a", {"etc/x": ""}))
        with pytest.raises(BuildError, match=r"^component 'b': would overwrite /etc/x"):
            rootfs.add_component(tree, component(tmp_path / "data", "b", {"etc/x": ""}))


# --- What is taken out and linked ---


def table(folder: Path, text: str) -> Path:
    path = folder / "table.toml"
    path.write_text(text)
    return path


def test_drop_removes_what_the_table_lists_and_tells_what_is_idle(tree: Tree, tmp_path: Path) -> None:
    put(tree, {"usr/share/doc/a": "", "usr/share/docs": "", "etc/b": ""})
    unused = rootfs.drop(tree, table(tmp_path, 'drop = ["usr/share/doc", "none"]'))
    assert unused == ["none"]
    assert list(tree.paths()) == ["etc", "etc/b", "usr", "usr/share", "usr/share/docs"]


@pytest.mark.parametrize("text", ["drop = 1", "drop = [1]", "other = []", "drop = ["])
def test_a_drop_table_that_is_none_is_named(text: str, tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"table\.toml: "):
        rootfs.drop(tree, table(tmp_path, text))


def test_links_are_made(tree: Tree) -> None:
    put(tree, {"etc/mtab": "x"})
    rootfs.links(tree, {"etc/mtab": "/proc/self/mounts", "usr/bin/sh": "busybox"})
    assert (tree.root / "etc/mtab").readlink() == Path("/proc/self/mounts")
    assert (tree.root / "usr/bin/sh").readlink() == Path("busybox")


class TestApplets:
    BUSYBOX = b"\x7fELF\0text\0[\0cat\0ls\0vi\0"

    def test_missing_programs_are_links_to_busybox(self, tree: Tree) -> None:
        put(tree, {"usr/bin/busybox": self.BUSYBOX, "usr/sbin/ls": "real"})
        tree.link("usr/bin/vi", "/etc/alternatives/vi")
        rootfs.applets(tree, ["cat", "ls", "vi", "["])
        links = {
            path.name: str(path.readlink()) for path in (tree.root / "usr/bin").iterdir() if path.is_symlink()
        }
        # What leads nowhere on the board is replaced.
        assert links == {"cat": "busybox", "vi": "busybox", "[": "busybox"}

    def test_an_applet_that_busybox_lacks_is_named(self, tree: Tree) -> None:
        put(tree, {"usr/bin/busybox": self.BUSYBOX})
        with pytest.raises(BuildError, match=r"busybox has no applet c, tex$"):
            rootfs.applets(tree, ["cat", "c", "tex"])
        assert not tree.has("usr/bin/cat")

    def test_without_busybox(self, tree: Tree) -> None:
        with pytest.raises(BuildError, match="needs busybox in IMAGE_INSTALL"):
            rootfs.applets(tree, ["cat"])


@pytest.mark.skipif(
    not shutil.which("bwrap") or not Path("/usr/bin/python3.11").exists() or not sandbox.isolation_works(),
    reason="needs bubblewrap, user namespaces and python3.11",
)
class TestByteCode:
    SOURCES: ClassVar = {
        "usr/lib/python3/a.py": "X = {'b', 'c', 'd', 'e'}\ndef f(): return X in {'g', 'h', 'i'}\n",
        "usr/lib/python3/package/b.py": "def g(): return 'g'\n",
        "opt/c.py": "",
    }

    def compiled(self, work: Path) -> dict[str, bytes]:
        tree = Tree(work / "rootfs")
        put(tree, self.SOURCES)
        rootfs.byte_compile(Path("/"), work, tree, ["usr/lib/python3", "usr/lib/absent"])
        return {
            str(path.relative_to(tree.root)): path.read_bytes() for path in sorted(tree.root.rglob("*.pyc"))
        }

    def test_modules_below_the_folders_are_compiled_for_unchecked_use(self, tmp_path: Path) -> None:
        made = self.compiled(tmp_path)
        tag = "cpython-311"
        assert list(made) == [
            f"usr/lib/python3/__pycache__/a.{tag}.pyc",
            f"usr/lib/python3/package/__pycache__/b.{tag}.pyc",
        ]
        for data in made.values():
            # PEP 552: flags with only "hash-based" set, then the hash of the source.
            assert data[4:8] == b"\1\0\0\0"
        source = self.SOURCES["usr/lib/python3/a.py"].encode()
        data = made[f"usr/lib/python3/__pycache__/a.{tag}.pyc"]
        assert data[8:16] == importlib.util.source_hash(source)
        if data[:4] == importlib.util.MAGIC_NUMBER:
            code: CodeType = marshal.loads(data[16:])
            assert code.co_filename == "/usr/lib/python3/a.py"

    def test_the_bytes_do_not_depend_on_folder_or_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONHASHSEED", "1")
        first = self.compiled(tmp_path / "one")
        monkeypatch.setenv("PYTHONHASHSEED", "2")
        second = self.compiled(tmp_path / "other/deeper")
        assert first == second
        # Nor on what was compiled before.
        for path in (tmp_path / "one").rglob("*.py"):
            os.utime(path, (1, 1))
        assert self.compiled(tmp_path / "one") == first

    def test_a_module_that_does_not_compile_is_named(self, tmp_path: Path) -> None:
        tree = Tree(tmp_path / "rootfs")
        put(tree, {"usr/lib/python3/bad.py": "def\n"})
        with pytest.raises(BuildError, match=r"failed with 1 in the sandbox:\n(.|\n)*bad\.py"):
            rootfs.byte_compile(Path("/"), tmp_path, tree, ["usr/lib/python3"])

    def test_nothing_to_compile(self, tree: Tree, tmp_path: Path) -> None:
        rootfs.byte_compile(Path("/"), tmp_path, tree, ["usr/lib/python3"])
        assert list(tree.paths()) == []


# --- Users and permissions ---

PASSWD = "root:*:0:0:root:/root:/bin/bash\nman:*:6:12:man:/var/cache/man:/usr/sbin/nologin\n"
GROUP = "root:*:0:\nman:*:12:\nshadow:*:42:\n"


@pytest.fixture
def base(tree: Tree) -> Tree:
    """A tree with base-passwd's tables."""
    put(tree, {"usr/share/base-passwd/passwd.master": PASSWD, "usr/share/base-passwd/group.master": GROUP})
    return tree


class TestUsers:
    TABLE = users.Table({"svc": users.User("svc", 200), "bus": users.User("bus", 101)}, {"i2c": 120}, {})

    def test_names_come_from_components_and_packages(self, base: Tree) -> None:
        put(base, {"usr/lib/sysusers.d/x.conf": 'u bus - "Bus"\ng i2c -\ng shadow 42\nu man 6:12 - /x\n'})
        accounts = rootfs.make_users(base, self.TABLE, ["svc"])
        passwd = (base.root / "etc/passwd").read_text()
        assert [line.split(":")[0] for line in passwd.splitlines()] == ["root", "man", "bus", "svc"]
        assert passwd == accounts.passwd
        assert (base.root / "etc/group").read_text() == accounts.group
        assert (base.root / "etc/shadow").read_text() == accounts.shadow
        shadow = base.attributes["etc/shadow"]
        assert (shadow.uid, shadow.gid, shadow.mode) == (0, 42, 0o640)

    @pytest.mark.parametrize(("line", "kind"), [("u new -", "user"), ("g new -", "group")])
    def test_a_name_without_number_is_an_error(self, line: str, kind: str, base: Tree) -> None:
        put(base, {"usr/lib/sysusers.d/x.conf": line})
        with pytest.raises(BuildError, match=f"{kind} 'new' has no fixed number"):
            rootfs.make_users(base, self.TABLE, [])

    def test_without_the_base_tables_the_remedy_is_told(self, tree: Tree) -> None:
        with pytest.raises(BuildError, match="add base-passwd to IMAGE_INSTALL"):
            rootfs.make_users(tree, self.TABLE, [])


class TestPermissions:
    @pytest.fixture
    def accounts(self, base: Tree) -> users.Accounts:
        made = rootfs.make_users(base, TestUsers.TABLE, ["svc"])
        put(base, {"usr/bin/tool": "", "usr/bin/ping": ""})
        return made

    def apply(self, tree: Tree, accounts: users.Accounts, text: str) -> None:
        rootfs.set_permissions(tree, table(tree.root.parent, text), accounts)

    def test_owners_are_users_and_groups_are_groups(self, base: Tree, accounts: users.Accounts) -> None:
        text = '[permissions."usr/bin/tool"]\nowner = "man"\ngroup = "man"\nmode = "2750"\nreason = "x"\n'
        self.apply(base, accounts, text)
        made = base.attributes["usr/bin/tool"]
        assert (made.uid, made.gid, made.mode, made.xattrs) == (6, 12, 0o2750, {})

    def test_capabilities(self, base: Tree, accounts: users.Accounts) -> None:
        text = '[permissions."usr/bin/ping"]\ncapabilities = ["cap_net_raw"]\nreason = "x"\n'
        self.apply(base, accounts, text)
        made = base.attributes["usr/bin/ping"]
        assert made.xattrs == {"security.capability": rootfs.capability(["cap_net_raw"])}
        assert (made.uid, made.gid, made.mode) == (0, 0, None)

    def test_a_name_through_a_link_is_the_file_it_leads_to(
        self, base: Tree, accounts: users.Accounts
    ) -> None:
        base.link("bin", "usr/bin")
        self.apply(base, accounts, '[permissions."bin/tool"]\ngroup = "i2c"\nreason = "x"\n')
        assert base.attributes["usr/bin/tool"].gid == 120

    def test_set_id_bits_go_unless_the_table_gives_them(self, base: Tree, accounts: users.Accounts) -> None:
        base.set("usr/bin/tool", mode=0o6755)
        base.set("usr/bin/ping", mode=0o4711)
        (base.root / "var/mail").mkdir(parents=True)
        base.set("var/mail", mode=0o2775)
        self.apply(base, accounts, '[permissions."usr/bin/ping"]\nmode = "4755"\nreason = "x"\n')
        modes = {name: base.attributes[name].mode for name in ("usr/bin/tool", "usr/bin/ping", "var/mail")}
        assert modes == {"usr/bin/tool": 0o755, "usr/bin/ping": 0o4755, "var/mail": 0o2775}

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ('colour = "x"', "unknown key colour; allowed: owner, group, mode, capabilities, reason"),
            ('owner = "i2c"', "there is no user 'i2c'"),
            ('owner = "nobody-here"', "there is no user 'nobody-here'"),
            ('group = "nobody-here"', "there is no group 'nobody-here'"),
            ('mode = "0999"', "mode must be three or four octal digits, not '0999'"),
            ("mode = 0o755", "mode must be three or four octal digits, not 493"),
            (
                'capabilities = ["cap_sys_admin"]',
                "capability 'cap_sys_admin' is not known; allowed: cap_net_bind",
            ),
        ],
    )
    def test_a_wrong_entry_is_named(
        self, entry: str, message: str, base: Tree, accounts: users.Accounts
    ) -> None:
        with pytest.raises(BuildError) as caught:
            self.apply(base, accounts, f'[permissions."usr/bin/tool"]\nreason = "x"\n{entry}\n')
        assert str(caught.value).startswith(f"{base.root.parent}/table.toml: 'usr/bin/tool': ")
        assert message in str(caught.value)

    def test_an_entry_about_nothing_is_an_error(self, base: Tree, accounts: users.Accounts) -> None:
        with pytest.raises(
            BuildError, match=r"'usr/bin/gone': is not in the image; remove the entry or install"
        ):
            self.apply(base, accounts, '[permissions."usr/bin/gone"]\nreason = "x"\n')

    def test_an_entry_without_reason_is_an_error(self, base: Tree, accounts: users.Accounts) -> None:
        with pytest.raises(BuildError, match="'usr/bin/tool': has no reason"):
            self.apply(base, accounts, '[permissions."usr/bin/tool"]\nmode = "4755"\n')

    def test_the_distributions_own_table(self, base: Tree, accounts: users.Accounts) -> None:
        rootfs.set_permissions(base, TABLES / "permissions.toml", accounts)
        assert base.attributes["etc/shadow"].mode == 0o640


@pytest.mark.skipif(
    not shutil.which("setcap") or not sandbox.isolation_works(),
    reason="needs libcap2-bin and user namespaces",
)
@pytest.mark.parametrize(
    "wanted", [["cap_net_raw"], ["cap_net_bind_service", "cap_sys_time"], sorted(rootfs._CAPABILITIES)]
)
def test_capabilities_are_the_bytes_that_setcap_writes(wanted: list[str], tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    setcap = f'setcap {",".join(wanted)}+ep "$1"'
    read = "import os, sys; print(os.getxattr(sys.argv[1], 'security.capability').hex(), end='')"
    # As root of a user namespace, who may set capabilities of his own files; from there they look alike.
    words = ["unshare", "--user", "--map-root-user", "sh", "-ec", f'{setcap}; python3 -c "$2" "$1"', "sh"]
    words += [str(program), read]
    written = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert rootfs.capability(wanted).hex() == written
