# SPDX-License-Identifier: Apache-2.0
"""From locked packages and components to a root file system, without running any maintainer script."""

from __future__ import annotations

import json
import tarfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetbuild import BuildError, debs, names, sandbox, users
from fleetbuild.lock import Lock, Package
from fleetbuild.tree import Tree


@dataclass(frozen=True)
class Component:
    """What do_package wrote about one of our components."""

    name: str
    version: str
    license: str
    summary: str
    rdepends: tuple[str, ...]
    users: tuple[str, ...]
    archive: Path


@dataclass(frozen=True)
class Plan:
    """Which Debian packages and components make the image."""

    debian: tuple[Package, ...]
    components: tuple[Component, ...]


def load_component(folders: Sequence[Path], name: str) -> Component | None:
    """Find a component's record in the package data folders, most specific first."""
    for folder in folders:
        path = folder / name / "package.json"
        if path.is_file():
            data = json.loads(path.read_text())
            return Component(
                name=data["name"],
                version=data["version"],
                license=data["license"],
                summary=data["summary"],
                rdepends=tuple(data["rdepends"]),
                users=tuple(data["users"]),
                archive=folder / name / "package.tar",
            )
    return None


def plan(lock: Lock, install: Iterable[str], folders: Sequence[Path]) -> Plan:
    """Resolve IMAGE_INSTALL (OpenEmbedded names) into Debian packages and components."""
    debian: set[str] = set()
    found: dict[str, Component] = {}
    todo = list(install)
    while todo:
        packages, recipes = names.to_debian([todo.pop()])
        debian.update(packages)
        for name in recipes:
            if name in found:
                continue
            component = load_component(folders, name)
            if component is None:
                raise BuildError(
                    f"package '{name}' does not exist: no recipe made it and meta-fleet/core/lock/names.toml has no "
                    "Debian package for it. Correct IMAGE_INSTALL or RDEPENDS, write a recipe, or add the name."
                )
            found[name] = component
            todo.extend(component.rdepends)
    return Plan(tuple(lock.closure("target", debian)), tuple(found[name] for name in sorted(found)))


def unpack(tree: Tree, downloads: Path, packages: Iterable[Package]) -> None:
    """Unpack Debian packages into the tree."""
    debs.merge_usr(tree.root)
    for package in packages:
        with debs.data(debs.checked(downloads, package)) as tar:
            tree.add_tar(tar)
        licence = tree.root / "usr/share/doc" / package.name / "copyright"
        if licence.is_file() and not licence.is_symlink():
            target = tree.root / ".licenses" / package.name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(licence.read_bytes())


def take_licences(tree: Tree, folder: Path) -> None:
    """Move the copyright files that :func:`unpack` set aside out of the tree."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = tree.root / ".licenses"
    if kept.is_dir():
        for path in kept.iterdir():
            path.rename(folder / path.name)
        kept.rmdir()


def drop(tree: Tree, table: Path) -> list[str]:
    """Remove what the distribution's drop table lists; return entries that match nothing any more."""
    data = tomllib.loads(table.read_text())
    return tree.remove(data["drop"])


def byte_compile(sysroot: Path, work: Path, tree: Tree, folders: Iterable[str]) -> None:
    """Compile the Python below ``folders`` for the board's interpreter.

    The byte-code is checked against nothing at run time (PEP 552 unchecked): the root is read-only and
    verified, and the stat calls would cost start-up time.
    """
    top = f"{sandbox.BUILD}/{tree.root.relative_to(work)}"
    present = [folder for folder in folders if (tree.root / folder).is_dir()]
    if not present:
        return
    argv = [
        "python3.11",
        "-m",
        "compileall",
        "-q",
        "-j0",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        top,
        "-p",
        "/",
    ]
    sandbox.run(sysroot, work, [*argv, *(f"{top}/{folder}" for folder in present)])


