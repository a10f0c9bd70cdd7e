# SPDX-License-Identifier: Apache-2.0
"""The package lock: which Debian package versions, with which checksums, make the image and the tools.

``lock/seeds.toml`` says what is wanted and why, ``lock/packages.json`` what that comes to. The lock is made
from signed archive indexes only (``python3 -m fleetbuild.lock``, called by ``./fleet lock``); a build reads
nothing but the lock, so the same commit always asks for the same bytes.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fleetbuild import BuildError
from fleetbuild.deb822 import Stanza, relation

LOCK_DIR = Path(__file__).resolve().parents[2] / "lock"
GROUPS = ("native", "target")


@dataclass(frozen=True)
class Package:
    """One locked binary package. ``depends`` names packages of the same group; ``size`` is in bytes."""

    name: str
    version: str
    architecture: str
    source: str
    archive: str
    filename: str
    sha256: str
    size: int
    depends: tuple[str, ...]


@dataclass(frozen=True)
class SourceFile:
    """One file of a locked source package, or one binary package that carries source (linux-source)."""

    archive: str
    filename: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Source:
    """A locked source: the version and its files."""

    version: str
    files: tuple[SourceFile, ...]


@dataclass(frozen=True)
class Lock:
    """The whole lock. ``epoch`` (seconds, UTC) is the date of the newest index it was made from."""

    epoch: int
    security: Mapping[str, str]
    groups: Mapping[str, Mapping[str, Package]]
    sources: Mapping[str, Source]

    def closure(self, group: str, wanted: Iterable[str]) -> list[Package]:
        """Return the wanted packages and all they depend on, sorted by name.

        Raises BuildError when a name is not locked, with the nearest names.
        """
        packages = self.groups[group]
        found: dict[str, Package] = {}
        todo = list(wanted)
        while todo:
            name = todo.pop()
            if name in found:
                continue
            if name not in packages:
                near = ", ".join(difflib.get_close_matches(name, packages, 3)) or "none"
                raise BuildError(
                    f"Debian package '{name}' is not in the {group} lock (nearest: {near}). Add it to "
                    f"a set of [{group}] in meta-fleet/core/lock/seeds.toml and run './fleet lock'."
                )
            found[name] = packages[name]
            todo.extend(packages[name].depends)
        return [found[name] for name in sorted(found)]


def load(path: Path = LOCK_DIR / "packages.json") -> Lock:
    """Read a lock file; BuildError when it is missing or damaged."""
    try:
        data = json.loads(path.read_text())
        groups = {
            group: {
                name: Package(name=name, **{**entry, "depends": tuple(entry["depends"])})
                for name, entry in data[group].items()
            }
            for group in GROUPS
        }
        sources = {
            name: Source(entry["version"], tuple(SourceFile(**file) for file in entry["files"]))
            for name, entry in data["sources"].items()
        }
        return Lock(data["epoch"], data["security"], groups, sources)
    except FileNotFoundError:
        raise BuildError(f"{path}: no package lock; make one with './fleet lock'.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"{path}: damaged package lock ({error}); restore it from git or make a new one with './fleet lock'."
        ) from None


def dump(lock: Lock) -> str:
    """Return the lock as stable, diff-friendly JSON."""

    def plain(package: Package) -> dict[str, object]:
        entry = asdict(package)
        del entry["name"]
        return entry

    data = {
        "epoch": lock.epoch,
        "security": dict(sorted(lock.security.items())),
        **{
            group: {name: plain(lock.groups[group][name]) for name in sorted(lock.groups[group])}
            for group in GROUPS
        },
        "sources": {name: asdict(lock.sources[name]) for name in sorted(lock.sources)},
    }
    return json.dumps(data, indent=1) + "\n"


def digest(folder: Path = LOCK_DIR) -> str:
    """Return one SHA-256 over all files of the lock folder."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@dataclass(frozen=True)
