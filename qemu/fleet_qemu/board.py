# SPDX-License-Identifier: Apache-2.0
"""An emulated board as tests and the command line hold it: a handle on the board's supervisor."""

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import fleetboard
from fleet_qemu import bustrace, checks
from fleet_qemu.errors import QemuError
from fleet_qemu.ipmi_socket import Ipmitool
from fleet_qemu.provision import Credentials, provision
from fleet_qemu.rundir import RunDir, State, owner_name

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_ROOT = REPOSITORY / "build" / "boards"
DEFAULT_BOARD_FILE = REPOSITORY / "meta-fleet" / "bsp" / "boards" / "fleet-x1.toml"

_ANSWER_SECONDS = 120.0  # starting QEMU takes less than a second; more only on a machine in trouble


class Board:
    """A board that has a supervisor. Use `start` as a context manager, or `attach` to one that runs.

    Not thread-bound: calls of several threads are done one after the other.
    """

    def __init__(
        self, run: RunDir, control: socket.socket, supervisor: "subprocess.Popen[bytes] | None"
    ) -> None:
        self.run = run
        self.definition = fleetboard.load(run.board_file)
        self._control = control
        self._stream = control.makefile("rb")
        self._supervisor = supervisor
        self._keep_flash = True
        self._closed = False
        self._ids = count(1)
        self._lock = threading.Lock()

    # --- making one ---

    @classmethod
    def start(
        cls,
        image: Path | None,
        number: int | None = None,
        *,
        root: Path = DEFAULT_ROOT,
        board_file: Path = DEFAULT_BOARD_FILE,
        verify: bool = True,
        provisioned: bool = True,
        detached: bool = False,
        keep_flash: bool | None = None,
        ports: Mapping[str, int] | None = None,
        qemu: str | None = None,
    ) -> "Board":
        """Copy `image` to the flash of board `number` and power it on.

        `image` None takes the flash as the last run left it. `number` None takes the first free one. The
        board's folder is `root`/`number`. `provisioned` writes one-time credentials into the copy
        (provision.py). A board ends with this process, however that ends, unless `detached`. Its flash copy
        is removed at the end unless `keep_flash`, which is the default for a detached board. `ports` pins
        services to ports of 127.0.0.1; the others get free ones. `qemu` names another program than
        qemu-system-arm.

        `verify` checks the image's contents against its manifests first.

        Raises QemuError when anything that is needed is missing or in use, BoardError for a bad board file.
        """
        definition = fleetboard.load(board_file)
        program = checks.find_qemu(definition, qemu)
        checks.check_pty()
        if image is not None:
            checks.check_image(definition, image, contents=verify)
        wanted = dict(ports or {})
        _check_ports(definition, wanted)
        run, lock = _claim(root, number)
        try:
            write_flash(run, definition, board_file, image, provisioned=provisioned)
            board = cls._launch(
                run,
                lock,
                program,
                wanted,
                detached=detached,
                keep_flash=detached if keep_flash is None else keep_flash,
            )
        finally:
            os.close(lock)  # the supervisor has its own
        try:
            board.power_on()
        except BaseException:
            board.close()
            raise
        if detached:
            board._supervisor = None
        return board

    @classmethod
    def _launch(
        cls,
        run: RunDir,
        lock: int,
        program: str,
        ports: Mapping[str, int],
        *,
        detached: bool,
        keep_flash: bool,
    ) -> "Board":
        near, far = socket.socketpair()
        argv = [sys.executable, "-m", "fleet_qemu.supervisor"]
        argv += ["--number", str(run.number), "--qemu", program]
        argv += ["--lock-fd", str(lock), "--control-fd", str(far.fileno())]
        argv += ["--runner", "0" if detached else str(os.getpid())]
        argv += [word for name, port in ports.items() for word in ("--port", f"{name}={port}")]
        argv += [] if keep_flash else ["--discard-flash"]
        with far, run.supervisor_log.open("wb") as log:
            supervisor = subprocess.Popen(
                argv,
                cwd=run.path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock, far.fileno()),
                start_new_session=True,  # Ctrl-C at the runner's terminal is the runner's to judge
            )
        board = cls(run, near, supervisor)
        board._keep_flash = keep_flash
        return board

    @classmethod
    def attach(cls, number: int = 0, *, root: Path = DEFAULT_ROOT) -> "Board":
        """Take a handle on a board that another process started. Raises QemuError when it does not run."""
        run = RunDir.of(root, number)
        try:
            control = run.connect()
        except OSError:
            raise QemuError(
                f"board {number} is not running", "start it with './fleet up' or './fleet run'"
            ) from None
        return cls(run, control, None)

    def __enter__(self) -> "Board":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- power ---

    def power_on(self) -> State:
        """Give power: a new QEMU on the same flash. Nothing to do when it is on."""
        return self._state("power-on")

    def power_off(self, *, bmc_only: bool = False) -> State:
        """Cut power: what the flash chip has taken stays, a longer write is torn, memory is gone.

        It is mains power, so the simulated host loses it, too, unless `bmc_only`.
        """
        return self._state("power-cut", bmc_only=bmc_only)

    def end_qemu(self) -> State:
        """End QEMU in order, so that the flash copy has all that the guest wrote."""
        return self._state("power-off")

    def reset(self) -> State:
        """Pull the reset line of the whole board."""
        return self._state("reset")

    def close(self) -> None:
        """End the board: QEMU, supervisor and sockets are gone when this returns."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(QemuError):
            self._call("quit")
        with contextlib.suppress(OSError, ValueError):
            self._stream.read()  # its end is the supervisor's end
        self._stream.close()
        self._control.close()
        if self._supervisor is not None:
            self._supervisor.wait()
        if not self.run.wait_free(30.0):
            raise QemuError(f"board {self.run.number} does not end", f"see {self.run.supervisor_log}")
        self.run.remove_sockets()  # a supervisor that was killed left them
        if not self._keep_flash:
            self.run.flash.unlink(missing_ok=True)

    # --- the simulated host beside the BMC (host.py) ---

    def host_status(self) -> dict[str, Any]:
        """What the host is doing: state, phase, lines, settings, … (host.Host.status)."""
        status: dict[str, Any] = self._call("host")
        return status

    def host_do(self, action: str, **options: Any) -> dict[str, Any]:
        """Be the operator: one of host.ACTIONS, for a button with `seconds`; the host's status afterwards."""
        status: dict[str, Any] = self._call("host-do", action=action, **options)
        return status

    def host_set(self, **settings: Any) -> dict[str, Any]:
        """Change settings of the host (host_timeline.Settings); its status."""
        status: dict[str, Any] = self._call("host-set", settings=settings)
        return status

    def host_ipmi(self, request: bytes) -> bytes:
        """Carry a request (netFn/LUN, command, data) over KCS; the response. QemuError when there is none."""
        return bytes.fromhex(self._call("host-ipmi", request=request.hex()))

    def host_ipmitool(self, words: Sequence[str]) -> Ipmitool:
        """How stock ipmitool is run on the host, with these words."""
        return Ipmitool.of(self.run.path, words)

    def host_events(self) -> list[dict[str, Any]]:
        """All that the host did and heard in this run, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self.run.host_events.read_text().splitlines()]
        return []

    def host_wait(self, state: str, seconds: float, phase: str = "") -> dict[str, Any]:
        """Wait until the host is in `state`, and in `phase` if one is named; the status.

        Raises TimeoutError after `seconds`.
        """
        end = time.monotonic() + seconds
        while True:
            status = self.host_status()
            if status["state"] == state and phase in ("", status["phase"]):
                return status
            if time.monotonic() > end:
                raise TimeoutError(f"the host is not in state {state} {phase} after {seconds:g} s: {status}")
            time.sleep(0.05)

    # --- looking and poking ---

    @property
    def state(self) -> State:
        """What the supervisor knows now."""
        return self._state("status")

    def wait(self, condition: Callable[[State], bool], seconds: float) -> State:
        """Wait until `condition` holds for the state, at most `seconds`; the state. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while not condition(state := self.state):
            if time.monotonic() > end:
                raise TimeoutError(f"board {self.run.number} after {seconds:g} s: {state}")
            time.sleep(0.05)
        return state

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a command as `qmp("qom-get", path=…, property=…)`. Raises QemuError when QEMU refuses."""
        return self._call("qmp", command=command, arguments=arguments)

    @contextlib.contextmanager
    def bus_trace(self, buses: Iterable[int]) -> Iterator[bustrace.BusTrace]:
        """See the BMC's transactions on I2C buses, from a board without power on from the first instruction.

        The trace goes on over power cycles and resets. There is one at a time. Raises QemuError at the end
        when the trace proves nothing (see bustrace.BusTrace.update).
        """
        self._call("bus-trace-start", buses=list(buses))
        trace = bustrace.BusTrace(lambda since: self._call("bus-trace-read", since=since))
        try:
            yield trace
        except BaseException:
            with contextlib.suppress(QemuError):
                self._call("bus-trace-stop")
            raise
        self._call("bus-trace-stop")
        trace.update()

    def bus_trace_self_test(self, role: str = "dimm") -> list[bustrace.Transaction]:
        """Touch the bus of `role` from the guest, over SSH, and see it; the transactions.

        Devices that are there and an address where none is are read and written, and another bus is touched
        that must not be seen. Raises QemuError when the trace would not show a forbidden access.
        """
        accesses, elsewhere = bustrace.self_test_accesses(self.definition, role)
        script = bustrace.guest_script(accesses + elsewhere)
        with self.bus_trace([accesses[0].bus]) as trace:
            ran = subprocess.run(
                [*self.ssh_command(), f"python3 -I -c {shlex.quote(script)}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_ANSWER_SECONDS,
            )
        if ran.returncode:
            raise QemuError(f"the guest cannot use its I2C buses: {ran.stderr.strip()}")
        problems = bustrace.self_test_problems(accesses, trace.transactions)
        if problems:
            raise QemuError(f"the trace of the {role} bus is wrong: {'; '.join(problems)}")
        return trace.transactions

    @property
    def ports(self) -> dict[str, int]:
        """Port on 127.0.0.1 of each service: ssh, https, …"""
        return self.state.ports

    @property
    def console_pty(self) -> str:
        """Terminal device of the BMC's console; another one after each power on."""
        return self.state.console_pty

    @property
    def host_pty(self) -> str:
        """Terminal device of the host's serial port; another one after each power on."""
        return self.state.host_pty

    @property
    def console_log(self) -> Path:
        """File with all that the BMC's console said, over power cycles."""
        return self.run.console_log

    @property
    def host_log(self) -> Path:
        """File with all that the host's serial port said."""
        return self.run.host_log

    @property
    def qemu_log(self) -> Path:
        """File with QEMU's own output."""
        return self.run.qemu_log

    def console_text(self) -> str:
        """What the BMC's console said since the last power on."""
        with self.console_log.open("rb") as log:
            log.seek(self.state.console_offset)
            return log.read().decode(errors="replace")

    @property
    def alias(self) -> str:
        """Name of this board, under which its SSH host key is known."""
        return alias(self.definition, self.run.number)

    @property
    def credentials(self) -> Credentials:
        """What opens this board. Raises QemuError when it was started without."""
        credentials = Credentials(self.run.credentials)
        if not credentials.exist():
            raise QemuError(
                f"board {self.run.number} has no credentials", "write its flash again with './fleet flash'"
            )
        return credentials

    def ssh_command(self) -> list[str]:
        """Command that logs in; words to run may be appended."""
        return self.credentials.ssh_command(self.ports["ssh"], self.alias)

    # --- control socket ---

    def _state(self, do: str, **arguments: Any) -> State:
        return State.from_json(self._call(do, **arguments))

    def _call(self, do: str, **arguments: Any) -> Any:
        request = {"id": next(self._ids), "do": do, **arguments}
        with self._lock:
            try:
                self._control.settimeout(_ANSWER_SECONDS)
                self._control.sendall(json.dumps(request).encode() + b"\n")
                line = self._stream.readline()
            except TimeoutError:
                raise QemuError(f"the supervisor of board {self.run.number} does not answer") from None
            except (OSError, ValueError):
                line = b""  # it has ended, or this handle is closed
        if not line:
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            raise QemuError(answer["error"], answer.get("remedy", ""))
        return answer["result"]

    def _ended(self) -> QemuError:
        said = self.run.supervisor_log.read_text(errors="replace").strip().splitlines()[-1:]
        return QemuError(
            f"the supervisor of board {self.run.number} has ended{': ' + said[0] if said else ''}",
            "" if not said else f"see {self.run.supervisor_log}",
        )


