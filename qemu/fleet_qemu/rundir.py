# SPDX-License-Identifier: Apache-2.0
"""The folder of one board: flash copy, logs, state and control socket, and the lock that says it is in use.

A board number is a folder `<root>/<number>`. Everything that a board leaves behind is in there.
"""

import fcntl
import getpass
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fleet_qemu.errors import QemuError
from fleet_qemu.ipmi_socket import SOCKET as IPMI_SOCKET
from fleet_qemu.machine import FILES

CONTROL_SOCKET = "control.sock"


@dataclass
class State:
    """What is known about a board; the supervisor keeps it and writes it to `state.json` on each change."""

    number: int
    owner: str = ""
    command: str = ""  # what the owner ran, for the message "in use by"
    image: str = ""
    supervisor: int = 0  # process id, as are the others
    qemu: int | None = None
    power: str = "off"  # "on", "off" (cut or quit on request) or "lost" (QEMU ended by itself)
    exit_code: int | None = None  # of the last QEMU, negative = signal
    exit_text: str = ""  # end of what it wrote to stderr, when power is "lost"
    powered_on_at: float = 0.0  # seconds since the epoch
    power_ons: int = 0
    resets: int = 0  # resets of the board since the last power on, by itself or by request
    console_offset: int = 0  # bytes of console.log that belong to earlier power-ons
    host_offset: int = 0  # the same for host.log
    console_pty: str = ""
    host_pty: str = ""
    ports: dict[str, int] = field(default_factory=dict)  # service name -> port on 127.0.0.1

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "State":
        """Read what `asdict` gave; keys of other versions are dropped."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dump`."""
        return asdict(self)


@dataclass(frozen=True)
class RunDir:
    """Names inside a board's folder, and its lock."""

    path: Path
    number: int

    @classmethod
    def of(cls, root: Path, number: int) -> "RunDir":
        """Folder of board `number` (0 or greater) under `root`; it need not exist."""
        if number < 0:
            raise QemuError(f"board number {number} is negative", "use 0 or greater")
        return cls(root.resolve() / str(number), number)

    @classmethod
    def all(cls, root: Path) -> list["RunDir"]:
        """The boards that have a folder under `root`, by number."""
        if not root.is_dir():
            return []
        numbers = sorted(int(p.name) for p in root.iterdir() if p.name.isdecimal() and p.is_dir())
        return [cls.of(root, number) for number in numbers]

    @property
    def flash(self) -> Path:
        """The board's own copy of the flash image."""
        return self.path / FILES.flash

    @property
    def board_file(self) -> Path:
        """The board data file that the board was started with (a copy)."""
        return self.path / "board.toml"

    @property
    def console_log(self) -> Path:
        """All that the BMC's console ever said, over power cycles."""
        return self.path / FILES.console_log

    @property
    def host_log(self) -> Path:
        """All that the host's serial port ever said."""
        return self.path / FILES.host_log

    @property
    def qemu_log(self) -> Path:
        """QEMU's own output."""
        return self.path / "qemu.log"

    @property
    def supervisor_log(self) -> Path:
        """The supervisor's output; empty unless it failed."""
        return self.path / "supervisor.log"

    @property
    def events_log(self) -> Path:
        """One JSON object per line: power on, power off, reset, loss, with the time."""
        return self.path / "events.jsonl"

    @property
    def host_events(self) -> Path:
        """One JSON object per line: what the simulated host did and heard, and each IPMI exchange."""
        return self.path / "host.jsonl"

    @property
    def logs(self) -> tuple[Path, ...]:
        """The logs of one run, from start to end of the supervisor."""
        return (self.console_log, self.host_log, self.qemu_log, self.events_log, self.host_events)

    @property
    def credentials(self) -> Path:
        """Folder of the one-time key and password."""
        return self.path / "credentials"

    @property
    def state_file(self) -> Path:
        """The board's state as JSON."""
        return self.path / "state.json"

    def read_state(self) -> State:
        """The last written state; the empty state when there is none."""
        try:
            return State.from_json(json.loads(self.state_file.read_text()))
        except FileNotFoundError:
            return State(self.number)
        except (ValueError, TypeError) as error:
            raise QemuError(f"{self.state_file} cannot be read ({error})", "remove it") from None

    def write_state(self, state: State) -> None:
        """Replace state.json in one step, so that a reader never sees half of it."""
        new = self.state_file.with_suffix(".new")
        new.write_text(json.dumps(state.to_json(), indent=2) + "\n")
        new.replace(self.state_file)

    def lock(self) -> int | None:
        """Take the lock of this board: its file descriptor, or None when the board is in use.

        The folder is made when it is missing.

        The descriptor is handed on to the supervisor and to QEMU: the kernel frees the lock when the last of
        them has ended, so that no new board starts on a flash copy that a dying QEMU still writes.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)  # it holds credentials
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def in_use(self) -> bool:
        """Whether a supervisor or its QEMU holds the board at this moment."""
        if not self.path.is_dir():
            return False
        lock = self.lock()
        if lock is None:
            return True
        os.close(lock)
        return False

    def claim(self) -> int:
        """Take the lock or raise QemuError that says who has the board and how to stop it."""
        lock = self.lock()
        if lock is None:
            raise self._in_use_error()
        self.remove_sockets()  # left by a supervisor that was killed
        return lock

    def check_free(self) -> None:
        """Raise what `claim` would raise now."""
        if self.in_use():
            raise self._in_use_error()

    def _in_use_error(self) -> QemuError:
        state = self.read_state()
        since = (
            time.strftime(" since %H:%M:%S", time.localtime(state.powered_on_at))
            if state.powered_on_at
            else ""
        )
        return QemuError(
            f"board {self.number} is in use by {state.owner or 'somebody'}"
            f" (process {state.supervisor}{since}, started by: {state.command or 'unknown'})",
            f"stop it with './fleet down --board {self.number}', or take another number with '--board N'",
        )

    def wait_free(self, seconds: float) -> bool:
        """Wait until nobody holds the board, at most `seconds`; whether that came."""
        end = time.monotonic() + seconds
        while self.in_use():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)  # flock has no timeout
        return True

    def remove_logs(self) -> None:
        """Forget what earlier runs said."""
        for log in self.logs:
            log.unlink(missing_ok=True)

    def remove_sockets(self) -> None:
        """Remove the sockets of a board that has ended."""
        for name in (CONTROL_SOCKET, FILES.tools_socket, IPMI_SOCKET):
            (self.path / name).unlink(missing_ok=True)

    def connect(self, name: str = CONTROL_SOCKET) -> socket.socket:
        """Connect to a socket in this folder. Raises OSError when nobody listens.

        A socket's path may be 107 bytes at most and checkouts can be deeper, so go by way of the open folder.
        """
        folder = os.open(self.path, os.O_PATH | os.O_DIRECTORY)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(f"/proc/self/fd/{folder}/{name}")
        except OSError:
            sock.close()
            raise
        finally:
            os.close(folder)
        return sock


def owner_name() -> str:
    """Name of the user who runs this process, or the number when it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
