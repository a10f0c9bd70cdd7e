# SPDX-License-Identifier: Apache-2.0
"""The process that owns one board: it starts, cuts and ends QEMU, and answers on a control socket.

Started by `Board.start` with the board's folder as current folder. It ends, and QEMU with it, when the
runner that started it ends (also by SIGKILL) and when it is told to (`quit`, SIGTERM). Killed itself, it
leaves no QEMU behind (see process.py). A detached board outlives its runner.

Control socket: one JSON object per line, `{"id": N, "do": NAME, …}`, answered by `{"id": N, "result": …}` or
`{"id": N, "error": TEXT, "remedy": TEXT}`. The names are those of `_ACTIONS`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import fleetboard
from fleet_qemu import bustrace, machine, ports
from fleet_qemu.errors import QemuError
from fleet_qemu.host import Bmc, Host
from fleet_qemu.ipmi_socket import IpmiSocket
from fleet_qemu.kcs_host import KcsError
from fleet_qemu.process import QemuProcess, tail
from fleet_qemu.qmp import QmpClosed, QmpError
from fleet_qemu.rundir import CONTROL_SOCKET, RunDir

_REQUEST_LIMIT = 1 << 20  # bytes of one request


class Supervisor:
    """The board's power and state. All methods run on one event loop."""

    def __init__(self, run: RunDir, qemu: str, pinned: Mapping[str, int], lock: int) -> None:
        self._run = run
        self._qemu_binary = qemu
        self._pinned = dict(pinned)
        self._lock = lock
        self._board = fleetboard.load(run.board_file)
        self._state = run.read_state()
        self._state.supervisor = os.getpid()
        self._qemu: QemuProcess | None = None
        self._reservation = ports.Reservation(self._board.network.forwards)
        self._power = asyncio.Lock()  # power actions one after the other
        self._watch: asyncio.Task[None] | None = None
        self._tracer = bustrace.Tracer()
        self._host = Host(self._board, self._record_host)
        self._host.start()
        self._ipmi = IpmiSocket(lambda request: self._host.ipmi(request, source="ipmitool"))
        self.quit_requested = asyncio.Event()

    # --- actions of the control socket ---

    async def status(self) -> dict[str, Any]:
        """The state, see rundir.State."""
        return self._state.to_json()

    async def power_on(self) -> dict[str, Any]:
        """Start a new QEMU on the board's flash copy; nothing to do when it runs."""
        async with self._power:
            if self._qemu is None:
                try:
                    await self._start()
                except QemuError:
                    self._reservation.hold(self._state.ports)
                    raise
            return self._state.to_json()

    async def power_off(self) -> dict[str, Any]:
        """End QEMU in order: what the guest has written to flash arrives there."""
        return await self._stop(QemuProcess.quit, "power-off")

    async def power_cut(self, *, bmc_only: bool = False) -> dict[str, Any]:
        """Pull the plug: a write of several flash pages is torn between two of them, memory is gone.

        The host loses its power, too, unless `bmc_only`.
        """
        return await self._stop(QemuProcess.cut, "power-cut", bmc_only=bmc_only)

    async def reset(self) -> dict[str, Any]:
        """Reset the whole board as the SoC's reset line does; flash and ports stay."""
        await self.qmp("system_reset", {})
        return self._state.to_json()

    async def qmp(self, command: str, arguments: dict[str, Any]) -> Any:
        """Pass one command to QEMU."""
        if self._qemu is None:
            raise QemuError(f"board {self._run.number} has no power", "power it on first")
        return await self._qemu.qmp.execute(command, **arguments)

    async def bus_trace_start(self, buses: list[int]) -> dict[str, Any]:
        """Trace I2C buses, over power cycles; see bustrace.Tracer, also for the next two."""
        async with self._power:
            return await self._tracer.start(buses)

    async def bus_trace_read(self, since: int) -> dict[str, Any]:
        """The transactions of the trace from number `since` on."""
        return self._tracer.read(since)

    async def bus_trace_stop(self) -> dict[str, Any]:
        """End the trace."""
        async with self._power:
            return await self._tracer.stop()

    async def host_status(self) -> dict[str, Any]:
        """What the simulated host is doing, see host.Host.status."""
        return self._host.status()

    async def host_do(self, action: str, seconds: float | None) -> dict[str, Any]:
        """Be the operator in front of the host; its status afterwards."""
        return await self._host.do(action, seconds)

    async def host_set(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Change settings of the host."""
        return self._host.set(settings)

    async def host_ipmi(self, request: str) -> str:
        """Carry an IPMI request over KCS, both in hexadecimal, from netFn/LUN on."""
        return (await self._host.ipmi(bytes.fromhex(request))).hex()

    async def quit(self) -> dict[str, Any]:
        """End the board; the connection closes when nothing of it runs any more."""
        self.quit_requested.set()
        return self._state.to_json()

    # --- life of QEMU ---

    async def serve_ipmi(self) -> None:
        """Open the socket for ipmitool."""
        await self._ipmi.open()

    async def shut_down(self, *, cut: bool) -> None:
        """The last thing: end QEMU and the host, free the ports, remove the sockets."""
        await (self.power_cut() if cut else self.power_off())
        await self._ipmi.close()
        await self._host.close()
        self._reservation.release()
        self._run.remove_sockets()
        self._state.supervisor = 0
        self._save("quit")

    async def _start(self) -> None:
        run, state = self._run, self._state
        (run.path / machine.FILES.tools_socket).unlink(missing_ok=True)  # a killed QEMU leaves it
        state.console_offset = _size(run.console_log)
        state.host_offset = _size(run.host_log)
        log_offset = _size(run.qemu_log)
        wanted = {**state.ports, **self._pinned}
        self._reservation.release()
        try:
            qemu = await self._spawn(wanted)
        except QemuError as error:
            port = ports.refused_port(error.message)
            if port is None:
                raise
            pinned = [name for name, number in self._pinned.items() if number == port]
            if pinned:
                raise QemuError(
                    f"port {port} of {ports.LOOPBACK} for {pinned[0]} is in use",
                    "end what listens there, choose another port or let one be chosen",
                ) from None
            # somebody took it between release and start: let the kernel choose again
            qemu = await self._spawn(self._pinned)
        try:
            usernet = await qemu.qmp.execute("human-monitor-command", **{"command-line": "info usernet"})
            chardevs = await qemu.qmp.execute("query-chardev")
            await self._tracer.attach(qemu)
            state.host_pty = machine.parse_pty(chardevs, machine.HOST_CONSOLE)
            await self._host.mains(True)
            await self._host.connect(Bmc.of(self._board, qemu, state.host_pty))
            await qemu.qmp.execute("cont")
        except (QmpClosed, QmpError) as error:
            await self._host.disconnect()
            await qemu.kill()
            self._tracer.detach()
            raise QemuError(
                f"QEMU ended while it started: {tail(run.qemu_log, log_offset) or error}"
            ) from None
        self._qemu = qemu
        state.ports = ports.parse_usernet(self._board.network.forwards, usernet)
        state.console_pty = machine.parse_pty(chardevs, machine.BMC_CONSOLE)
        state.qemu = qemu.pid
        state.power = "on"
        state.powered_on_at = time.time()
        state.power_ons += 1
        state.resets = 0
        state.exit_code, state.exit_text = None, ""
        self._watch = asyncio.create_task(self._watch_exit(qemu, log_offset))
        self._save("power-on")

    async def _spawn(self, wanted: Mapping[str, int]) -> QemuProcess:
        def command(qmp: int, qtest: int, log: int) -> list[str]:
            return machine.command(
                self._board,
                qemu=self._qemu_binary,
                number=self._run.number,
                ports=wanted,
                qmp_fd=qmp,
                qtest_fd=qtest,
                log_fd=log,
            )

        return await QemuProcess.start(
            command, self._run.qemu_log, [self._lock], self._on_event, self._tracer.feed
        )

    async def _stop(
        self, how: Callable[[QemuProcess], Awaitable[None]], name: str, *, bmc_only: bool = False
    ) -> dict[str, Any]:
        async with self._power:
            await self._host.disconnect()
            if not bmc_only:
                await self._host.mains(False)
            if self._qemu is not None:
                qemu, self._qemu = self._qemu, None
                await how(qemu)
                self._set_off("off", await qemu.wait(), "")
                self._save(name)
            return self._state.to_json()

    async def _watch_exit(self, qemu: QemuProcess, log_offset: int) -> None:
        """Notice that QEMU ends although nobody asked for it."""
        code = await qemu.wait()
        async with self._power:
            if self._qemu is not qemu:
                return  # asked for
            self._qemu = None
            await self._host.disconnect()
            await self._host.mains(False)
            await qemu.kill()  # closes its sockets
            self._set_off("lost", code, tail(self._run.qemu_log, log_offset))
            self._save("lost")

    def _set_off(self, power: str, code: int, text: str) -> None:
        state = self._state
        state.power, state.qemu, state.exit_code, state.exit_text = power, None, code, text
        state.console_pty = state.host_pty = ""
        self._reservation.hold(state.ports)
        self._tracer.detach()

    def _on_event(self, name: str, data: dict[str, Any]) -> None:
        if name == "RESET":
            self._host.bmc_was_reset()
            self._state.resets += 1
            self._tracer.reset()
            self._save("reset", guest=data.get("guest"), reason=data.get("reason"))

    def _save(self, event: str, **details: Any) -> None:
        self._run.write_state(self._state)
        line = {"time": round(time.time(), 3), "event": event, **details}
        with self._run.events_log.open("a") as log:
            log.write(json.dumps(line) + "\n")

    def _record_host(self, event: str, details: Mapping[str, Any]) -> None:
        times = {"time": round(time.time(), 4), "monotonic": round(time.monotonic(), 4)}
        with self._run.host_events.open("a") as log:
            log.write(json.dumps({**times, "event": event, **details}) + "\n")

    # --- control socket ---

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, in order, until it closes."""
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        number: Any = None
        try:
            request = json.loads(line)
            number = request.get("id")
            action = _ACTIONS.get(request["do"])
            if action is None:
                raise QemuError(f"unknown request {request['do']!r}", f"one of {', '.join(_ACTIONS)}")
            return {"id": number, "result": await action(self, request)}
        except QemuError as error:
            return {"id": number, "error": error.message, "remedy": error.remedy}
        except (QmpError, QmpClosed) as error:
            return {"id": number, "error": f"QEMU: {error}", "remedy": ""}
        except KcsError as error:
            return {"id": number, "error": f"KCS: {error}", "remedy": ""}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {"id": number, "error": f"request not understood: {error!r}", "remedy": ""}


_ACTIONS: dict[str, Callable[[Supervisor, dict[str, Any]], Awaitable[Any]]] = {
    "status": lambda s, _: s.status(),
    "power-on": lambda s, _: s.power_on(),
    "power-off": lambda s, _: s.power_off(),
    "power-cut": lambda s, request: s.power_cut(bmc_only=bool(request.get("bmc_only"))),
    "reset": lambda s, _: s.reset(),
    "qmp": lambda s, request: s.qmp(request["command"], request.get("arguments", {})),
    "bus-trace-start": lambda s, request: s.bus_trace_start(request["buses"]),
    "bus-trace-read": lambda s, request: s.bus_trace_read(request["since"]),
    "bus-trace-stop": lambda s, _: s.bus_trace_stop(),
    "host": lambda s, _: s.host_status(),
    "host-do": lambda s, request: s.host_do(request["action"], request.get("seconds")),
    "host-set": lambda s, request: s.host_set(request["settings"]),
    "host-ipmi": lambda s, request: s.host_ipmi(request["request"]),
    "quit": lambda s, _: s.quit(),
}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def run_board(run: RunDir, args: argparse.Namespace) -> None:
    """Serve the board until it is told to end or its runner has ended."""
    supervisor = Supervisor(run, args.qemu, dict(args.port), args.lock_fd)
    loop = asyncio.get_running_loop()
    runner_lost = False

    def lost_runner() -> None:
        nonlocal runner_lost
        runner_lost = True
        supervisor.quit_requested.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.quit_requested.set)
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(task := asyncio.create_task(supervisor.serve(reader, writer)))
        task.add_done_callback(connections.discard)

    await supervisor.serve_ipmi()
    server = await asyncio.start_unix_server(connected, CONTROL_SOCKET, limit=_REQUEST_LIMIT)
    lifeline = socket.socket(fileno=args.control_fd)
    runner = asyncio.create_task(supervisor.serve(*await asyncio.open_unix_connection(sock=lifeline)))
    if args.runner:
        runner.add_done_callback(lambda _: lost_runner())
        # A child that the runner forked would hold the lifeline open after the runner's end: watch it, too.
        with contextlib.suppress(ProcessLookupError):
            loop.add_reader(os.pidfd_open(args.runner), lost_runner)
    await supervisor.quit_requested.wait()
    server.close()
    await supervisor.shut_down(cut=runner_lost)
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)
    if args.discard_flash:
        run.flash.unlink(missing_ok=True)


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    return name, int(number)


def main() -> None:
    """Command line of the supervisor; only Board.start runs it."""
    parser = argparse.ArgumentParser(description="Own one emulated board (internal, see fleet_qemu.Board).")
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--qemu", required=True, help="QEMU program")
    parser.add_argument("--port", type=_port, action="append", default=[], help="NAME=PORT that must be used")
    parser.add_argument("--lock-fd", type=int, required=True)
    parser.add_argument(
        "--control-fd", type=int, required=True, help="connected control socket of the runner"
    )
    parser.add_argument(
        "--runner", type=int, default=0, help="process whose end is this board's end; 0: none"
    )
    parser.add_argument("--discard-flash", action="store_true", help="remove the flash copy at the end")
    args = parser.parse_args()
    asyncio.run(run_board(RunDir(Path.cwd(), args.number), args))


if __name__ == "__main__":
    main()
