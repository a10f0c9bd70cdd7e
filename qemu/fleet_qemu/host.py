# SPDX-License-Identifier: Apache-2.0
"""The simulated host: the server beside the BMC, which boots, talks IPMI over KCS and shuts down.

`Server` (host_server.py) decides, this does: wires, KCS, serial port, and a record of all that happened. One
task does everything in order; only a message to the BMC, which may take seconds, has a task of its own.

The host does not lose power with the BMC: that is for whoever cuts it to say (`mains`).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fleet_qemu import host_wires
from fleet_qemu.errors import QemuError
from fleet_qemu.host_server import Server
from fleet_qemu.host_timeline import SPD_BYTES, Action, Enter, Message, Phase, Say, Settings, SpdRead, Wire
from fleet_qemu.host_uart import Uart
from fleet_qemu.host_wires import Pins, QemuPins, Wires
from fleet_qemu.kcs_host import KcsError, KcsHost, LpcPort, Port
from fleet_qemu.process import QemuProcess
from fleetboard import Board

Record = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of what happened and its details."""

# What an operator can do -> the button's line, and how long it is pressed if nothing is said (seconds).
BUTTONS = {
    "power-button": (host_wires.POWER_BUTTON, 0.2),
    "reset-button": (host_wires.RESET_BUTTON, 0.2),
    "id-button": (host_wires.ID_BUTTON, 0.2),
}
# ... -> the server's event.
EVENTS = {name: name for name in ("lose-power", "restore", "restore-on", "os-shutdown", "os-reboot")}
ACTIONS = (*BUTTONS, *EVENTS)
PRESS_SECONDS = 60.0  # longest press of a button

_NODE_BUSY = 0xC0


class Bmc(NamedTuple):
    """A BMC with power, as the host meets it."""

    pins: Pins
    port: Port
    pty: str

    @classmethod
    def of(cls, board: Board, qemu: QemuProcess, pty: str) -> "Bmc":
        """The BMC that a QEMU is."""
        port = LpcPort(qemu.qmp, qemu.qtest, board.kcs.channel)
        return cls(QemuPins(qemu.qmp, qemu.qtest), port, pty)


class _Item(NamedTuple):
    """Something for the task, and who waits until it is done. `kind` names a method `_on_…`."""

    kind: str
    arguments: tuple[Any, ...]
    done: "asyncio.Future[Any] | None" = None


