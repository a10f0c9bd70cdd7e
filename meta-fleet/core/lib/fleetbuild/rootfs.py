# SPDX-License-Identifier: Apache-2.0
"""From locked packages and components to a root file system, without running any maintainer script."""

from __future__ import annotations

import json
import re
import struct
import tarfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetbuild import BuildError, debs, names, sandbox, users
from fleetbuild.archive import verified
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
    """Resolve IMAGE_INSTALL (OpenEmbedded names) into Debian packages and components.

    Raises BuildError for a name that is neither.
    """
    debian: set[str] = set()
    found: dict[str, Component] = {}
    todo = list(install)
    while todo:
        packages, recipes = names.to_debian(todo)
        debian.update(packages)
        todo = []
        for name in recipes:
            if name in found:
                continue
            component = load_component(folders, name)
            if component is None:
                raise BuildError(
                    f"package '{name}' does not exist: no recipe made it and meta-fleet/core/lock/names.toml "
                    "has no Debian package for it. Correct IMAGE_INSTALL or RDEPENDS, write a recipe, or add "
                    "the name."
                )
            found[name] = component
            todo.extend(component.rdepends)
    return Plan(tuple(lock.closure("target", debian)), tuple(found[name] for name in sorted(found)))


def _read(table: Path) -> dict[str, Any]:
    """Read one of the distribution's tables."""
    try:
        return tomllib.loads(table.read_text())
    except (OSError, ValueError) as error:
        raise BuildError(f"{table}: {error}") from None


def unpack(tree: Tree, downloads: Path, packages: Iterable[Package]) -> None:
    """Unpack Debian packages into the tree."""
    debs.merge_usr(tree.root, debs.MERGED_TARGET)
    for package in packages:
        with debs.data(verified(downloads, package)) as tar:
            tree.add_tar(tar)


def take_licences(tree: Tree, folder: Path) -> None:
    """Copy the copyright files of the packages in the tree to ``folder``, one file per package."""
    folder.mkdir(parents=True, exist_ok=True)
    documentation = tree.root / "usr/share/doc"
    for entry in sorted(documentation.iterdir()) if documentation.is_dir() else ():
        copy = folder / entry.name
        if copyright_file := tree.file(f"usr/share/doc/{entry.name}/copyright"):
            copy.unlink(missing_ok=True)
            copy.write_bytes(copyright_file.read_bytes())
        elif entry.is_symlink():
            # It shares the file of another package, which was unpacked and taken to ``folder`` earlier.
            copy.unlink(missing_ok=True)
            copy.symlink_to(entry.readlink().name)


def drop(tree: Tree, table: Path) -> list[str]:
    """Remove what the distribution's drop table lists; return entries that match nothing any more."""
    patterns = _read(table).get("drop")
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise BuildError(f"{table}: must have 'drop', a list of patterns")
    return tree.remove(patterns)


def byte_compile(sysroot: Path, work: Path, tree: Tree, folders: Iterable[str]) -> None:
    """Compile the Python below ``folders`` for the board's interpreter. The tree lies below ``work``.

    The byte-code is checked against nothing at run time (PEP 552 unchecked): the root is read-only and
    verified, and the stat calls would cost start-up time.
    """
    top = f"{sandbox.BUILD}/{tree.root.relative_to(work)}"
    present = [f"{top}/{folder}" for folder in folders if (tree.root / folder).is_dir()]
    if not present:
        return
    argv = ["python3.11", "-m", "compileall", "-q", "-j0", "--invalidation-mode", "unchecked-hash"]
    sandbox.run(sysroot, work, [*argv, "-s", top, "-p", "/", *present])


def make_users(tree: Tree, table: users.Table, wanted: Iterable[str]) -> users.Accounts:
    """Write the user tables; the names come from sysusers.d of packages and from the components."""
    wanted_users, wanted_groups = set(wanted), set[str]()
    for path in sorted((tree.root / "usr/lib/sysusers.d").glob("*.conf")):
        more_users, more_groups = users.sysusers_names(path.read_text())
        wanted_users.update(more_users)
        wanted_groups.update(more_groups)
    masters = [tree.file(f"usr/share/base-passwd/{kind}.master") for kind in ("passwd", "group")]
    if None in masters:
        raise BuildError("the image has no user tables to begin with; add base-passwd to IMAGE_INSTALL")
    passwd_master, group_master = (path.read_text() for path in masters if path)
    accounts = users.tables(table, wanted_users, wanted_groups, passwd_master, group_master)
    etc = tree.root / "etc"
    etc.mkdir(exist_ok=True)
    for name, text in (("passwd", accounts.passwd), ("group", accounts.group), ("shadow", accounts.shadow)):
        (etc / name).write_text(text)
    tree.set("etc/shadow", uid=0, gid=accounts.gids["shadow"], mode=0o640)
    return accounts


