# SPDX-License-Identifier: Apache-2.0
"""Objects of a service on D-Bus, described by tables (D-Bus specification, "Standard Interfaces").

dbus-fast's own ServiceInterface is not used: it does not tell a method who called, announces objects from
path "/", and shows every object as an object manager but not the manager itself.

Clients see the standard errors (UnknownObject, UnknownInterface, UnknownMethod, UnknownProperty,
PropertyReadOnly, InvalidArgs); a handler raises DBusError for its own.
"""

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from dbus_fast import DBusError, ErrorType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio.message_bus import MessageBus
from dbus_fast.signature import get_signature_tree
from dbus_fast.validators import assert_interface_name_valid, assert_object_path_valid

from fleet_bmc_common import log
from fleet_bmc_common.text import sendable

INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PEER = "org.freedesktop.DBus.Peer"
PROPERTIES = "org.freedesktop.DBus.Properties"

Body = Sequence[Any]
# A setter gets the caller's unique name and the value, and calls Interface.update when it accepts the value.
Setter = Callable[[str, Any], Coroutine[Any, Any, None] | None]


class Method:
    """A D-Bus method: signatures of its arguments and results, and what answers it.

    ``handler`` gets the caller's unique name and the arguments; it returns the results as a sequence, or is a
    coroutine function that does.
    """

    __slots__ = ("arguments", "handler", "results")

    def __init__(
        self, arguments: str, results: str, handler: Callable[..., Body | Coroutine[Any, Any, Body]]
    ) -> None:
        self.arguments = arguments
        self.results = results
        self.handler = handler


class Interface:
    """One interface of one object: its properties with their values, what can be set, called and signalled.

    A property without an entry in ``setters`` is read-only. ``signals`` maps names to signatures.
    """

    __slots__ = ("_send", "methods", "name", "properties", "setters", "signals")

    def __init__(
        self,
        name: str,
        properties: Mapping[str, Variant] | None = None,
        *,
        setters: Mapping[str, Setter] | None = None,
        methods: Mapping[str, Method] | None = None,
        signals: Mapping[str, str] | None = None,
    ) -> None:
        assert_interface_name_valid(name)
        self.name = name
        self.properties = dict(properties or {})
        self.setters = setters or {}
        self.methods = methods or {}
        self.signals = signals or {}
        self._send: Callable[[str, str, str, Body], None] | None = None

    def update(self, **values: Any) -> None:
        """Set properties; those that differ are announced by one PropertiesChanged signal."""
        changed = {}
        for name, value in values.items():
            variant = Variant(self.properties[name].signature, value)
            if variant != self.properties[name]:
                changed[name] = variant
        self.properties.update(changed)
        if changed and self._send:
            self._send(PROPERTIES, "PropertiesChanged", "sa{sv}as", [self.name, changed, []])

    def emit(self, signal: str, *values: Any) -> None:
        """Send one of the interface's signals."""
        if self._send:
            self._send(self.name, signal, self.signals[signal], values)


class Members(Protocol):
    """Objects below one path that are made when somebody asks, because there are too many to keep."""

    def names(self) -> Sequence[str]:
        """Return the last part of each object's path."""

    def interfaces(self, name: str) -> Sequence[Interface]:
        """Return the interfaces of one of them."""


