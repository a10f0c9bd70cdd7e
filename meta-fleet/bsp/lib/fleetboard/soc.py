# SPDX-License-Identifier: Apache-2.0
"""What a board file may refer to: facts of the SoC and of the emulator, as tables.

Sources: the kernel's arch/arm/boot/dts/aspeed/aspeed-g6.dtsi (labels, aliases, GPIO count); QEMU's
hw/arm/aspeed_ast2600.c and hw/arm/aspeed.c (serial order, devices that are always there),
hw/misc/aspeed_sdmc.c (memory sizes), hw/block/m25p80.c (flash chips).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Soc:
    """Facts of one SoC. `uarts` maps label to (Linux tty number, QEMU -serial position)."""

    dtsi: str
    compatible: str
    memory_base: int
    memory_mib: tuple[int, ...]
    flash_mapped_at: int
    flash_window: int
    uarts: MappingProxyType[str, tuple[int, int]]
    macs: tuple[str, ...]
    mdios: tuple[str, ...]
    watchdogs: tuple[str, ...]
    kcs_channels: tuple[int, ...]
    i2c_buses: int
    gpio_banks: str
    gpios_per_bank: int


SOCS = MappingProxyType(
    {
        "ast2600": Soc(
            dtsi="aspeed-g6.dtsi",
            compatible="aspeed,ast2600",
            memory_base=0x8000_0000,
            memory_mib=(256, 512, 1024, 2048),
            flash_mapped_at=0x2000_0000,
            flash_window=0x1000_0000,
            # QEMU gives its first -serial to the BMC's console, uart5, then counts from uart1.
            uarts=MappingProxyType(
                {"uart1": (0, 1), "uart2": (1, 2), "uart3": (2, 3), "uart4": (3, 4), "uart5": (4, 0)}
            ),
            macs=("mac0", "mac1", "mac2", "mac3"),
            mdios=("mdio0", "mdio1", "mdio2", "mdio3"),
            watchdogs=("wdt1", "wdt2", "wdt3", "wdt4"),
            kcs_channels=(1, 2, 3, 4),
            i2c_buses=16,
            gpio_banks="ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            gpios_per_bank=8,
        )
    }
)

# Size in bytes of the flash chips that QEMU knows and a board may carry.
FLASH_MODELS = MappingProxyType(
    {
        "mx66u51235f": 64 << 20,
        "w25q512jv": 64 << 20,
        "mx66l1g45g": 128 << 20,
        "mt25ql01g": 128 << 20,
        "mt25qu02g": 256 << 20,
    }
)

# Machine -> I2C addresses (bus, address) that the machine itself occupies.
MACHINES: MappingProxyType[str, frozenset[tuple[int, int]]] = MappingProxyType(
    {"ast2600-evb": frozenset({(7, 0x50), (8, 0x4D)})}
)

# hwmon channel kind -> unit of the sensor's value.
CHANNEL_UNITS = MappingProxyType({"temp": "degC", "power": "W", "curr": "A", "in": "V", "fan": "RPM"})


def gpio_number(soc: Soc, line: str) -> int | None:
    """Return the number of line `A0`…`Z7` on the first GPIO chip, None if there is no such line."""
    bank, digits = line[:1], line[1:]
    if len(bank) != 1 or bank not in soc.gpio_banks or len(digits) != 1 or not digits.isascii():
        return None
    if not digits.isdigit() or int(digits) >= soc.gpios_per_bank:
        return None
    return soc.gpio_banks.index(bank) * soc.gpios_per_bank + int(digits)
