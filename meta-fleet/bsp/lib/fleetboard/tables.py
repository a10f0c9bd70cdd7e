# SPDX-License-Identifier: Apache-2.0
"""The board as Markdown tables, for docs/board.md; a test holds the page against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleetboard.env import VARIABLES, render_env
from fleetboard.model import Board

NAMES = ("identity", "flash", "gpio", "i2c", "sensors", "environment")


def render(board: Board) -> dict[str, str]:
    """Return each table by its name."""
    return {
        "identity": _identity(board),
        "flash": _table(
            ("partition", "MTD", "offset", "size", "KiB"),
            (
                (f"`{p.name}`", str(p.index), f"{p.offset:#x}", f"{p.size:#x}", str(p.size >> 10))
                for p in board.flash.partitions
            ),
        ),
        "gpio": _table(
            ("name", "line", "number", "direction", "asserted", "pull"),
            (
                (f"`{g.name}`", g.line, str(g.offset), g.direction, "low" if g.active_low else "high", g.pull)
                for g in board.gpios
            ),
        ),
        "i2c": _table(
            ("bus", "role", "owner", "device", "address", "driver", "power", "bound by"),
            (
                (
                    str(bus.number),
                    bus.role,
                    bus.owner,
                    f"`{device.name}`",
                    f"{device.address:#04x}",
                    f"`{device.driver_name}`",
                    device.domain,
                    "kernel" if bus.probed_at_boot(device) else "sensor service",
                )
                for bus, device in board.devices()
            ),
        ),
        "sensors": _table(
            ("sensor", "unit", "device", "channel", "QOM property", "scale", "fan control", "fan fault"),
            (
                (
                    f"`{sensor.name}`",
                    sensor.unit,
                    f"`{device.name}`",
                    sensor.channel,
                    f"`{sensor.property}`" if sensor.property else "",
                    f"{sensor.scale:g}" if sensor.property else "",
                    sensor.pwm or "",
                    f"`{sensor.fault}`" if sensor.fault else "",
                )
                for _, device, sensor in board.sensors()
            ),
        ),
        "environment": _table(
            ("variable", "default", "meaning"),
            (
                (f"`{name}`", f"`{value}`" if len(value) < 16 else "", VARIABLES[name])
                for name, value in render_env(board).items()
            ),
        ),
    }


def _identity(board: Board) -> str:
    bmc, host = board.console_bmc, board.console_host
    rows = [
        ("machine name", f"`{board.name}`"),
        ("device tree", f"`{board.identity.compatible}`, {board.identity.model}"),
        ("SoC, memory", f"{board.soc}, {board.memory >> 20} MiB"),
        ("emulator", f"QEMU {'.'.join(map(str, board.emulator.min_version))} `{board.emulator.machine}`"),
        ("flash chip", f"`{board.emulator.fmc_model}`, {board.flash.size >> 20} MiB"),
        ("BMC console", f"{bmc.uart}, `{bmc.tty}`, {bmc.baud} baud"),
        ("host console", f"{host.uart}, `{host.tty}`, {host.baud} baud"),
        (
            "host interface",
            f"KCS {board.kcs.channel} at {board.kcs.io_address:#x}, `/dev/{board.kcs.device}`",
        ),
        ("watchdogs", ", ".join(f"{w.controller} ({w.role})" for w in board.watchdogs)),
        ("served ports", ", ".join(f"{f.name} {f.port}/{f.protocol}" for f in board.network.forwards)),
    ]
    return _table(("what", "value"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
