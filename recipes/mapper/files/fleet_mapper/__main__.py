# SPDX-License-Identifier: Apache-2.0
"""Run the service; the bus starts it when somebody asks for it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from dbus_fast import DBusError

from fleet_bmc_common.objects import Body, Interface, Method, ObjectTree
from fleet_bmc_common.service import run
from fleet_mapper import index
from fleet_mapper.index import Snapshot
from fleet_mapper.scan import Bus

BUS_NAME = "xyz.openbmc_project.ObjectMapper"
PATH = "/xyz/openbmc_project/object_mapper"
NOT_FOUND = "xyz.openbmc_project.Common.Error.ResourceNotFound"


async def start(objects: ObjectTree, _tasks: asyncio.TaskGroup) -> None:
    """Show the mapper's object."""
    bus = Bus(objects.bus)
    await bus.watch()

    def answer(question: Callable[..., Body]) -> Callable[..., Coroutine[Any, Any, Body]]:
        async def handle(_sender: str, *arguments: Any) -> Body:
            return question(await bus.snapshot(), *arguments)

        return handle

    methods = {
        "GetObject": Method("sas", "a{sas}", answer(get_object)),
        "GetSubTree": Method("sias", "a{sa{sas}}", answer(get_sub_tree)),
        "GetSubTreePaths": Method("sias", "as", answer(get_sub_tree_paths)),
        "GetAncestors": Method("sas", "a{sa{sas}}", answer(get_ancestors)),
    }
    objects.add(PATH, Interface(BUS_NAME, methods=methods))


def get_object(snapshot: Snapshot, path: str, wanted: Sequence[str]) -> Body:
    """Who has this object?"""
    found = index.owners(snapshot, path, wanted)
    if not found:
        raise DBusError(
            NOT_FOUND, f"there is no object at {path}" + (" with such an interface" if wanted else "")
        )
    return [found]


def get_sub_tree(snapshot: Snapshot, path: str, depth: int, wanted: Sequence[str]) -> Body:
    """Who has the objects below?"""
    _must_exist(snapshot, path)
    return [index.sub_tree(snapshot, path, depth, wanted)]


def get_sub_tree_paths(snapshot: Snapshot, path: str, depth: int, wanted: Sequence[str]) -> Body:
    """Which objects are below?"""
    _must_exist(snapshot, path)
    return [list(index.sub_tree(snapshot, path, depth, wanted))]


def get_ancestors(snapshot: Snapshot, path: str, wanted: Sequence[str]) -> Body:
    """Who has the objects above?"""
    _must_exist(snapshot, path)
    return [index.ancestors(snapshot, path, wanted)]


def _must_exist(snapshot: Snapshot, path: str) -> None:
    if not index.exists(snapshot, path):
        raise DBusError(NOT_FOUND, f"there is nothing at {path}")


if __name__ == "__main__":
    run(start, BUS_NAME)