_PERMISSIONS = ("owner", "group", "mode", "capabilities", "reason")


def set_permissions(tree: Tree, table: Path, accounts: users.Accounts) -> None:
    """Apply the distribution's table of owners, modes and capabilities, and strip set-id bits elsewhere.

    Raises BuildError for an entry that is wrong, without a reason, or about a file that the image lacks.
    """
    for name, attributes in list(tree.attributes.items()):
        path = tree.root / name
        if (
            attributes.mode is not None
            and attributes.mode & 0o6000
            and (path.is_symlink() or not path.is_dir())
        ):
            tree.set(name, mode=attributes.mode & 0o1777)
    for name, entry in _read(table).get("permissions", {}).items():
        try:
            _set_permission(tree, name, entry, accounts)
        except BuildError as error:
            raise BuildError(f"{table}: '{name}': {error}") from None


def _set_permission(tree: Tree, name: str, entry: Mapping[str, Any], accounts: users.Accounts) -> None:
    if unknown := sorted(set(entry) - set(_PERMISSIONS)):
        raise BuildError(f"unknown key {', '.join(unknown)}; allowed: {', '.join(_PERMISSIONS)}")
    if not entry.get("reason"):
        raise BuildError("has no reason")
    if not tree.has(name):
        raise BuildError("is not in the image; remove the entry or install what brings it")
    owner, group = entry.get("owner", "root"), entry.get("group", "root")
    if owner not in accounts.uids:
        raise BuildError(f"there is no user '{owner}'")
    if group not in accounts.gids:
        raise BuildError(f"there is no group '{group}'")
    tree.set(name, uid=accounts.uids[owner], gid=accounts.gids[group])
    if "mode" in entry:
        if not re.fullmatch(r"[0-7]{3,4}", str(entry["mode"])):
            raise BuildError(f"mode must be three or four octal digits, not {entry['mode']!r}")
        tree.set(name, mode=int(entry["mode"], 8))
    if "capabilities" in entry:
        tree.set(name, xattrs={"security.capability": capability(entry["capabilities"])})


# Numbers from capabilities(7), linux/capability.h; what the image needs, no more.
_CAPABILITIES = {"cap_net_bind_service": 10, "cap_net_raw": 13, "cap_sys_time": 25}


def capability(wanted: Sequence[str]) -> bytes:
    """Return the extended attribute for permitted + effective file capabilities (VFS_CAP_REVISION_2)."""
    bits = 0
    for name in wanted:
        if name not in _CAPABILITIES:
            raise BuildError(f"capability '{name}' is not known; allowed: {', '.join(sorted(_CAPABILITIES))}")
        bits |= 1 << _CAPABILITIES[name]
    revision_and_effective = 0x02000000 | 1
    return struct.pack("<5I", revision_and_effective, bits & 0xFFFFFFFF, 0, bits >> 32, 0)


def add_component(tree: Tree, component: Component) -> list[str]:
    """Lay a component over the tree and return its files; a file that something else owns is an error."""
    try:
        with tarfile.open(component.archive) as tar:
            for member in tar:
                if not member.isdir() and tree.has(member.name):
                    raise BuildError(
                        f"would overwrite /{tree.resolve(member.name)}; let only one recipe install it"
                    )
        with tarfile.open(component.archive) as tar:
            return tree.add_tar(tar)
    except BuildError as error:
        raise BuildError(f"component '{component.name}': {error}") from None


def links(tree: Tree, wanted: Mapping[str, str]) -> None:
    """Make the links that maintainer scripts would have made: path in the tree to link text."""
    for name, target in wanted.items():
        tree.link(name, target)


def applets(tree: Tree, wanted: Sequence[str]) -> None:
    """Link busybox's applets into /usr/bin; what a package brings as a program of its own wins.

    Raises BuildError for one that this busybox does not have.
    """
    busybox = tree.file("usr/bin/busybox")
    if busybox is None:
        raise BuildError("links.toml: [busybox] needs busybox in IMAGE_INSTALL")
    # The table of applets in the program is their names, each with a NUL behind it.
    have = set(busybox.read_bytes().split(b"\0"))
    if unknown := [name for name in wanted if name.encode() not in have]:
        raise BuildError(f"links.toml: busybox has no applet {', '.join(unknown)}")
    for name in wanted:
        if not any(tree.file(f"{folder}/{name}") for folder in ("usr/bin", "usr/sbin")):
            tree.link(f"usr/bin/{name}", "busybox")
