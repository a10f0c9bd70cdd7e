# SPDX-License-Identifier: Apache-2.0
"""From a request to the function that answers it, and back.

A command is a function of the request's context and of the fields of the request:

    command = Commands()

    @command(NetFn.APP, 0x06, "Set ACPI Power State", Privilege.ADMIN)
    async def set_acpi_power_state(context: Context, system: U7, set_system: Flag) -> None:
        ...

Its annotations are the format of request and response (see `codec`).
"""

import asyncio
import time
import traceback
from collections.abc import Callable
from inspect import CO_COROUTINE
from typing import Any, NamedTuple, TypeVar

from fleet_bmc_common import log
from fleet_ipmi.codec import CodecError, Layout, Results
from fleet_ipmi.outside import (
    AwayError,
    BadValueError,
    Bmc,
    BmcError,
    NoSuchRecordError,
    NotNowError,
    StorageError,
)

# A host's KCS driver gives up after about 5 s: the answer has to be there before.
SECONDS = 4.5


class NetFn:
    """Network functions of requests (IPMI 2.0, table 5-1). A response has the next number."""

    CHASSIS = 0x00
    SENSOR_EVENT = 0x04
    APP = 0x06
    STORAGE = 0x0A


class Privilege:
    """Privilege levels (IPMI 2.0, 6.8); each may do what those below may."""

    CALLBACK = 1
    USER = 2
    OPERATOR = 3
    ADMIN = 4


class Code:
    """Completion codes (IPMI 2.0, table 5-2)."""

    OK = 0x00
    INVALID_COMMAND = 0xC1
    TIMEOUT = 0xC3
    RESERVATION_CANCELED = 0xC5
    REQUEST_LENGTH = 0xC7
    OUT_OF_RANGE = 0xC9
    NO_SUCH_RECORD = 0xCB
    INVALID_FIELD = 0xCC
    NO_RESPONSE = 0xCE
    PRIVILEGE = 0xD4
    NOT_IN_THIS_STATE = 0xD5
    UNSPECIFIED = 0xFF


# A service that is away is "command response could not be provided": D3h, "destination unavailable", is for
# messages that are to be passed on to another interface, and FFh would not tell this from a bug of ours.
_CODES = {
    AwayError: Code.NO_RESPONSE,
    NotNowError: Code.NOT_IN_THIS_STATE,
    BadValueError: Code.OUT_OF_RANGE,
    NoSuchRecordError: Code.NO_SUCH_RECORD,
    StorageError: Code.UNSPECIFIED,
}
# What is the host's business and not the operator's is not logged.
_SILENT = (NotNowError, BadValueError, NoSuchRecordError)
_REFUSED = (Code.INVALID_COMMAND, Code.REQUEST_LENGTH, Code.PRIVILEGE)


class CompletionError(Exception):
    """Raised by a command that cannot be carried out; `code` is one of IPMI 2.0, table 5-2."""

    def __init__(self, code: int) -> None:
        super().__init__(f"completion code {code:02X}h")
        self.code = code


class Channel(NamedTuple):
    """Where a request came from (IPMI 2.0, 6.3 to 6.5, and 22.24 for the numbers)."""

    number: int
    medium: int
    protocol: int
    privilege: int  # the highest that a request from there has
    in_band: bool  # whether the host's own software speaks, over the system interface
    requester: int = 0x81  # address or software id of who speaks: remote console software


# The system interface knows no users: whatever runs on the host may do everything.
KCS = Channel(0x0F, 0x0C, 0x05, Privilege.ADMIN, in_band=True)


class Reservation:
    """The right to go on with a repository as it was (IPMI 2.0, 31.4 and 33.11)."""

    __slots__ = ("_number", "_valid")

    def __init__(self) -> None:
        self._number = 0
        self._valid = False

    def reserve(self) -> int:
        """Return a new reservation, 1 to FFFFh; the one before ends."""
        self._number = self._number % 0xFFFF + 1
        self._valid = True
        return self._number

    def cancel(self) -> None:
        """End the present reservation."""
        self._valid = False

    def check(self, number: int) -> None:
        """Raise CompletionError (C5h) when `number` is not the present reservation."""
        if not self._valid or number != self._number:
            raise CompletionError(Code.RESERVATION_CANCELED)


class Context(NamedTuple):
    """What a command gets beside the fields of its request."""

    bmc: Bmc
    channel: Channel
    sel: Reservation
    sdr: Reservation


Handler = TypeVar("Handler", bound=Callable[..., Any])


