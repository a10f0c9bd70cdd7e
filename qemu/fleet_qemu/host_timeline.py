# SPDX-License-Identifier: Apache-2.0
"""What the simulated server does when, as data: settings, steps, IPMI messages and texts.

A program is a list of steps; host_server.py says which event starts which. IPMI messages are those of IPMI
2.0: Get Device ID 20.1, Set ACPI Power State 20.6, Platform Event 29.3; sensor types in table 42-3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple

from fleet_qemu.errors import QemuError
from fleet_qemu.host_wires import PLTRST, POST_COMPLETE, PS_PWROK, RESET_OUT, SLP_S5
from fleetboard import Board


class State(StrEnum):
    """Where the server is."""

    DARK = "dark"  # its power supply gives nothing: no standby either
    OFF = "off"  # standby (S5)
    POWERING = "powering"
    RESET = "reset"  # rails are up, the processor is held in reset
    POST = "post"
    OS = "os"
    SHUTTING_DOWN = "shutting-down"


@dataclass(frozen=True)
class Settings:
    """How the simulated server behaves; what it does wrong on request will be settings, too. All in seconds
    where no unit is said."""

    post_scale: float = 1.0  # factor on all times of POST, which takes 4 s at 1
    power_good: float = 0.1  # from leaving S5 to PS_PWROK
    reset: float = 0.1  # least time that PLTRST is asserted
    shutdown: float = 1.0  # what the OS takes to shut down
    override: float = 4.0  # POWER_OUT held that long cuts the power
    spd_hertz: int = 100_000  # clock at which the firmware reads SPD
    ipmi_tries: int = 3  # how often a message is sent to a BMC that does not answer
    ipmi_pause: float = 0.2  # between two tries

    def changed(self, changes: Mapping[str, Any]) -> "Settings":
        """These settings with changes. Raises QemuError for a name that is none or a value that cannot be."""
        known = {field.name: field.type for field in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise QemuError(f"the host has no setting {name!r}", f"there are {', '.join(known)}")
            kinds = (int,) if known[name] is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value <= 1_000_000:
                raise QemuError(f"{value!r} is no value for {name}", "give a number of 0 or more")
        if changes.get("spd_hertz") == 0 or changes.get("ipmi_tries") == 0:
            raise QemuError("spd_hertz and ipmi_tries cannot be 0", "give 1 or more")
        return replace(self, **changes)


# --- what a step can do ---


class Enter(NamedTuple):
    """Be in another state."""

    state: State


class Phase(NamedTuple):
    """Reach a phase of the firmware or of the operating system."""

    name: str


class Wire(NamedTuple):
    """Assert or release a line."""

    name: str
    asserted: bool


class Message(NamedTuple):
    """Send an IPMI request and go on when it is answered or given up."""

    label: str
    request: bytes


class SpdRead(NamedTuple):
    """Read all of a DIMM's SPD: the bus is the host's for `seconds`."""

    dimm: str
    bus: int
    address: int
    seconds: float


class Say(NamedTuple):
    """Write to the serial port."""

    text: str


class Await(NamedTuple):
    """Go on when the BMC does not assert this line any more."""

    name: str


class Go(NamedTuple):
    """Go on with another program."""

    program: str


Action = Enter | Phase | Wire | Message | SpdRead | Say | Await | Go


class Step(NamedTuple):
    """What to do, no sooner than `at` seconds after the program started, and after the step before."""

    at: float
    do: Action


Program = tuple[Step, ...]


# --- IPMI messages ---

SPD_BYTES = 256
_BIOS, _OS = 0x01, 0x41  # generator ids: system software ids 00h (BIOS) and 20h (system management software)
# Sensor type and number; the BMC's SDR repository has a name for the first.
_FIRMWARE_PROGRESS, _OS_BOOT = (0x0F, 0x51), (0x1F, 0x1F)
_EVENT_REVISION, _SENSOR_SPECIFIC = 0x04, 0x6F

GET_DEVICE_ID = Message("Get Device ID", bytes.fromhex("18 01"))
SET_S2 = Message("Set ACPI Power State S2/D2", bytes.fromhex("18 06 82 82"))
SET_S0 = Message("Set ACPI Power State S0/D0", bytes.fromhex("18 06 80 80"))
SET_S5 = Message("Set ACPI Power State S5/D3", bytes.fromhex("18 06 85 83"))


def _event(label: str, generator: int, sensor: tuple[int, int], data: str) -> Message:
    head = (0x10, 0x02, generator, _EVENT_REVISION, *sensor, _SENSOR_SPECIFIC)
    return Message(f"Platform Event: {label}", bytes(head) + bytes.fromhex(data))


def _progress(label: str, code: int) -> Message:
    # offset 2, "progress", with a code in data 2
    return _event(label, _BIOS, _FIRMWARE_PROGRESS, f"c2 {code:02x} ff")


PRIMARY_CPU = _progress("primary processor initialisation", 0x19)
MEMORY = _progress("memory initialisation", 0x01)
SECONDARY_CPU = _progress("secondary processor initialisation", 0x03)
PCI = _progress("PCI resource configuration", 0x07)
BOOT_INITIATED = _progress("system boot initiated", 0x13)
OS_BOOTED = _event("OS boot completed", _OS, _OS_BOOT, "01 ff ff")  # offset 1, "C: boot completed"


# --- programs ---


def spd_seconds(hertz: int) -> float:
    """Time on the bus of one read of a whole SPD: three address bytes and the data, nine clocks each."""
    return (3 + SPD_BYTES) * 9 / hertz


def _dimms(board: Board, settings: Settings) -> Iterator[SpdRead]:
    for bus, device in board.devices():
        if bus.role == "dimm" and device.driver_name == "spd":
            yield SpdRead(device.name, bus.number, device.address, spd_seconds(settings.spd_hertz))


def _lines(at: float, *lines: str) -> Step:
    return Step(at, Say("".join(f"{line}\r\n" for line in lines)))


def _post(board: Board, settings: Settings) -> Iterator[Step]:
    dimms = list(_dimms(board, settings))
    yield Step(0.0, Enter(State.POST))
    yield Step(0.0, Phase("SEC"))
    yield _lines(0.0, f"{board.identity.model}: platform firmware", "SEC: cache is memory")
    yield Step(0.1, GET_DEVICE_ID)
    yield Step(0.1, SET_S2)
    yield Step(0.2, PRIMARY_CPU)
    yield Step(0.4, Phase("PEI"))
    yield Step(0.4, MEMORY)
    yield from (Step(0.5, read) for read in dimms)
    yield _lines(1.0, f"PEI: {len(dimms)} DIMM trained, {16 * len(dimms)} GiB")
    yield Step(1.2, SECONDARY_CPU)
    yield Step(1.4, Phase("DXE"))
    yield _lines(1.4, "DXE: drivers are started")
    yield Step(1.8, PCI)
    yield Step(2.8, Phase("BDS"))
    yield _lines(2.8, "BDS: boot option 1, disk 0")
    yield Step(3.8, BOOT_INITIATED)
    yield Step(4.0, Wire(POST_COMPLETE, True))
    yield Step(4.0, Go("os"))


def _os() -> Iterator[Step]:
    yield Step(0.0, Phase("ExitBootServices"))
    yield _lines(0.0, "BDS: ExitBootServices")
    yield Step(0.0, SET_S0)
    yield Step(0.0, Enter(State.OS))
    yield Step(0.0, Phase("kernel"))
    yield _lines(
        0.1,
        "[    0.000000] Linux version 6.1.0 (the simulated host)",
        "[    0.012042] ACPI: Interpreter enabled",
        "[    0.101533] serial8250: ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A",
    )
    yield _lines(
        0.5, "[    0.481206] EXT4-fs (sda2): mounted filesystem", "[    0.604711] systemd[1]: started"
    )
    yield Step(0.8, OS_BOOTED)
    yield Step(1.0, Phase("login"))
    yield Step(1.0, Say("\r\nDebian GNU/Linux 12 host ttyS0\r\n\r\nhost login: "))


_RAILS_GO = (Wire(PS_PWROK, False), Wire(SLP_S5, True), Wire(PLTRST, True), Wire(POST_COMPLETE, False))
_SLP_TO_RAILS = 0.01  # from SLP_S5 to the rails' end


def programs(board: Board, settings: Settings) -> dict[str, Program]:
    """All programs, by name, for one board."""
    s = settings
    post = (Step(step.at * s.post_scale, step.do) for step in _post(board, s))
    return {
        "power-up": (
            Step(0.0, Enter(State.POWERING)),
            Step(0.0, Wire(SLP_S5, False)),
            Step(s.power_good, Wire(PS_PWROK, True)),
            Step(s.power_good, Enter(State.RESET)),
            Step(s.power_good, Go("release")),
        ),
        "release": (
            Step(0.0, Await(RESET_OUT)),
            Step(0.0, Go("start")),
        ),
        "start": (
            Step(s.reset, Wire(PLTRST, False)),
            Step(s.reset, Go("post")),
        ),
        "post": tuple(post),
        "os": tuple(_os()),
        "reset": (
            Step(0.0, Wire(PLTRST, True)),
            Step(0.0, Wire(POST_COMPLETE, False)),
            Step(0.0, Enter(State.RESET)),
            Step(0.0, Go("release")),
        ),
        "os-shutdown": (
            Step(0.0, Enter(State.SHUTTING_DOWN)),
            _lines(0.0, "", "The system is going down."),
            _lines(s.shutdown, "[    9.318842] reboot: Power down"),
            Step(s.shutdown, Go("soft-off")),
        ),
        "soft-off": (
            Step(0.0, Enter(State.SHUTTING_DOWN)),
            Step(0.0, Wire(POST_COMPLETE, False)),
            Step(0.0, SET_S5),
            Step(0.0, Go("rails-off")),
        ),
        "rails-off": (
            Step(0.0, Wire(SLP_S5, True)),
            Step(_SLP_TO_RAILS, Wire(PS_PWROK, False)),
            Step(_SLP_TO_RAILS, Wire(PLTRST, True)),
            Step(_SLP_TO_RAILS, Enter(State.OFF)),
        ),
        "power-cut": (*(Step(0.0, wire) for wire in _RAILS_GO), Step(0.0, Enter(State.OFF))),
        "power-lost": (*(Step(0.0, wire) for wire in _RAILS_GO), Step(0.0, Enter(State.DARK))),
        "standby": (Step(0.0, Enter(State.OFF)),),
    }