class Seeds:
    """What ``seeds.toml`` asks for: per group named sets of packages, what is left out, and sources."""

    sets: Mapping[str, Mapping[str, Mapping[str, str]]]
    exclude: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, Mapping[str, str]]

    def wanted(self, group: str) -> list[str]:
        """Return all packages that the sets of a group ask for."""
        return sorted({name for packages in self.sets[group].values() for name in packages})


def load_seeds(path: Path = LOCK_DIR / "seeds.toml") -> Seeds:
    """Read the seeds; every package and every exclusion in them carries its reason."""
    try:
        data = tomllib.loads(path.read_text())
        return Seeds(
            {group: data[group]["sets"] for group in GROUPS},
            {group: data[group].get("exclude", {}) for group in GROUPS},
            data["sources"],
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise BuildError(f"{path}: cannot read the package seeds: {error}") from None


def resolve(
    wanted: Iterable[str], exclude: Iterable[str], available: Sequence[tuple[str, Stanza]]
) -> dict[str, Package]:
    """Turn apt's solution (pairs of archive and index stanza) into locked packages with resolved relations.

    Excluded packages are dropped, and so is whatever only they needed. Of alternatives the first one in the
    solution is taken, by name before by Provides.
    """
    dropped = set(exclude)
    by_name = {stanza["Package"]: (archive, stanza) for archive, stanza in available}
    provides: dict[str, list[str]] = {}
    for _, stanza in available:
        for names in relation(stanza.get("Provides", "")):
            provides.setdefault(names[0], []).append(stanza["Package"])

    def pick(alternatives: Sequence[str]) -> str | None:
        for name in alternatives:
            if name in by_name and name not in dropped:
                return name
        for name in alternatives:
            for provider in sorted(provides.get(name, ())):
                if provider not in dropped:
                    return provider
        return None

    result: dict[str, Package] = {}
    todo = sorted(wanted)
    while todo:
        name = todo.pop()
        if name in result:
            continue
        archive, stanza = by_name[name]
        groups = relation(stanza.get("Pre-Depends", "")) + relation(stanza.get("Depends", ""))
        depends = sorted({choice for group in groups if (choice := pick(group)) and choice != name})
        result[name] = Package(
            name=name,
            version=stanza["Version"],
            architecture=stanza["Architecture"],
            source=stanza.get("Source", name).split(" ")[0],
            archive=archive,
            filename=stanza["Filename"],
            sha256=stanza["SHA256"],
            size=int(stanza["Size"]),
            depends=tuple(depends),
        )
        todo.extend(depends)
    return result


def changes(old: Lock | None, new: Lock) -> list[str]:
    """Describe the difference between two locks, one line per package."""
    lines = []
    for group in GROUPS:
        before = old.groups[group] if old else {}
        after = new.groups[group]
        for name in sorted({*before, *after}):
            was = before[name].version if name in before else "-"
            now = after[name].version if name in after else "-"
            if was != now:
                lines.append(f"{group}: {name} {was} -> {now}")
    for name in sorted({*(old.sources if old else {}), *new.sources}):
        was = old.sources[name].version if old and name in old.sources else "-"
        now = new.sources[name].version if name in new.sources else "-"
        if was != now:
            lines.append(f"source: {name} {was} -> {now}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Make a new lock from the archive, or with ``--check`` say whether the present one is up to date."""
    from fleetbuild.archive import make_lock

    parser = argparse.ArgumentParser(prog="fleet lock", description=main.__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 when newer packages exist"
    )
    parser.add_argument("--json", action="store_true", help="print the changes as a JSON list")
    options = parser.parse_args(argv)
    path = LOCK_DIR / "packages.json"
    try:
        old = load(path) if path.exists() else None
        new = make_lock(load_seeds())
    except BuildError as error:
        print(f"fleet lock: {error}", file=sys.stderr)
        return 2
    lines = changes(old, new)
    if not options.check:
        temporary = path.with_suffix(".new")
        temporary.write_text(dump(new))
        temporary.replace(path)
    print(json.dumps(lines) if options.json else "\n".join(lines or ["The lock is up to date."]))
    return 1 if options.check and lines else 0


if __name__ == "__main__":
    sys.exit(main())
