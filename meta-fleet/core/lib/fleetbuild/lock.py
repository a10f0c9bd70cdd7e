# SPDX-License-Identifier: Apache-2.0
"""The package lock: which Debian package versions, with which checksums, make the image and the tools.

``lock/seeds.toml`` says what is wanted and why, ``lock/packages.json`` what that comes to. The lock is made
from signed archive indexes only (``python3 -m fleetbuild.lock``, called by ``./fleet lock``); a build reads
nothing but the lock, so the same commit always asks for the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleetbuild import BuildError
from fleetbuild.deb822 import Stanza, relation

LOCK_DIR = Path(__file__).resolve().parents[2] / "lock"
GROUPS = ("native", "target")
ARCHIVES = ("debian", "debian-security")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _check_file(archive: str, filename: str, sha256: str, size: int) -> None:
    """Raise ValueError for a file that nobody could download and verify."""
    if archive not in ARCHIVES:
        raise ValueError(f"{filename}: archive {archive!r} is none of {', '.join(ARCHIVES)}")
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{filename}: {sha256!r} is no SHA-256")
    if size < 0:
        raise ValueError(f"{filename}: size {size} is negative")


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

    def __post_init__(self) -> None:
        _check_file(self.archive, self.filename, self.sha256, self.size)


@dataclass(frozen=True)
class SourceFile:
    """One file of a locked source package, or one binary package that carries source (linux-source)."""

    archive: str
    filename: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        _check_file(self.archive, self.filename, self.sha256, self.size)


@dataclass(frozen=True)
class Source:
    """A locked source: the version and its files."""

    version: str
    files: tuple[SourceFile, ...]


@dataclass(frozen=True)
class Lock:
    """The whole lock. ``epoch`` (seconds, UTC) is the date of the newest index it was made from.

    ``security`` says per architecture what became of the security suite.
    """

    epoch: int
    security: Mapping[str, str]
    groups: Mapping[str, Mapping[str, Package]]
    sources: Mapping[str, Source]

    def __post_init__(self) -> None:
        for group, packages in self.groups.items():
            for package in packages.values():
                if lost := sorted(set(package.depends) - packages.keys()):
                    raise ValueError(
                        f"{group}: {package.name} depends on {', '.join(lost)}, which is not locked"
                    )

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
        return Lock(int(data["epoch"]), dict(data["security"]), groups, sources)
    except FileNotFoundError:
        raise BuildError(f"{path}: no package lock; make one with './fleet lock'.") from None
    except OSError as error:
        raise BuildError(f"{path}: cannot read the package lock: {error.strerror}.") from None
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> BuildError:
    return BuildError(
        f"{path}: damaged package lock ({why}); restore it from git or make a new one with './fleet lock'."
    )


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
    """Return one SHA-256 over the tables of the lock folder."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        # Anything else is an editor's backup or a half-written file.
        if path.suffix in {".json", ".toml"}:
            data = path.read_bytes()
            total.update(f"{path.name}\0{len(data)}\0".encode() + data)
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
    """Read the seeds; BuildError when the file is not as its head says.

    Every package and every exclusion carries its reason, nothing is both wanted and excluded, and a source is
    either ``package`` (a binary package that carries it) or ``source`` and ``suite``.
    """
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BuildError(f"{path}: cannot read the package seeds: {error}") from None
    try:
        seeds = Seeds(
            {
                group: {
                    name: _strings(f"{group}.sets.{name}", entry)
                    for name, entry in data[group]["sets"].items()
                }
                for group in GROUPS
            },
            {group: _strings(f"{group}.exclude", data[group].get("exclude", {})) for group in GROUPS},
            {name: _strings(f"sources.{name}", entry) for name, entry in data["sources"].items()},
        )
    except KeyError as error:
        raise BuildError(f"{path}: there is no [{error.args[0]}]") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise BuildError(f"{path}: {error}") from None
    for group in GROUPS:
        if both := sorted(set(seeds.wanted(group)) & set(seeds.exclude[group])):
            raise BuildError(f"{path}: [{group}] both wants and excludes {', '.join(both)}")
    for name, wish in seeds.sources.items():
        if set(wish) not in ({"package"}, {"source", "suite"}):
            raise BuildError(f"{path}: [sources.{name}] must have 'package', or 'source' and 'suite'")
    return seeds


def _strings(where: str, table: Mapping[str, Any]) -> dict[str, str]:
    for name, value in table.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"[{where}]: {name} has no text that says what for")
    return dict(table)


