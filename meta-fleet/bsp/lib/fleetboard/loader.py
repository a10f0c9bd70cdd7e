# SPDX-License-Identifier: Apache-2.0
"""Read a board file and check all of it, so that whoever uses a Board need not check anything."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

from fleetboard.model import (
    SLOT_NAMES,
    Board,
    BoardError,
    Boot,
    Console,
    Device,
    Emulator,
    Flash,
    Forward,
    Gpio,
    I2cBus,
    Identity,
    Kcs,
    Network,
    Partition,
    Sensor,
    Watchdog,
    frozen_mapping,
)
from fleetboard.reader import Table
from fleetboard.soc import CHANNEL_UNITS, FLASH_MODELS, MACHINES, SOCS, Soc, gpio_number

SCHEMA = 1
# 31 is the longest name of a device-tree node, 16 of an IPMI sensor (SDR ID string).
SLUG = r"(?=.{1,31}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*"
SLUG_MEANING = "at most 31 lower-case letters and digits, words joined by -, such as fan-controller"
UPPER = r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*"
GPIO_NAME = rf"(?=.{{1,31}}\Z){UPPER}"
GPIO_MEANING = "at most 31 upper-case letters and digits, words joined by _, such as PS_PWROK"
SENSOR_NAME = rf"(?=.{{1,16}}\Z){UPPER}"
SENSOR_MEANING = "at most 16 upper-case letters and digits, words joined by _, such as CPU_TEMP"
COMPATIBLE = r"[a-z0-9-]{1,16},[a-z0-9.-]{1,19}"
COMPATIBLE_MEANING = "a device-tree compatible, vendor,device"
CHANNEL = rf"({'|'.join(CHANNEL_UNITS)})[1-9][0-9]?"
CHANNEL_MEANING = f"a hwmon channel: {', '.join(CHANNEL_UNITS)} with a number, such as temp1"
PROPERTY = r"[a-z][a-z0-9-]*(\[[0-9]\])?"
BAUDS = ("9600", "19200", "38400", "57600", "115200")
I2C_FIRST, I2C_LAST = 0x08, 0x77
REQUIRED_PARTITIONS = (
    "u-boot",
    "u-boot-env",
    *(f"{kind}-{slot}" for slot in SLOT_NAMES for kind in ("fit", "manifest", "rofs")),
    "rwfs",
)
# The smallest erase unit that every chip of FLASH_MODELS offers and UBI-less MTD uses without
# CONFIG_MTD_SPI_NOR_USE_4K_SECTORS; regions that are not aligned to it cannot be erased alone.
ERASE_BLOCK = 0x10000
# DRAM to keep free behind kernel_load and fdt_load.
KERNEL_ROOM = 16 << 20
FDT_ROOM = 1 << 20


def load(path: Path | str) -> Board:
    """Read and validate the board file; BoardError lists every mistake found."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BoardError(path, [f"cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        raise BoardError(path, [f"is not UTF-8 at byte {error.start}"]) from None
    return parse(text, path)


def parse(text: str, path: Path | str = "board.toml") -> Board:
    """Validate the text of a board file; `path` is only named in messages."""
    try:
        data = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and what int() says to a number of 5000 digits
        raise BoardError(path, [f"is not TOML: {error}"]) from None
    except RecursionError:
        raise BoardError(path, ["is nested too deeply"]) from None
    problems: list[str] = []
    board = _board(Table(data, "", problems))
    if problems:
        raise BoardError(path, problems)
    return board


def _board(root: Table) -> Board:
    root.integer("schema", SCHEMA, SCHEMA, form="d")
    soc_table = root.table("soc")
    soc_name = soc_table.choice("name", SOCS)
    soc = SOCS[soc_name]
    smallest, *_, largest = soc.memory_mib
    memory_mib = soc_table.integer("memory_mib", smallest, largest, form="d")
    if memory_mib not in soc.memory_mib:
        allowed = ", ".join(map(str, soc.memory_mib))
        soc_table.problem("memory_mib", f"{memory_mib} is not allowed; expected one of {allowed}")
    memory = memory_mib << 20
    soc_table.close()
    emulator = _emulator(root.table("emulator"))
    flash = _flash(root.table("flash"), soc, emulator)
    console_bmc, console_host = _consoles(root.table("console"), soc)
    gpios = _gpios(root, soc)
    board = Board(
        identity=_identity(root.table("identity")),
        soc=soc_name,
        memory=memory,
        emulator=emulator,
        boot=_boot(root.table("boot"), soc, memory, flash),
        console_bmc=console_bmc,
        console_host=console_host,
        network=_network(root.table("network"), soc),
        kcs=_kcs(root.table("kcs"), soc),
        watchdogs=_watchdogs(root, soc),
        flash=flash,
        gpios=gpios,
        i2c=_i2c(root, soc, emulator, {gpio.name: gpio for gpio in gpios}),
    )
    root.close()
    return board