def alias(definition: fleetboard.Board, number: int) -> str:
    """Name of board `number`."""
    return f"{definition.name}-{number}"


def write_flash(
    run: RunDir, definition: fleetboard.Board, board_file: Path, image: Path | None, *, provisioned: bool
) -> None:
    """Prepare the folder of a board whose lock the caller holds: flash copy, credentials, first state."""
    if image is None:
        if not run.flash.is_file():
            raise QemuError(f"board {run.number} has no flash yet", "write one with './fleet flash IMAGE'")
        image_name = run.read_state().image
    else:
        image_name = str(image.resolve())
        new = run.flash.with_suffix(".new")
        # shares blocks where the file system can, keeps holes where it cannot
        subprocess.run(["cp", "--reflink=auto", "--sparse=auto", "--", image, new], check=True)
        new.chmod(0o600)  # credentials go into it
        if provisioned:
            provision(definition, new, run.credentials, alias(definition, run.number))
        else:
            shutil.rmtree(run.credentials, ignore_errors=True)
        new.replace(run.flash)
        shutil.copyfile(board_file, run.board_file)
    run.remove_logs()
    run.write_state(State(run.number, owner=owner_name(), command=shlex.join(sys.argv), image=image_name))


def _claim(root: Path, number: int | None) -> tuple[RunDir, int]:
    if number is not None:
        run = RunDir.of(root, number)
        return run, run.claim()
    number = 0
    while True:
        run = RunDir.of(root, number)
        lock = run.lock()
        if lock is not None:
            run.remove_sockets()
            return run, lock
        number += 1


def _check_ports(definition: fleetboard.Board, ports: Mapping[str, int]) -> None:
    names = [forward.name for forward in definition.network.forwards]
    for name, port in ports.items():
        if name not in names:
            raise QemuError(f"{definition.name} has no service {name!r}", f"there are {', '.join(names)}")
        if not 0 < port < 65536:
            raise QemuError(f"port {port} for {name} is out of range", "use 1 to 65535")
