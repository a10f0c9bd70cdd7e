# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest

import fleetboard
from fleet_qemu import machine
from fleet_qemu.board import DEFAULT_BOARD_FILE

BOARD = fleetboard.load(DEFAULT_BOARD_FILE)


def command(**changes: object) -> list[str]:
    values: dict[str, object] = {
        "qemu": "qemu-system-arm",
        "number": 0,
        "ports": {},
        "qmp_fd": 7,
        "qtest_fd": 8,
        "log_fd": 9,
    }
    return machine.command(BOARD, **{**values, **changes})  # type: ignore[arg-type]


def options(argv: list[str], name: str) -> list[str]:
    return [value for flag, value in itertools.pairwise(argv) if flag == name]


def test_every_device_of_the_board_file_is_there_once_with_its_id() -> None:
    devices = options(command(), "-device")
    assert len(devices) == len(list(BOARD.devices()))
    for bus, device in BOARD.devices():
        wanted = f"{device.emulator_type},id={device.name},bus=aspeed.i2c.bus.{bus.number}"
        assert [d for d in devices if d.startswith(f"{wanted},address={device.address:#x}")], wanted


def test_device_options_are_passed_on() -> None:
    assert [d for d in options(command(), "-device") if "id=fru," in d and d.endswith(",rom-size=8192")]


def test_serial_ports_are_in_the_order_of_the_board_file() -> None:
    serials = options(command(), "-serial")
    assert serials[BOARD.console_bmc.emulator_serial] == f"chardev:{machine.BMC_CONSOLE}"
    assert serials[BOARD.console_host.emulator_serial] == f"chardev:{machine.HOST_CONSOLE}"


def test_consoles_are_logged_over_power_cycles() -> None:
    ptys = [c for c in options(command(), "-chardev") if c.startswith("pty,")]
    assert len(ptys) == 2
    assert all("logfile=" in c and c.endswith("logappend=on") for c in ptys)


def test_only_loopback_is_forwarded_and_unnamed_ports_are_chosen_by_the_kernel() -> None:
    (nic,) = options(command(ports={"ssh": 2222}), "-nic")
    forwards = [part for part in nic.split(",") if part.startswith("hostfwd=")]
    assert len(forwards) == len(BOARD.network.forwards)
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in forwards
    assert "hostfwd=udp:127.0.0.1:0-:623" in forwards
    assert all(":127.0.0.1:" in forward for forward in forwards)


def test_no_path_but_the_programs_is_absolute() -> None:
    assert [word for word in command()[1:] if "/" in word] == ["/dev/fd/9"]


@pytest.mark.parametrize(
    ("number", "mac"),
    [(0, "02:f1:ee:00:00:00"), (1, "02:f1:ee:00:00:01"), (0x012345, "02:f1:ee:01:23:45")],
)
def test_each_board_has_a_mac_of_its_own(number: int, mac: str) -> None:
    assert machine.mac_address(number) == mac
    assert f"mac={mac}" in options(command(number=number), "-nic")[0]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright", (7, 2)),
        ("QEMU emulator version 10.0.2", (10, 0)),
        ("something else 7.2", None),
        ("", None),
    ],
)
def test_version(text: str, version: tuple[int, int] | None) -> None:
    assert machine.parse_version(text) == version


def test_pty() -> None:
    chardevs = [
        {"label": "qmp", "filename": "fd:7", "frontend-open": True},
        {"label": "bmc-console", "filename": "pty:/dev/pts/4", "frontend-open": True},
    ]
    assert machine.parse_pty(chardevs, "bmc-console") == "/dev/pts/4"
    for label in ("qmp", "absent"):
        with pytest.raises(KeyError):
            machine.parse_pty(chardevs, label)