def _identity(table: Table) -> Identity:
    identity = Identity(
        name=table.text("name", SLUG, SLUG_MEANING),
        model=table.text(
            "model", r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,62}", "letters, digits, spaces and . _ / + -"
        ),
        compatible=table.text("compatible", COMPATIBLE, COMPATIBLE_MEANING),
    )
    table.close()
    return identity


def _emulator(table: Table) -> Emulator:
    version = table.text("min_version", r"[1-9][0-9]?\.[0-9]{1,2}", "a QEMU version, such as 7.2") or "0.0"
    major, minor = version.split(".")
    emulator = Emulator(
        machine=table.choice("machine", MACHINES),
        min_version=(int(major), int(minor)),
        fmc_model=table.choice("fmc_model", FLASH_MODELS),
    )
    table.close()
    return emulator


def _boot(table: Table, soc: Soc, memory: int, flash: Flash) -> Boot:
    # The kernel unpacks itself to the start of DRAM; U-Boot and its copy of the device tree live at the end.
    low, high = soc.memory_base + (32 << 20), soc.memory_base + memory - (16 << 20)
    boot = Boot(
        fit_load=table.integer("fit_load", low, high, multiple=0x1000),
        kernel_load=table.integer("kernel_load", low, high, multiple=0x1000),
        fdt_load=table.integer("fdt_load", low, high, multiple=0x1000),
    )
    if not table.close():
        return boot
    fit_size = max((p.size for p in flash.partitions if p.name.startswith("fit-")), default=0)
    regions = sorted(
        [
            (boot.fit_load, fit_size, "fit_load"),
            (boot.kernel_load, KERNEL_ROOM, "kernel_load"),
            (boot.fdt_load, FDT_ROOM, "fdt_load"),
        ]
    )
    for (start, size, name), (following, _, other) in itertools.pairwise(regions):
        if following < start + size:
            table.problem(other, f"is {following - start:#x} bytes after {name}, which needs {size:#x}")
    return boot


def _consoles(table: Table, soc: Soc) -> tuple[Console, Console]:
    bmc_table, host_table = table.table("bmc"), table.table("host")
    bmc, host = _console(bmc_table, soc), _console(host_table, soc)
    table.close()
    if bmc_table.ok and host_table.ok and bmc.uart == host.uart:
        host_table.problem("uart", f"{host.uart} is already the BMC's console")
    return bmc, host


def _console(table: Table, soc: Soc) -> Console:
    uart = table.choice("uart", soc.uarts)
    tty, serial = soc.uarts[uart]
    baud = table.integer("baud", 9600, 115200, form="d")
    if table.ok and str(baud) not in BAUDS:
        table.problem("baud", f"{baud} is not allowed; expected one of {', '.join(BAUDS)}")
    table.close()
    return Console(uart=uart, tty=f"ttyS{tty}", emulator_serial=serial, baud=baud)


def _network(table: Table, soc: Soc) -> Network:
    forwards = []
    names: set[str] = set()
    ports: set[tuple[str, int]] = set()
    for entry in table.tables("forward"):
        forward = Forward(
            name=entry.text("name", SLUG, SLUG_MEANING),
            protocol=entry.choice("protocol", ("tcp", "udp")),
            port=entry.integer("port", 1, 65535, form="d"),
        )
        if entry.close():
            _unique(entry, "name", forward.name, names)
            _unique(entry, "port", (forward.protocol, forward.port), ports)
            forwards.append(forward)
    network = Network(
        mac=table.choice("mac", soc.macs),
        mdio=table.choice("mdio", soc.mdios),
        pinctrl=table.text("pinctrl", r"pinctrl_[a-z0-9_]+", "a label of the SoC's pinctrl file"),
        phy_mode=table.choice("phy_mode", ("rgmii", "rgmii-id", "rgmii-rxid", "rgmii-txid", "rmii")),
        forwards=tuple(forwards),
    )
    table.close()
    return network


def _kcs(table: Table, soc: Soc) -> Kcs:
    kcs = Kcs(
        channel=table.integer("channel", min(soc.kcs_channels), max(soc.kcs_channels), form="d"),
        io_address=table.integer("io_address", 0x100, 0xFFFE, multiple=2),
    )
    table.close()
    return kcs