def resolve(
    wanted: Iterable[str], exclude: Iterable[str], available: Sequence[tuple[str, Stanza]]
) -> dict[str, Package]:
    """Turn apt's solution (pairs of archive and index stanza) into locked packages with resolved relations.

    Excluded packages are dropped, and so is whatever only they needed. Of alternatives the first one in the
    solution is taken, by name before by Provides; versions are not compared, apt did that. Raises BuildError
    for a package that the solution lacks.
    """
    dropped = set(exclude)
    by_name = {stanza["Package"]: (archive, stanza) for archive, stanza in available}
    provides: dict[str, list[str]] = {}
    for _, stanza in available:
        for names in relation(stanza.get("Provides", "")):
            provides.setdefault(names[0], []).append(stanza["Package"])

    def candidates(alternatives: Sequence[str]) -> list[str]:
        named = [name for name in alternatives if name in by_name]
        return named + [provider for name in alternatives for provider in sorted(provides.get(name, ()))]

    def depends(name: str, stanza: Stanza) -> list[str]:
        chosen = set()
        for alternatives in relation(stanza.get("Pre-Depends", "") + "," + stanza.get("Depends", "")):
            there = candidates(alternatives)
            if not there and not dropped & set(alternatives):
                raise BuildError(
                    f"nothing in apt's solution is '{' | '.join(alternatives)}', which {name} needs"
                )
            chosen.update([choice for choice in there if choice not in dropped][:1])
        return sorted(chosen - {name})

    result: dict[str, Package] = {}
    todo = sorted(wanted)
    while todo:
        name = todo.pop()
        if name in result:
            continue
        if name not in by_name:
            raise BuildError(
                f"'{name}' is no package of its own in the archive; name the one that provides it"
            )
        archive, stanza = by_name[name]
        result[name] = Package(
            name=name,
            version=stanza["Version"],
            architecture=stanza["Architecture"],
            source=stanza.get("Source", name).split(" ")[0],
            archive=archive,
            filename=stanza["Filename"],
            sha256=stanza["SHA256"],
            size=int(stanza["Size"]),
            depends=tuple(depends(name, stanza)),
        )
        todo.extend(result[name].depends)
    return result


def changes(old: Lock | None, new: Lock) -> list[str]:
    """Describe the difference between two locks, one line per package. The dates of indexes do not count."""
    old = old or Lock(0, {}, {group: {} for group in GROUPS}, {})
    lines = []
    for architecture in sorted({*old.security, *new.security}):
        # "verified, index of <date>": the date changes daily
        was, now = (lock.security.get(architecture, "-").split(",")[0] for lock in (old, new))
        if was != now:
            lines.append(f"security: {architecture} {was} -> {now}")
    tables: list[tuple[str, Mapping[str, Package | Source], Mapping[str, Package | Source]]] = [
        *((group, old.groups[group], new.groups[group]) for group in GROUPS),
        ("source", old.sources, new.sources),
    ]
    for kind, before, after in tables:
        for name in sorted({*before, *after}):
            was = before[name].version if name in before else "-"
            now = after[name].version if name in after else "-"
            if was != now:
                lines.append(f"{kind}: {name} {was} -> {now}")
            elif before[name] != after[name]:
                lines.append(f"{kind}: {name} {now} has other files or relations")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Make a new lock from the archive, or with ``--check`` say whether the present one is up to date."""
    from fleetbuild.indexes import make_lock

    parser = argparse.ArgumentParser(prog="fleet lock", description=main.__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 when the archive has news"
    )
    parser.add_argument("--json", action="store_true", help="print the changes as a JSON list")
    options = parser.parse_args(argv)
    path = LOCK_DIR / "packages.json"
    try:
        old = _present(path, strict=options.check)
        new = make_lock(load_seeds(LOCK_DIR / "seeds.toml"))
        lines = changes(old, new)
        if not options.check and (lines or old is None):
            # Without news the file stays as it is: its date is that of every byte built from it.
            _replace(path, dump(new))
    except BuildError as error:
        print(f"fleet lock: {error}", file=sys.stderr)
        return 2
    print(json.dumps(lines) if options.json else "\n".join(lines or ["The lock is up to date."]))
    return 1 if options.check and lines else 0


def _present(path: Path, *, strict: bool) -> Lock | None:
    """Return the lock that is there. One that is damaged is an error only when it is not to be replaced."""
    if not path.exists():
        return None
    try:
        return load(path)
    except BuildError as error:
        if strict:
            raise
        print(f"WARNING: {error} It is replaced.", file=sys.stderr)
        return None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise BuildError(f"{path}: cannot write the lock: {error.strerror}.") from None


if __name__ == "__main__":
    # Locks are made of the classes of the module of this name, which is another copy than this one.
    from fleetbuild import lock

    sys.exit(lock.main())
