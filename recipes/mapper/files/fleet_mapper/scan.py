# SPDX-License-Identifier: Apache-2.0
"""What is on the bus: every object of every service of ours, kept until its service tells that it changed."""

from xml.parsers import expat

from dbus_fast import DBusError, Message
from dbus_fast.aio.message_bus import MessageBus

from fleet_bmc_common import log
from fleet_bmc_common.client import DBUS, DBUS_PATH, call, on_signal
from fleet_bmc_common.objects import INTROSPECTABLE, OBJECT_MANAGER
from fleet_mapper.index import Snapshot

OURS = ("xyz.openbmc_project.", "io.metafleet.")
_STANDARD = "org.freedesktop.DBus."
_OWN = "xyz.openbmc_project.ObjectMapper"

Objects = dict[str, list[str]]


class Bus:
    """The objects of all services, asked for when somebody wants to know and not before."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._known: dict[str, Objects] = {}  # by the owner's unique name
        self._changes = 0  # counts signals, to notice those that come while a service is asked

    async def watch(self) -> None:
        """Listen for what makes knowledge stale."""
        for member in ("InterfacesAdded", "InterfacesRemoved"):
            await on_signal(self._bus, self._object_changed, OBJECT_MANAGER, member)
        await on_signal(self._bus, self._owner_changed, DBUS, "NameOwnerChanged")

    async def snapshot(self) -> Snapshot:
        """Return the objects of all services by the services' names.

        Services that the bus starts on demand are started: who asks for an object does not know whose it is.
        """
        (running,) = await call(self._bus, DBUS, DBUS_PATH, DBUS, "ListNames")
        (startable,) = await call(self._bus, DBUS, DBUS_PATH, DBUS, "ListActivatableNames")
        found = {}
        for name in sorted({*running, *startable}):
            if name.startswith(OURS) and name != _OWN:
                objects = await self._objects(name, start=name not in running)
                if objects:
                    found[name] = objects
        return found

    async def _objects(self, name: str, *, start: bool) -> Objects:
        try:
            if start:
                await call(self._bus, DBUS, DBUS_PATH, DBUS, "StartServiceByName", "su", name, 0)
            (owner,) = await call(self._bus, DBUS, DBUS_PATH, DBUS, "GetNameOwner", "s", name)
            if owner in self._known:
                return self._known[owner]
            before = self._changes
            objects: Objects = {}
            await self._walk(owner, "/", objects)
            if self._changes == before:
                self._known[owner] = objects
        except (DBusError, TimeoutError) as error:
            # it has just ended, or hangs: the others are not to suffer
            log.warning(f"{name} does not tell its objects: {error or 'no answer'}")
            return {}
        return objects

    async def _walk(self, owner: str, path: str, found: Objects) -> None:
        """Add the object at `path` and those below it."""
        (text,) = await call(self._bus, owner, path, INTROSPECTABLE, "Introspect")
        interfaces, children = parse(text)
        ours = [name for name in interfaces if not name.startswith(_STANDARD)]
        if ours or OBJECT_MANAGER in interfaces:
            found[path] = ours + [name for name in interfaces if name == OBJECT_MANAGER]
        if OBJECT_MANAGER in interfaces:
            (managed,) = await call(self._bus, owner, path, OBJECT_MANAGER, "GetManagedObjects")
            found.update({other: list(shown) for other, shown in managed.items()})
            return
        for child in children:
            await self._walk(owner, f"{path.rstrip('/')}/{child}", found)

    def _object_changed(self, signal: Message) -> None:
        self._changes += 1
        self._known.pop(str(signal.sender), None)

    def _owner_changed(self, signal: Message) -> None:
        self._changes += 1
        self._known.pop(signal.body[1], None)


def parse(text: str) -> tuple[list[str], list[str]]:
    """Return the interfaces and the children of a node (D-Bus specification, "Introspection Data Format")."""
    interfaces: list[str] = []
    children: list[str] = []
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 2 and tag == "interface":
            interfaces.append(attributes["name"])
        elif depth == 2 and tag == "node":
            children.append(attributes["name"])

    def end(_tag: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(text, True)
    return interfaces, children