def _watchdogs(root: Table, soc: Soc) -> tuple[Watchdog, ...]:
    found: list[Watchdog] = []
    controllers: set[str] = set()
    roles: set[str] = set()
    for entry in root.tables("watchdog", at_least=1):
        watchdog = Watchdog(
            controller=entry.choice("controller", soc.watchdogs),
            role=entry.text("role", SLUG, SLUG_MEANING),
        )
        if entry.close():
            _unique(entry, "controller", watchdog.controller, controllers)
            _unique(entry, "role", watchdog.role, roles)
            found.append(watchdog)
    return tuple(found)


def _flash(table: Table, soc: Soc, emulator: Emulator) -> Flash:
    size = table.integer("size", ERASE_BLOCK, soc.flash_window, multiple=ERASE_BLOCK)
    erase_block = table.integer("erase_block", ERASE_BLOCK, ERASE_BLOCK)
    if not table.ok:
        # judge the partitions by the chip, or each of them would be reported as well
        size = FLASH_MODELS[emulator.fmc_model]
    elif size != FLASH_MODELS[emulator.fmc_model]:
        table.problem(
            "size",
            f"{size:#x} is not the size of {emulator.fmc_model}, {FLASH_MODELS[emulator.fmc_model]:#x}",
        )
    partitions: list[Partition] = []
    names: set[str] = set()
    mentioned: set[str] = set()
    for index, entry in enumerate(table.tables("partition", at_least=1)):
        partition = Partition(
            name=entry.text("name", SLUG, SLUG_MEANING),
            offset=entry.integer("offset", 0, max(size - ERASE_BLOCK, 0), multiple=ERASE_BLOCK),
            size=entry.integer("size", ERASE_BLOCK, size, multiple=ERASE_BLOCK),
            index=index,
        )
        mentioned.add(partition.name)
        if not entry.close():
            continue
        _unique(entry, "name", partition.name, names)
        if partition.end > size:
            entry.problem(
                "size",
                f"{partition.name} ends at {partition.end:#x}, "
                f"{partition.end - size:#x} bytes past the flash's end",
            )
        for other in partitions:
            if partition.offset < other.end and other.offset < partition.end:
                entry.problem(
                    "offset",
                    f"{partition.name} ({partition.offset:#x}..{partition.end:#x}) overlaps "
                    f"{other.name} ({other.offset:#x}..{other.end:#x})",
                )
        partitions.append(partition)
    table.close()
    absent = [name for name in REQUIRED_PARTITIONS if name not in mentioned]
    if absent and mentioned and "" not in mentioned:
        table.problem("partition", f"there is no partition {', '.join(absent)}; a board needs these")
    _check_roles(table, partitions)
    return Flash(size, erase_block, soc.flash_mapped_at, tuple(partitions))


def _check_roles(table: Table, partitions: list[Partition]) -> None:
    by_name = {partition.name: partition for partition in partitions}
    for kind in ("fit", "manifest", "rofs"):
        pair = [by_name.get(f"{kind}-{slot}") for slot in SLOT_NAMES]
        sizes = {partition.size for partition in pair if partition is not None}
        if len(sizes) > 1:
            table.problem("partition", f"{kind}-a and {kind}-b differ in size; an update must fit in both")
    env = by_name.get("u-boot-env")
    if env is not None and env.size < 2 * ERASE_BLOCK:
        table.problem("partition", f"u-boot-env is smaller than its two copies, {2 * ERASE_BLOCK:#x} bytes")
    loader = by_name.get("u-boot")
    if loader is not None and loader.offset != 0:
        table.problem("partition", "u-boot is not at offset 0, where the SoC starts")


def _gpios(root: Table, soc: Soc) -> tuple[Gpio, ...]:
    found: list[Gpio] = []
    names: set[str] = set()
    lines: set[str] = set()
    for entry in root.tables("gpio"):
        name = entry.text("name", GPIO_NAME, GPIO_MEANING)
        banks = f"{soc.gpio_banks[0]}0 to {soc.gpio_banks[-1]}{soc.gpios_per_bank - 1}"
        line = entry.text("line", r"[A-Z][0-9]", f"a line from {banks}")
        offset = gpio_number(soc, line)
        if line and offset is None:
            entry.problem("line", f"{line!r} is not allowed; expected a line from {banks}")
        gpio = Gpio(
            name=name,
            line=line,
            offset=offset or 0,
            direction=entry.choice("direction", ("input", "output")),
            active_low=entry.choice("active", ("low", "high")) == "low",
            pull=entry.choice("pull", ("up", "down", "none")),
        )
        if entry.close():
            _unique(entry, "name", gpio.name, names)
            _unique(entry, "line", gpio.line, lines)
            found.append(gpio)
    return tuple(found)


