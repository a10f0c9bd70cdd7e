# SPDX-License-Identifier: Apache-2.0
"""Device-tree source of a board, to be preprocessed and compiled in the kernel's dts folder.

Labels and bindings: the kernel's arch/arm/boot/dts/aspeed/aspeed-g6.dtsi and
Documentation/devicetree/bindings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fleetboard.model import SLOT_NAMES, Board, Device, I2cBus, Partition
from fleetboard.soc import SOCS, Soc

# Longest command line that the kernel keeps on ARM: COMMAND_LINE_SIZE less its end mark.
MAX_BOOTARGS = 1023

# The property that a driver needs beyond compatible and reg, by compatible.
DEVICE_PROPERTIES = {
    "atmel,24c64": ("pagesize = <32>;",),
}

Lines = Iterable[str]


def render(board: Board, slot: str, bootargs: str) -> str:
    """Return the device tree source for one slot; only /chosen/bootargs differs between slots.

    ValueError if there is no such slot or the command line is not one the kernel takes whole.
    """
    if slot not in SLOT_NAMES:
        raise ValueError(f"no slot {slot!r}; there are {', '.join(SLOT_NAMES)}")
    soc = SOCS[board.soc]
    body: list[str] = [
        "// SPDX-License-Identifier: Apache-2.0",
        f"// Generated from the board file of {board.name}, slot {slot}. Change that file, not this one.",
        "/dts-v1/;",
        "",
        f'#include "{soc.dtsi}"',
        *_node("/", _root(board, soc, bootargs)),
        *_okay(f"&{board.console_bmc.uart}"),
        *_okay(f"&{board.console_host.uart}"),
        *_okay(f"&{board.network.mdio}", _phy()),
        *_okay(f"&{board.network.mac}", _mac(board)),
        *_okay("&fmc", _flash(board)),
        *_okay(f"&kcs{board.kcs.channel}", [f"aspeed,lpc-io-reg = <{board.kcs.io_address:#x}>;"]),
        *_okay("&rtc"),
        *_node("&gpio0", _gpio_names(board, soc)),
        *_watchdogs(board, soc),
    ]
    for bus in board.i2c:
        body += _okay(f"&i2c{bus.number}", _bus(bus))
    return "\n".join(body) + "\n"


def _root(board: Board, soc: Soc, bootargs: str) -> Lines:
    yield f"model = {_string(board.identity.model)};"
    yield f"compatible = {_string(board.identity.compatible)}, {_string(soc.compatible)};"
    yield from _node("aliases", _aliases(board))
    yield from _node(
        "chosen",
        [f"stdout-path = &{board.console_bmc.uart};", f"bootargs = {_string(_checked(bootargs))};"],
    )
    yield from _node(
        f"memory@{soc.memory_base:x}",
        ['device_type = "memory";', f"reg = <{soc.memory_base:#x} {board.memory:#x}>;"],
    )


def _aliases(board: Board) -> Lines:
    """Pin every number that user space or the command line may rely on.

    The kernel takes MTD numbers from these aliases (drivers/mtd/mtdcore.c), so they do not depend on
    CONFIG_MTD_PARTITIONED_MASTER: the whole chip, where it is a device of its own, comes last.
    """
    yield f"ethernet0 = &{board.network.mac};"
    for console in (board.console_bmc, board.console_host):
        yield f"serial{console.tty.removeprefix('ttyS')} = &{console.uart};"
    for partition in board.flash.partitions:
        yield f"mtd{partition.index} = &{_label(partition)};"
    yield f"mtd{len(board.flash.partitions)} = &flash_bmc;"


def _phy() -> Lines:
    return _node("ethphy0: ethernet-phy@0", ['compatible = "ethernet-phy-ieee802.3-c22";', "reg = <0>;"])


def _mac(board: Board) -> Lines:
    return [
        f"phy-mode = {_string(board.network.phy_mode)};",
        "phy-handle = <&ethphy0>;",
        'pinctrl-names = "default";',
        f"pinctrl-0 = <&{board.network.pinctrl}>;",
    ]


def _flash(board: Board) -> Lines:
    partitions: list[str] = [
        'compatible = "fixed-partitions";',
        "#address-cells = <1>;",
        "#size-cells = <1>;",
    ]
    for partition in board.flash.partitions:
        partitions += _node(
            f"{_label(partition)}: partition@{partition.offset:x}",
            [f"label = {_string(partition.name)};", f"reg = <{partition.offset:#x} {partition.size:#x}>;"],
        )
    return _node(
        "flash_bmc: flash@0",
        [
            'status = "okay";',
            "m25p,fast-read;",
            'label = "bmc";',
            "spi-rx-bus-width = <4>;",
            "spi-max-frequency = <50000000>;",
            *_node("partitions", partitions),
        ],
    )


def _gpio_names(board: Board, soc: Soc) -> Lines:
    names = {gpio.offset: gpio.name for gpio in board.gpios}
    last_bank = max(names, default=-1) // soc.gpios_per_bank
    if last_bank < 0:
        return
    yield "gpio-line-names ="
    for bank in range(last_bank + 1):
        first = bank * soc.gpios_per_bank
        row = ", ".join(_string(names.get(first + line, "")) for line in range(soc.gpios_per_bank))
        yield f"\t/* {soc.gpio_banks[bank]} */ {row}{';' if bank == last_bank else ','}"


def _watchdogs(board: Board, soc: Soc) -> Lines:
    used = {watchdog.controller for watchdog in board.watchdogs}
    for controller in soc.watchdogs:
        # wdt1 is on unless it is switched off; the others are the other way round
        yield from _node(f"&{controller}", [f'status = "{"okay" if controller in used else "disabled"}";'])


def _bus(bus: I2cBus) -> Lines:
    yield f"bus-frequency = <{bus.frequency}>;"
    for device in bus.devices:
        if bus.probed_at_boot(device):
            yield from _node(f"{device.name}@{device.address:x}", _device(device))


def _device(device: Device) -> Lines:
    yield f"compatible = {_string(device.compatible)};"
    yield f"reg = <{device.address:#x}>;"
    yield from DEVICE_PROPERTIES.get(device.compatible, ())


def _okay(label: str, body: Lines = ()) -> Lines:
    return _node(label, ['status = "okay";', *body])


def _node(name: str, body: Lines) -> list[str]:
    return ["", f"{name} {{", *(f"\t{line}" if line else "" for line in body), "};"]


def _label(partition: Partition) -> str:
    return "mtd_" + partition.name.replace("-", "_")


def _checked(bootargs: str) -> str:
    if len(bootargs) > MAX_BOOTARGS:
        raise ValueError(f"the kernel command line has {len(bootargs)} bytes; at most {MAX_BOOTARGS} fit")
    if re.fullmatch(r"[\x20-\x7e]*", bootargs) is None:
        raise ValueError("the kernel command line may hold printable ASCII only")
    return bootargs


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
