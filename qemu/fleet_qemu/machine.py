# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line for a board, and what QEMU says back, as pure functions.

File names are relative: QEMU runs in the board's folder, so neither the length of a checkout's path (that
of a socket may be 107 bytes) nor a comma in it (QEMU's option separator) matters.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet_qemu.ports import hostfwd
from fleetboard import Board
from fleetboard.model import Device, I2cBus

BMC_CONSOLE = "bmc-console"
HOST_CONSOLE = "host-console"


@dataclass(frozen=True)
class Files:
    """Names of what QEMU uses in its current folder."""

    flash: str = "flash.img"
    console_log: str = "console.log"
    host_log: str = "host.log"
    tools_socket: str = "qmp.sock"


FILES = Files()


def command(
    board: Board,
    *,
    qemu: str,
    number: int,
    ports: Mapping[str, int],
    qmp_fd: int,
    qtest_fd: int,
    log_fd: int,
    files: Files = FILES,
) -> list[str]:
    """Command line that starts the board paused (`-S`), without a window, listening on loopback only.

    `ports` names the host port of a service where a certain one is wanted; the kernel chooses the others.
    `qmp_fd` and `qtest_fd` are connected sockets that QEMU inherits, `log_fd` is a pipe for its log, which is
    empty unless trace events are switched on. A second QMP monitor listens on `files.tools_socket` for other
    people's tools.
    """
    argv = [
        qemu,
        *("-name", f"{board.name}-{number}"),
        *("-M", f"{board.emulator.machine},fmc-model={board.emulator.fmc_model}"),
        *("-m", f"{board.memory >> 20}M"),
        *("-display", "none", "-monitor", "none", "-S"),
        *("-drive", f"file={files.flash},format=raw,if=mtd"),
        *("-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=tools,path={files.tools_socket},server=on,wait=off"),
        *("-mon", "chardev=tools,mode=control"),
        *("-chardev", f"socket,id=qtest,fd={qtest_fd}", "-object", "qtest,id=qtest0,chardev=qtest,log=none"),
        *("-D", f"/dev/fd/{log_fd}", "-msg", "timestamp=on"),  # the latter is for trace events
        *("-nic", f"user,id=net0,mac={mac_address(number)},{hostfwd(board.network.forwards, ports)}"),
    ]
    # logfile: what no client of the pty has read is in the log all the same
    argv += ["-chardev", f"pty,id={BMC_CONSOLE},logfile={files.console_log},logappend=on"]
    argv += ["-chardev", f"pty,id={HOST_CONSOLE},logfile={files.host_log},logappend=on"]
    serials = {
        board.console_bmc.emulator_serial: BMC_CONSOLE,
        board.console_host.emulator_serial: HOST_CONSOLE,
    }
    for position in range(max(serials) + 1):
        argv += ["-serial", f"chardev:{serials[position]}" if position in serials else "null"]
    for bus, device in board.devices():
        argv += ["-device", _device(bus, device)]
    return argv


def _device(bus: I2cBus, device: Device) -> str:
    options = {
        "id": device.name,
        "bus": f"aspeed.i2c.bus.{bus.number}",
        "address": f"{device.address:#x}",
        **device.emulator_options,
    }
    return ",".join([device.emulator_type, *(f"{key}={_value(value)}" for key, value in options.items())])


def _value(value: int | str | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")


def mac_address(number: int) -> str:
    """MAC address of board `number`: locally administered, so that no vendor's address is used up."""
    return f"02:f1:ee:{number >> 16 & 0xFF:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}"


def parse_version(text: str) -> tuple[int, int] | None:
    """Major and minor version from the output of `qemu-system-arm --version`; None when it is not QEMU's."""
    match = re.search(r"QEMU emulator version (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def parse_pty(chardevs: Sequence[Mapping[str, Any]], label: str) -> str:
    """Path of the pty behind a character device, from the answer to QMP `query-chardev`; KeyError if none.

    QEMU 7.2 ignores `path=` of a pty, so this is the only way to know it. It changes with each power on.
    """
    for chardev in chardevs:
        if chardev["label"] == label:
            filename: str = chardev["filename"]
            if filename.startswith("pty:"):
                return filename.removeprefix("pty:")
    raise KeyError(label)