def _i2c(root: Table, soc: Soc, emulator: Emulator, gpios: dict[str, Gpio]) -> tuple[I2cBus, ...]:
    found: list[I2cBus] = []
    numbers: set[int] = set()
    roles: set[str] = set()
    device_names: set[str] = set()
    sensor_names: set[str] = set()
    faults: set[str] = set()
    for entry in root.tables("i2c"):
        number = entry.integer("bus", 0, soc.i2c_buses - 1, form="d")
        role = entry.text("role", SLUG, SLUG_MEANING)
        owner = entry.choice("owner", ("bmc", "host"))
        frequency = entry.integer("frequency", 10_000, 1_000_000, default=100_000, form="d")
        taken = {
            address: "the emulated machine" for bus, address in MACHINES[emulator.machine] if bus == number
        }
        devices: list[Device] = []
        for device_entry in entry.tables("device"):
            device = _device(device_entry, gpios, sensor_names, faults)
            if device is None:
                continue
            _unique(device_entry, "name", device.name, device_names)
            if device.address in taken:
                device_entry.problem(
                    "address",
                    f"{device.address:#x} on bus {number} already belongs to {taken[device.address]}",
                )
            taken[device.address] = device.name
            devices.append(device)
        if entry.close():
            _unique(entry, "bus", number, numbers)
            _unique(entry, "role", role, roles)
            found.append(I2cBus(number, role, owner, frequency, tuple(devices)))
    return tuple(found)


def _device(entry: Table, gpios: dict[str, Gpio], sensor_names: set[str], faults: set[str]) -> Device | None:
    emulator = entry.table("emulator")
    emulator_type = emulator.text("type", SLUG, "a QEMU device type, such as tmp105")
    options = emulator.scalars("options")
    for name in ("bus", "address", "id"):
        if name in options:
            emulator.problem(f"options.{name}", "is set from the device's own keys")
    emulator_ok = emulator.close()
    sensors: list[Sensor] = []
    channels: set[str] = set()
    for sensor_entry in entry.tables("sensor"):
        sensor = _sensor(sensor_entry, gpios)
        if sensor is None:
            continue
        _unique(sensor_entry, "name", sensor.name, sensor_names)
        _unique(sensor_entry, "channel", sensor.channel, channels)
        if sensor.fault is not None:
            _unique(sensor_entry, "fault", sensor.fault, faults)
        sensors.append(sensor)
    device = Device(
        name=entry.text("name", SLUG, SLUG_MEANING),
        address=entry.integer("address", I2C_FIRST, I2C_LAST),
        compatible=entry.text("compatible", COMPATIBLE, COMPATIBLE_MEANING),
        domain=entry.choice("domain", ("standby", "host")),
        emulator_type=emulator_type,
        emulator_options=frozen_mapping(options),
        sensors=tuple(sensors),
    )
    return device if entry.close() and emulator_ok else None


def _sensor(entry: Table, gpios: dict[str, Gpio]) -> Sensor | None:
    channel = entry.text("channel", CHANNEL, CHANNEL_MEANING)
    kind = channel.rstrip("0123456789")
    is_fan = kind == "fan"
    sensor = Sensor(
        name=entry.text("name", SENSOR_NAME, SENSOR_MEANING),
        channel=channel,
        unit=CHANNEL_UNITS.get(kind, ""),
        property=entry.text("property", PROPERTY, "a QOM property, such as pout[0]", default="") or None,
        scale=entry.number("scale", 1e-6, 1e6, default=1.0),
        pwm=entry.text("pwm", r"pwm[1-9][0-9]?", "a hwmon fan control, such as pwm1", default="") or None,
        fault=entry.choice("fault", list(gpios) or ["(no GPIO)"], default="") or None if is_fan else None,
    )
    if not is_fan and sensor.pwm is not None:
        entry.problem("pwm", f"only a fan has it, {channel} does not")
    if sensor.fault and sensor.fault in gpios and gpios[sensor.fault].direction != "input":
        entry.problem("fault", f"{sensor.fault} is an output; expected an input")
    return sensor if entry.close() else None


def _unique(entry: Table, key: str, value: object, seen: set[Any]) -> None:
    if value in seen:
        entry.problem(key, f"{value!r} is used twice")
    seen.add(value)
