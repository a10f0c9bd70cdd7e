# SPDX-License-Identifier: Apache-2.0
"""The board as frozen data: what the board file says, after validation.

Units: addresses, offsets and sizes are bytes; frequencies hertz. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

SLOT_NAMES = ("a", "b")


class BoardError(Exception):
    """The board file is wrong. `problems` holds one line per mistake: key, value, what is allowed."""

    def __init__(self, path: Path | str, problems: list[str]) -> None:
        self.path = str(path)
        self.problems = tuple(problems)
        noun = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{path}: {noun}", *(f"  {line}" for line in problems)]))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the board is: `name` is the machine name, `compatible` the root of the device tree."""

    name: str
    model: str
    compatible: str


@dataclass(frozen=True, slots=True)
class Emulator:
    """How QEMU is told to be this board."""

    machine: str
    min_version: tuple[int, int]
    fmc_model: str


@dataclass(frozen=True, slots=True)
class Boot:
    """DRAM addresses to which U-Boot copies the FIT, and from there the kernel and the device tree."""

    fit_load: int
    kernel_load: int
    fdt_load: int


@dataclass(frozen=True, slots=True)
class Console:
    """A UART: device-tree label, Linux tty name, position among QEMU's -serial options, speed in baud."""

    uart: str
    tty: str
    emulator_serial: int
    baud: int


@dataclass(frozen=True, slots=True)
class Forward:
    """A port the board serves and the emulator forwards."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Network:
    """The board's Ethernet port, as device-tree labels, and what is served on it."""

    mac: str
    mdio: str
    pinctrl: str
    phy_mode: str
    forwards: tuple[Forward, ...]


@dataclass(frozen=True, slots=True)
class Kcs:
    """The KCS channel towards the host: LPC channel number and the host's I/O port."""

    channel: int
    io_address: int

    @property
    def device(self) -> str:
        """Name of the character device under /dev (IPMI_KCS_BMC_CDEV_IPMI)."""
        return f"ipmi-kcs{self.channel}"


@dataclass(frozen=True, slots=True)
class Watchdog:
    """A watchdog in use: device-tree label and role."""

    controller: str
    role: str


@dataclass(frozen=True, slots=True)
class Partition:
    """A flash region; `index` is its MTD number, pinned by aliases in the device tree."""

    name: str
    offset: int
    size: int
    index: int

    @property
    def end(self) -> int:
        """First byte after the region."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the two copies of the system."""

    name: str
    fit: Partition
    manifest: Partition
    rofs: Partition


@dataclass(frozen=True, slots=True)
class Flash:
    """The boot flash. `mapped_at` is the CPU address at which it can be read as memory."""

    size: int
    erase_block: int
    mapped_at: int
    partitions: tuple[Partition, ...]

    def partition(self, name: str) -> Partition:
        """Return the partition of that name; KeyError names the ones there are."""
        for partition in self.partitions:
            if partition.name == name:
                return partition
        raise KeyError(f"no partition {name!r}; there are {', '.join(p.name for p in self.partitions)}")

    def slot(self, name: str) -> Slot:
        """Return slot `a` or `b`."""
        return Slot(
            name,
            fit=self.partition(f"fit-{name}"),
            manifest=self.partition(f"manifest-{name}"),
            rofs=self.partition(f"rofs-{name}"),
        )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Both slots, `a` first."""
        return tuple(self.slot(name) for name in SLOT_NAMES)


@dataclass(frozen=True, slots=True)
class Gpio:
    """A named line. `offset` is its number on the SoC's first GPIO chip."""

    name: str
    line: str
    offset: int
    direction: str
    active_low: bool
    pull: str


@dataclass(frozen=True, slots=True)
class Sensor:
    """A reading of a device.

    `channel` is the hwmon attribute stem (`temp1`), `property` the emulated device's QOM property or None
    where the model has none (fans), `scale` the raw units of that property per unit of `unit`. `pwm` is the
    hwmon attribute that sets a fan's speed, `fault` the GPIO line that says the fan stands still.
    """

    name: str
    channel: str
    unit: str
    property: str | None
    scale: float
    pwm: str | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class Device:
    """A device on an I2C bus. `domain` says whose power feeds it: `standby` or `host`."""

    name: str
    address: int
    compatible: str
    domain: str
    emulator_type: str
    emulator_options: Mapping[str, int | str | bool]
    sensors: tuple[Sensor, ...]

    @property
    def driver_name(self) -> str:
        """The name to write to the bus's new_device, which is the compatible without the vendor."""
        return self.compatible.partition(",")[2]


@dataclass(frozen=True, slots=True)
class I2cBus:
    """An I2C bus. `number` is the SoC's, Linux's and (as aspeed.i2c.bus.N) QEMU's."""

    number: int
    role: str
    owner: str
    frequency: int
    devices: tuple[Device, ...]

    def probed_at_boot(self, device: Device) -> bool:
        """Tell whether the kernel may bind the device by itself: it is powered, and nobody else's."""
        return self.owner == "bmc" and device.domain == "standby"


@dataclass(frozen=True, slots=True)
class Board:
    """A validated board."""

    identity: Identity
    soc: str
    memory: int
    emulator: Emulator
    boot: Boot
    console_bmc: Console
    console_host: Console
    network: Network
    kcs: Kcs
    watchdogs: tuple[Watchdog, ...]
    flash: Flash
    gpios: tuple[Gpio, ...]
    i2c: tuple[I2cBus, ...]

    @property
    def name(self) -> str:
        """The machine name."""
        return self.identity.name

    def gpio(self, name: str) -> Gpio:
        """Return the line of that name; KeyError names the ones there are."""
        for gpio in self.gpios:
            if gpio.name == name:
                return gpio
        raise KeyError(f"no GPIO {name!r}; there are {', '.join(g.name for g in self.gpios)}")

    def bus(self, role: str) -> I2cBus:
        """Return the bus with that role; KeyError names the ones there are."""
        for bus in self.i2c:
            if bus.role == role:
                return bus
        raise KeyError(f"no I2C bus with role {role!r}; there are {', '.join(b.role for b in self.i2c)}")

    def devices(self) -> Iterator[tuple[I2cBus, Device]]:
        """Walk every I2C device with its bus, in the order of the board file."""
        for bus in self.i2c:
            for device in bus.devices:
                yield bus, device

    def sensors(self) -> Iterator[tuple[I2cBus, Device, Sensor]]:
        """Walk every sensor with its device and bus, in the order of the board file."""
        for bus, device in self.devices():
            for sensor in device.sensors:
                yield bus, device, sensor


def frozen_mapping(data: Mapping[str, int | str | bool]) -> Mapping[str, int | str | bool]:
    """Return a read-only copy."""
    return MappingProxyType(dict(data))