class ObjectTree:
    """All objects of a service. Until :meth:`announce` it is filled in silence."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self._objects: dict[str, dict[str, Interface]] = {}
        self._members: dict[str, Members] = {}
        self._managers: list[str] = []
        self._announcing = False
        self._running: set[asyncio.Task[None]] = set()
        bus.add_message_handler(self._handle)

    def manage(self, path: str) -> None:
        """Make ``path`` the object manager of everything below it."""
        assert_object_path_valid(path)
        self._managers.append(path)

    def add(self, path: str, *interfaces: Interface) -> None:
        """Add an object; ValueError when the path is in use."""
        assert_object_path_valid(path)
        if path in self._objects:
            raise ValueError(f"there is an object at {path} already")
        for interface in interfaces:
            interface._send = self._sender(path)
        self._objects[path] = {interface.name: interface for interface in interfaces}
        self.added(path)

    def remove(self, path: str) -> None:
        """Remove an object with all its interfaces."""
        interfaces = self._objects.pop(path)
        for interface in interfaces.values():
            interface._send = None
        self.removed(path, interfaces)

    def add_members(self, path: str, members: Members) -> None:
        """Show ``members`` below ``path``; tell of their coming and going by ``added`` and ``removed``."""
        assert_object_path_valid(path)
        self._members[path] = members

    def added(self, path: str) -> None:
        """Tell the bus that there is an object at ``path`` now."""
        manager = self._manager_of(path)
        if manager is not None and self._announcing:
            self._signal(manager, OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, self._values(path)])

    def removed(self, path: str, interfaces: Iterable[str]) -> None:
        """Tell the bus that the object at ``path`` is gone with these interfaces."""
        manager = self._manager_of(path)
        if manager is not None:
            self._signal(manager, OBJECT_MANAGER, "InterfacesRemoved", "oas", [path, list(interfaces)])

    def announce(self) -> None:
        """From now on tell the bus about every change."""
        self._announcing = True

    def _values(self, path: str) -> dict[str, dict[str, Variant]]:
        return {name: dict(interface.properties) for name, interface in self._object(path).items()}

    def _object(self, path: str) -> dict[str, Interface]:
        """Return an object's own interfaces, none when there is no object."""
        found = self._objects.get(path)
        if found is not None:
            return found
        parent, _, name = path.rpartition("/")
        members = self._members.get(parent)
        if members is None or name not in members.names():
            return {}
        return {interface.name: interface for interface in members.interfaces(name)}

    def _paths(self) -> Iterator[str]:
        yield from self._objects
        for parent, members in self._members.items():
            for name in members.names():
                yield f"{parent}/{name}"

    def _manager_of(self, path: str) -> str | None:
        """Return the closest object manager above ``path``."""
        return max((manager for manager in self._managers if _is_below(path, manager)), key=len, default=None)

    def _sender(self, path: str) -> Callable[[str, str, str, Body], None]:
        def send(interface: str, member: str, signature: str, body: Body) -> None:
            self._signal(path, interface, member, signature, body)

        return send

    def _signal(self, path: str, interface: str, member: str, signature: str, body: Body) -> None:
        values = _checked(signature, body)
        if self._announcing:
            self.bus.send(Message.new_signal(path, interface, member, signature, values))

    # --- Answers ---

    def _handle(self, call: Message) -> bool:
        """Answer a method call; leave replies and signals to dbus-fast."""
        if call.message_type is not MessageType.METHOD_CALL:
            return False
        try:
            method = self._find(call)
            if call.signature != method.arguments:
                raise DBusError(
                    ErrorType.INVALID_ARGS,
                    f"{call.member} takes '{method.arguments}', not '{call.signature}'",
                )
            result = method.handler(call.sender, *call.body)
            if asyncio.iscoroutine(result):
                task = asyncio.create_task(self._finish(call, method, result))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            else:
                self._reply(call, method, result)
        except Exception as error:
            self._fail(call, error)
        return True

    async def _finish(self, call: Message, method: Method, result: Coroutine[Any, Any, Body]) -> None:
        try:
            self._reply(call, method, await result)
        except Exception as error:
            self._fail(call, error)

    def _reply(self, call: Message, method: Method, body: Body) -> None:
        results = _checked(method.results, body)
        if not call.flags & MessageFlag.NO_REPLY_EXPECTED:
            self.bus.send(Message.new_method_return(call, method.results, results))

    def _fail(self, call: Message, error: Exception) -> None:
        """Tell the caller; what is no DBusError is a bug, and its details belong into the journal only."""
        if not isinstance(error, DBusError):
            log.error("".join(traceback.format_exception(error)))
            error = DBusError(ErrorType.FAILED, f"{call.member} failed; the service's journal tells why")
        if not call.flags & MessageFlag.NO_REPLY_EXPECTED:
            text = error.text.encode(errors="replace").decode().replace("\0", "?")
            self.bus.send(Message.new_error(call, error.type, sendable(text)))

    def _find(self, call: Message) -> Method:
        """Return the method that a call is for; DBusError tells which part of its address is wrong."""
        path, name, member = call.path or "", call.interface or "", call.member or ""
        if name != PEER and not self._exists(path):
            raise DBusError(ErrorType.UNKNOWN_OBJECT, f"there is no object at {path}")
        methods = self._interface(path, name).methods
        if member not in methods:
            raise DBusError(ErrorType.UNKNOWN_METHOD, f"{name} at {path} has no method {member}")
        return methods[member]

    def _interfaces(self, path: str) -> dict[str, Interface]:
        """Return the standard interfaces of a node and then its own."""
        standard = [
            Interface(
                PEER, methods={"Ping": Method("", "", _ping), "GetMachineId": Method("", "s", _machine_id)}
            ),
            Interface(
                INTROSPECTABLE, methods={"Introspect": Method("", "s", lambda _: [self._introspect(path)])}
            ),
            Interface(
                PROPERTIES,
                methods={
                    "Get": Method("ss", "v", lambda _, *words: [self._property(path, *words)]),
                    "GetAll": Method("s", "a{sv}", lambda _, name: [self._properties(path, name)]),
                    "Set": Method("ssv", "", lambda sender, *words: self._set(path, sender, *words)),
                },
                signals={"PropertiesChanged": "sa{sv}as"},
            ),
        ]
        if path in self._managers:
            managed = Method("", "a{oa{sa{sv}}}", lambda _: [self._managed(path)])
            signals = {"InterfacesAdded": "oa{sa{sv}}", "InterfacesRemoved": "oas"}
            standard.append(
                Interface(OBJECT_MANAGER, methods={"GetManagedObjects": managed}, signals=signals)
            )
        return {interface.name: interface for interface in standard} | self._object(path)

    def _exists(self, path: str) -> bool:
        """Whether ``path`` is an object, an object manager or a node above one."""
        return (
            path in self._objects
            or path in self._managers
            or bool(self._object(path) or self._children(path))
        )

    def _children(self, path: str) -> list[str]:
        start = len(path.rstrip("/")) + 1
        below = (other for other in (*self._paths(), *self._managers) if _is_below(other, path))
        return sorted({other[start:].split("/", 1)[0] for other in below})

    def _managed(self, path: str) -> dict[str, dict[str, dict[str, Variant]]]:
        return {other: self._values(other) for other in self._paths() if _is_below(other, path)}

    def _interface(self, path: str, name: str) -> Interface:
        interface = self._interfaces(path).get(name)
        if interface is None:
            raise DBusError(ErrorType.UNKNOWN_INTERFACE, f"{path} has no interface {name}")
        return interface

    def _property(self, path: str, interface: str, name: str) -> Variant:
        properties = self._interface(path, interface).properties
        if name not in properties:
            raise DBusError(ErrorType.UNKNOWN_PROPERTY, f"{interface} at {path} has no property {name}")
        return properties[name]

    def _properties(self, path: str, name: str) -> dict[str, Variant]:
        """Return an interface's properties; all of the object when ``name`` is empty, as sd-bus does."""
        wanted = [self._interface(path, name)] if name else self._interfaces(path).values()
        return {key: value for interface in wanted for key, value in interface.properties.items()}

    def _set(
        self, path: str, sender: str, interface: str, name: str, value: Variant
    ) -> Body | Coroutine[Any, Any, Body]:
        old = self._property(path, interface, name)
        setter = self._interface(path, interface).setters.get(name)
        if setter is None:
            raise DBusError(
                ErrorType.PROPERTY_READ_ONLY, f"{name} of {interface} at {path} cannot be written"
            )
        if value.signature != old.signature:
            raise DBusError(
                ErrorType.INVALID_ARGS, f"{name} has signature '{old.signature}', not '{value.signature}'"
            )
        result = setter(sender, value.value)
        return () if result is None else _no_results(result)

    def _introspect(self, path: str) -> str:
        """Return the node's description (D-Bus specification, "Introspection Data Format")."""
        interfaces = map(_describe, self._interfaces(path).values())
        children = (f'<node name="{child}"/>' for child in self._children(path))
        return "\n".join([_DOCTYPE, "<node>", *interfaces, *children, "</node>\n"])


