# SPDX-License-Identifier: Apache-2.0
"""The mapper's questions over a snapshot of the bus (phosphor-objmgr, "The ObjectMapper")."""

from collections.abc import Collection, Mapping

# Service -> path -> interfaces.
Snapshot = Mapping[str, Mapping[str, Collection[str]]]
# Service -> interfaces, of one path.
Owners = dict[str, list[str]]


def owners(snapshot: Snapshot, path: str, wanted: Collection[str] = ()) -> Owners:
    """Return who has the object at `path`, of those that have one of the `wanted` interfaces, if any are."""
    found = {}
    for service, objects in snapshot.items():
        interfaces = objects.get(path)
        if interfaces is not None and (not wanted or not set(wanted).isdisjoint(interfaces)):
            found[service] = sorted(interfaces)
    return found


def exists(snapshot: Snapshot, path: str) -> bool:
    """Whether there is an object at `path` or below it."""
    return path == "/" or any(
        other == path or is_below(other, path) for objects in snapshot.values() for other in objects
    )


def sub_tree(snapshot: Snapshot, path: str, depth: int, wanted: Collection[str] = ()) -> dict[str, Owners]:
    """Return the objects below `path`, at most `depth` levels (0: all), that have one of the interfaces."""
    below = {other for objects in snapshot.values() for other in objects if is_below(other, path)}
    found = {other: owners(snapshot, other, wanted) for other in sorted(below) if _near(other, path, depth)}
    return {other: who for other, who in found.items() if who}


def ancestors(snapshot: Snapshot, path: str, wanted: Collection[str] = ()) -> dict[str, Owners]:
    """Return the objects above `path` that have one of the interfaces."""
    found = {}
    while path not in ("", "/"):
        path = path.rpartition("/")[0] or "/"
        who = owners(snapshot, path, wanted)
        if who:
            found[path] = who
    return found


def is_below(path: str, parent: str) -> bool:
    """Whether `path` is somewhere below `parent`."""
    return path != parent and path.startswith(parent.rstrip("/") + "/")


def _near(path: str, parent: str, depth: int) -> bool:
    return depth <= 0 or path[len(parent.rstrip("/")) :].count("/") <= depth