class Host:
    """The simulated server beside one board; `start` it, and `close` it at the end."""

    def __init__(self, board: Board, record: Record) -> None:
        self._record = record
        self._clock = asyncio.get_running_loop().time
        self._server = Server(board, Settings())
        self._since = time.time()
        self._wires = Wires(board, lambda *change: self._put("line", *change))
        self._kcs = KcsHost()
        self._uart = Uart()
        self._bmc: Bmc | None = None
        self._mains = False
        self._answers = {"answered": 0, "unanswered": 0}
        self._bmc_answers = True  # it did the last time
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._sending: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. The host has no mains power yet."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End all that runs."""
        await self.disconnect()
        tasks = [task for task in (self._sending, self._task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the board's side ---

    async def connect(self, bmc: Bmc) -> None:
        """The BMC has power, and its processors do not run yet: all inputs are set when this returns."""
        self._uart.connect(bmc.pty)
        await self._do("connect", bmc)

    async def disconnect(self) -> None:
        """The BMC is about to lose power."""
        self._kcs.connect(None)
        await self._uart.disconnect()
        await self._wires.disconnect()
        if self._bmc is not None:
            self._bmc = None
            self._record("bmc", {"power": False})

    def bmc_was_reset(self) -> None:
        """The BMC's SoC was reset, and its pins forgot their levels."""
        self._put("bmc_was_reset")

    async def mains(self, on: bool) -> None:
        """The whole board gets or loses mains power: standby, or nothing."""
        if on != self._mains:
            self._mains = on
            await self._do("event", "restore" if on else "lose-power")

    # --- the operator's side ---

    def status(self) -> dict[str, Any]:
        """What the host is doing."""
        server = self._server
        return {
            "state": server.state.value,
            "phase": server.phase,
            "since": round(self._since, 3),
            "boots": server.boots,
            "bmc_power": self._bmc is not None,
            "asserts": sorted(name for name, on in self._wires.driven.items() if on),
            "hears": sorted(name for name, on in self._wires.heard.items() if on),
            "ipmi": dict(self._answers),
            "text_dropped": self._uart.dropped,
            "settings": vars(server.settings),
        }

    async def do(self, action: str, seconds: float | None = None) -> dict[str, Any]:
        """Do one of ACTIONS; `seconds` is how long a button is pressed. The status afterwards.

        Raises QemuError for what is unknown, makes no sense in this state or needs a line that is not there.
        """
        if action in BUTTONS:
            await self._press(*BUTTONS[action], seconds)
        elif action in EVENTS:
            self._record("do", {"action": action})
            if not await self._do("event", EVENTS[action]):
                raise QemuError(f"the host is in state {self._server.state}: {action} does nothing there")
        else:
            raise QemuError(f"the host cannot do {action!r}", f"it can do {', '.join(ACTIONS)}")
        return self.status()

    def set(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings, for what begins from now on. Raises QemuError for a wrong name or value."""
        self._server.settings = self._server.settings.changed(changes)
        self._record("settings", changes)
        return self.status()

    async def ipmi(self, request: bytes, *, source: str = "operator", label: str = "") -> bytes:
        """Carry one request over KCS, whatever state the host is in; the response. Raises KcsError."""
        details = {"from": source, "what": label, "request": request.hex()}
        try:
            answer, seconds = await self._kcs.transact(request)
        except KcsError as error:
            self._answers["unanswered"] += 1
            self._record("ipmi", {**details, "error": str(error)})
            raise
        self._answers["answered"] += 1
        self._record("ipmi", {**details, "response": answer.hex(), "ms": round(seconds * 1e3, 1)})
        return answer

    async def _press(self, line: str, usual: float, seconds: float | None) -> None:
        held = usual if seconds is None else seconds
        if not self._wires.has(line):
            raise QemuError(f"this board has no line {line}")
        if not 0 < held <= PRESS_SECONDS:
            raise QemuError(f"a press of {held:g} s is out of range", f"use up to {PRESS_SECONDS:g}")
        self._record("do", {"press": line, "seconds": held})
        try:
            await self._do("wire", line, True)
            await asyncio.sleep(held)
        finally:
            await self._do("wire", line, False)

    # --- the task ---

    def _put(self, kind: str, *arguments: Any) -> None:
        self._queue.put_nowait(_Item(kind, arguments))

    async def _do(self, kind: str, *arguments: Any) -> Any:
        done = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Item(kind, arguments, done))
        return await done

    async def _run(self) -> None:
        while True:
            item = await self._next()
            try:
                result = await getattr(self, f"_on_{item.kind}")(*item.arguments) if item else None
                await self._advance()
            except Exception as error:  # whoever asked gets it; the host goes on
                self._record("error", {"what": repr(error)})
                if item and item.done and not item.done.done():
                    item.done.set_exception(error)
            else:
                if item and item.done and not item.done.done():
                    item.done.set_result(result)

    async def _next(self) -> _Item | None:
        """The next item; None when the server has something to do first."""
        due = self._server.due()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                return await self._queue.get()
        return None

    async def _on_connect(self, bmc: Bmc) -> None:
        self._bmc = bmc
        self._bmc_answers = True
        self._kcs.connect(bmc.port)
        await self._wires.connect(bmc.pins)
        self._record("bmc", {"power": True})

    async def _on_bmc_was_reset(self) -> None:
        await self._wires.assert_all()
        self._record("bmc", {"reset": True})

    async def _on_event(self, name: str) -> bool:
        return self._server.event(name, self._clock())

    async def _on_line(self, name: str, asserted: bool, since: float) -> None:
        self._record("hears", {"line": name, "asserted": asserted, "ago": round(self._clock() - since, 3)})
        self._server.line(name, asserted, since)

    async def _on_wire(self, name: str, asserted: bool) -> None:
        await self._perform(Wire(name, asserted))

    async def _on_answered(self, task: "asyncio.Task[None]") -> None:
        if task is self._sending:
            self._sending = None
            self._server.answered(self._clock())

    async def _advance(self) -> None:
        for action in self._server.advance(self._clock()):
            await self._perform(action)
        if self._sending is not None and not self._server.in_flight:
            self._drop_message()

    async def _perform(self, action: Action) -> None:
        match action:
            case Wire(name, asserted):
                self._record("wire", {"line": name, "asserted": asserted})
                await self._wires.set(name, asserted)
            case Enter(state):
                self._since = time.time()
                self._record("state", {"state": state.value})
            case Phase(name):
                self._record("phase", {"phase": name})
            case SpdRead(dimm, bus, address, seconds):
                end = round(time.monotonic() + seconds, 4)
                where = {"dimm": dimm, "bus": bus, "address": address, "bytes": SPD_BYTES}
                self._record("spd", {**where, "seconds": round(seconds, 4), "monotonic_end": end})
            case Say(text):
                self._uart.write(text)
            case Message():
                self._drop_message()
                self._sending = asyncio.create_task(self._send(action))
                self._sending.add_done_callback(
                    lambda task: None if task.cancelled() else self._put("answered", task)
                )

    def _drop_message(self) -> None:
        if self._sending is not None:
            self._sending.cancel()  # in the middle of a byte, maybe: so it is when power goes
            self._sending = None

    async def _send(self, message: Message) -> None:
        """Send a message of the firmware or the OS, which goes on whatever comes of it."""
        settings = self._server.settings
        # A BMC that left a message unanswered gets one try for each of the next ones.
        for attempt in range(settings.ipmi_tries if self._bmc_answers else 1):
            if attempt:
                await asyncio.sleep(settings.ipmi_pause)
            with contextlib.suppress(KcsError):
                answer = await self.ipmi(message.request, source="host", label=message.label)
                if answer[2] != _NODE_BUSY:
                    self._bmc_answers = True
                    return
        self._bmc_answers = False
        self._record("given-up", {"what": message.label})