async def _no_results(work: Coroutine[Any, Any, None]) -> Body:
    await work
    return ()


def _ping(_sender: str) -> Body:
    return ()


def _machine_id(_sender: str) -> Body:
    with open("/etc/machine-id") as stream:  # noqa: PTH123 (pathlib costs start-up time)
        return [stream.read().strip()]


def _checked(signature: str, body: Body) -> list[Any]:
    """Return ``body`` as a list; SignatureBodyMismatchError when it does not fit.

    dbus-fast's compiled marshaller would send garbage instead, and the bus would cut the connection.
    """
    values: list[Any] = sendable(list(body))
    get_signature_tree(signature).verify(values)
    return values


def _is_below(path: str, parent: str) -> bool:
    return path != parent and path.startswith(parent.rstrip("/") + "/")


_DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    '"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">'
)


def _describe(interface: Interface) -> str:
    parts = [f'<interface name="{interface.name}">']
    for name, method in interface.methods.items():
        arguments = _arguments(method.arguments, ' direction="in"') + _arguments(
            method.results, ' direction="out"'
        )
        parts.append(f'<method name="{name}">{arguments}</method>')
    for name, signature in interface.signals.items():
        parts.append(f'<signal name="{name}">{_arguments(signature)}</signal>')
    for name, value in interface.properties.items():
        access = "readwrite" if name in interface.setters else "read"
        parts.append(f'<property name="{name}" type="{value.signature}" access="{access}"/>')
    return "\n".join([*parts, "</interface>"])


def _arguments(signature: str, direction: str = "") -> str:
    """Describe the single complete types of a signature, in order."""
    return "".join(
        f'<arg type="{part.signature}"{direction}/>' for part in get_signature_tree(signature).types
    )