def make_users(tree: Tree, table: users.Table, wanted: Iterable[str]) -> Mapping[str, int]:
    """Write the user tables; the names come from sysusers.d of packages and from the components."""
    asked = set(wanted)
    for path in sorted((tree.root / "usr/lib/sysusers.d").glob("*.conf")):
        asked.update(users.sysusers_names(path.read_text()))
    master = tree.root / "usr/share/base-passwd"
    passwd_master = (master / "passwd.master").read_text()
    group_master = (master / "group.master").read_text()
    groups = {line.split(":")[0] for line in group_master.splitlines()} | set(table.groups)
    passwd, group, shadow, numbers = users.tables(table, asked - groups, passwd_master, group_master)
    etc = tree.root / "etc"
    (etc / "passwd").write_text(passwd)
    (etc / "group").write_text(group)
    (etc / "shadow").write_text(shadow)
    tree.set("etc/shadow", uid=0, gid=numbers["shadow"], mode=0o640)
    return numbers


def set_permissions(tree: Tree, table: Path, numbers: Mapping[str, int]) -> None:
    """Apply the distribution's table of owners, modes and capabilities, and strip set-id bits elsewhere."""
    data = tomllib.loads(table.read_text())
    for name, attributes in list(tree.attributes.items()):
        if attributes.mode is not None and attributes.mode & 0o6000 and not (tree.root / name).is_dir():
            tree.set(name, mode=attributes.mode & 0o1777)
    for name, entry in data.get("permissions", {}).items():
        unknown = sorted(set(entry) - {"owner", "group", "mode", "capabilities", "reason"})
        if unknown:
            raise BuildError(
                f"{table}: '{name}': unknown key {', '.join(unknown)}; allowed: owner, group, mode, capabilities, reason"
            )
        if not (tree.root / name).exists():
            raise BuildError(
                f"{table}: '{name}' is not in the image; remove the entry or install what brings it"
            )
        try:
            changes: dict[str, object] = {
                "uid": numbers[entry.get("owner", "root")],
                "gid": numbers[entry.get("group", "root")],
            }
        except KeyError as error:
            raise BuildError(f"{table}: '{name}': no user or group {error}") from None
        if "mode" in entry:
            changes["mode"] = int(entry["mode"], 8)
        if "capabilities" in entry:
            changes["xattrs"] = {"security.capability": capability(entry["capabilities"])}
        tree.set(name, **changes)


# Numbers from capabilities(7), linux/capability.h; what the image needs, no more.
_CAPABILITIES = {"cap_net_bind_service": 10, "cap_net_raw": 13, "cap_sys_time": 25}


def capability(wanted: Sequence[str]) -> str:
    """Return the extended attribute for permitted + effective file capabilities (VFS_CAP_REVISION_2)."""
    bits = 0
    for name in wanted:
        if name not in _CAPABILITIES:
            raise BuildError(f"capability '{name}' is not known; allowed: {', '.join(sorted(_CAPABILITIES))}")
        bits |= 1 << _CAPABILITIES[name]
    revision_and_effective = 0x02000000 | 1
    words = [revision_and_effective, bits & 0xFFFFFFFF, 0, bits >> 32, 0]
    return b"".join(word.to_bytes(4, "little") for word in words).decode("latin-1")


def add_component(tree: Tree, component: Component) -> list[str]:
    """Lay a component over the tree and return its files; a file that something else owns is an error."""
    with tarfile.open(component.archive) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if not member.isdir() and name and (tree.root / name).exists():
                raise BuildError(
                    f"component '{component.name}' would overwrite /{name}; let only one recipe install it"
                )
    with tarfile.open(component.archive) as tar:
        return tree.add_tar(tar)


def links(tree: Tree, wanted: Mapping[str, str]) -> None:
    """Make the links that maintainer scripts would have made: path in the tree to link text."""
    for name, target in wanted.items():
        path = tree.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.exists():
            path.unlink()
        path.symlink_to(target)


def applets(tree: Tree, wanted: Iterable[str]) -> None:
    """Link busybox's applets into /usr/bin; BuildError for one that this busybox does not have."""
    names_in_it = set((tree.root / "usr/bin/busybox").read_bytes().split(b"\0"))
    unknown = [name for name in wanted if name.encode() not in names_in_it]
    if unknown:
        raise BuildError(f"links.toml: busybox has no applet {', '.join(unknown)}")
    missing = {
        f"usr/bin/{name}": "busybox"
        for name in wanted
        if not any((tree.root / folder / name).exists() for folder in ("usr/bin", "usr/sbin"))
    }
    links(tree, missing)