class Command:
    """One command: its function with its format, compiled."""

    __slots__ = ("handler", "is_async", "name", "privilege", "request", "response")

    def __init__(self, name: str, privilege: int, handler: Callable[..., Any]) -> None:
        types = dict(handler.__annotations__)
        results = types.pop("return")
        first, *fields = types.values()
        if first is not Context:
            raise TypeError(f"the first parameter of {handler.__name__} must be a Context")
        self.name = name
        self.privilege = privilege
        self.handler = handler
        self.is_async = bool(handler.__code__.co_flags & CO_COROUTINE)
        self.request = Layout(fields)
        self.response = Results(results)


class Commands:
    """The commands of one area by NetFn and number, and the decorator that adds one."""

    def __init__(self) -> None:
        self.table: dict[tuple[int, int], Command] = {}

    def __call__(self, netfn: int, number: int, name: str, privilege: int) -> Callable[[Handler], Handler]:
        """Make a function a command. Raises TypeError when its annotations cannot be a format."""

        def add(handler: Handler) -> Handler:
            if (netfn, number) in self.table:
                raise ValueError(f"there are two commands {netfn:02X}h/{number:02X}h")
            self.table[netfn, number] = Command(name, privilege, handler)
            return handler

        return add


class Dispatcher:
    """Answers requests of all transports."""

    def __init__(
        self,
        bmc: Bmc,
        *areas: Commands,
        counted: Callable[["Dispatcher"], None] | None = None,
        seconds: float = SECONDS,
    ) -> None:
        """Take the commands of `areas`; `counted` is called after each request."""
        self.requests = 0
        self.refused = 0  # malformed, unknown, of a wrong length, or not allowed
        self.last_request = 0  # milliseconds since the epoch; 0: never
        self._commands: dict[tuple[int, int], Command] = {}
        for area in areas:
            assert not self._commands.keys() & area.table.keys()
            self._commands |= area.table
        self._bmc = bmc
        self._counted = counted
        self._seconds = seconds
        self._sel = Reservation()
        self._sdr = Reservation()
        self._told: set[tuple[int, int]] = set()  # commands whose present trouble is in the journal

    async def message(self, channel: Channel, request: bytes) -> bytes:
        """Answer a request as KCS carries it: NetFn and LUN, command, data (IPMI 2.0, 9.2, 9.3).

        It has two bytes at least.
        """
        code, data = await self.answer(channel, request[0] >> 2, request[1], request[2:])
        return bytes((request[0] | 4, request[1], code)) + data

    async def answer(self, channel: Channel, netfn: int, number: int, data: bytes) -> tuple[int, bytes]:
        """Return completion code and data of the response; this always comes to an end and never fails."""
        self.requests += 1
        self.last_request = time.time_ns() // 1_000_000
        code, result = await self._answer(channel, (netfn, number), data)
        if code in _REFUSED:
            self.refused += 1
        if self._counted:
            self._counted(self)
        return code, result

    def refuse(self) -> None:
        """Count something that is no request at all."""
        self.requests += 1
        self.refused += 1
        if self._counted:
            self._counted(self)

    async def _answer(self, channel: Channel, key: tuple[int, int], data: bytes) -> tuple[int, bytes]:
        # Group extensions and OEM (NetFn 2Ch to 2Fh) have their group's code before the data: they will need
        # a table of their own, by that code too.
        command = self._commands.get(key)
        if command is None:
            return Code.INVALID_COMMAND, b""
        if channel.privilege < command.privilege:
            return Code.PRIVILEGE, b""
        try:
            values = command.request.unpack(data)
        except CodecError:
            return Code.REQUEST_LENGTH, b""
        context = Context(self._bmc, channel, self._sel, self._sdr)
        try:
            result = command.handler(context, *values)
            if command.is_async:
                async with asyncio.timeout(self._seconds):
                    result = await result
            packed = command.response.pack(result)
        except CompletionError as error:
            return error.code, b""
        except BmcError as error:
            if not isinstance(error, _SILENT):
                self._tell_once(key, f"{command.name}: {error}")
            return _CODES.get(type(error), Code.UNSPECIFIED), b""
        except TimeoutError:
            self._tell_once(key, f"{command.name}: no answer within {self._seconds} s")
            return Code.TIMEOUT, b""
        except Exception as error:
            self._tell_once(key, f"{command.name} failed:\n" + "".join(traceback.format_exception(error)))
            return Code.UNSPECIFIED, b""
        self._told.discard(key)
        return Code.OK, packed

    def _tell_once(self, key: tuple[int, int], text: str) -> None:
        """Log what is wrong with a command, again only after it has worked."""
        if key not in self._told:
            self._told.add(key)
            log.error(text)
