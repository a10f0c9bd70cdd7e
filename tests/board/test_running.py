# SPDX-License-Identifier: Apache-2.0
"""The booted system, looked at over SSH. These tests share one board and change nothing on it."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fabric import Connection

from board_harness import ssh
from board_harness.protocol import Board
from board_harness.shared import DAMAGED_AT, Shell

Record = Callable[[str, object], None]

MIB = 1 << 20
MEMORY_LIMIT = 60 * MIB  # of all but the components
COMPONENT_LIMIT = 16 * MIB  # of each component


@pytest.fixture
def bmc(shell: Shell) -> Connection:
    return shell.connection


# --- services ---


def test_no_unit_has_failed(shell: Shell, record_property: Record) -> None:
    first = shell.first_boot
    assert first
    record_property("boot_seconds", json.dumps(first.times))
    assert first.state == "running", f"failed units: {first.failed}"
    assert first.failed == []
    assert first.restarted == []


def test_both_processors_are_online(shell: Shell) -> None:
    assert shell.run("cat /sys/devices/system/cpu/online") == "0-1\n"


def test_bus_answers(shell: Shell) -> None:
    names = {line.split()[0] for line in shell.run("busctl list --no-legend --no-pager").splitlines()}
    assert {
        "org.freedesktop.DBus",
        "org.freedesktop.systemd1",
        "xyz.openbmc_project.Inventory.Manager",
    } <= names


def test_inventory_says_what_the_board_file_says(shell: Shell, board: Board) -> None:
    call = "call xyz.openbmc_project.Inventory.Manager /xyz/openbmc_project/inventory"
    method = "org.freedesktop.DBus.ObjectManager GetManagedObjects"
    (objects,) = json.loads(shell.run(f"busctl --json=short {call} {method}"))["data"]
    interfaces = objects["/xyz/openbmc_project/inventory/system/board/bmc"]
    values = {
        f"{interface.removeprefix('xyz.openbmc_project.Inventory.')}.{name}": value["data"]
        for interface, properties in interfaces.items()
        for name, value in properties.items()
    }
    identity = board.definition.identity
    assert values["Item.Present"] is True
    assert values["Item.PrettyName"] == values["Decorator.Asset.Model"] == identity.model
    assert values["Decorator.Asset.Manufacturer"] == identity.compatible.partition(",")[0]
    assert values["Decorator.Compatible.Names"][0] == identity.compatible


def test_the_console_hears_of_trouble_only(shell: Shell) -> None:
    """News would end up in the login prompt; the kernel's log has all."""
    assert shell.run("cut -f1 /proc/sys/kernel/printk").strip() == "5"
    assert "Link is Up" in shell.run("dmesg")


def test_the_clock_starts_at_the_date_of_the_image(shell: Shell, deploy: Path) -> None:
    built = json.loads((deploy / "flash-manifest.json").read_text())["timestamp"]
    now, uptime = (
        float(word) for word in shell.run("echo $(date +%s) $(cut -d' ' -f1 /proc/uptime)").split()
    )
    assert built <= now <= built + uptime + 1


# --- storage ---


def verity_root(data: bytes, salt: bytes, block: int) -> str:
    """Root hash of dm-verity's tree (kernel, admin-guide/device-mapper/verity.rst; SHA-256, version 1)."""

    def hashes(level: bytes) -> bytes:
        blocks = (level[at : at + block] for at in range(0, len(level), block))
        return b"".join(hashlib.sha256(salt + part.ljust(block, b"\0")).digest() for part in blocks)

    level = hashes(data)
    while len(level) > block:
        level = hashes(level)
    return hashes(level).hex()


def test_root_is_the_built_one_verified(shell: Shell, board: Board, deploy: Path) -> None:
    """The hash that the kernel was told, the one that dm-verity uses and that of the built image are one."""
    words = re.search(r'dm-mod\.create="rofs,,0,ro,([^"]+)"', shell.run("cat /proc/cmdline"))
    assert words
    told = words[1].split()
    table = shell.run("dmsetup table rofs").split()
    assert table == told
    start, sectors, kind, version, data, tree, data_block, hash_block = table[:8]
    blocks, tree_start, algorithm, root, salt = table[8:13]
    assert (start, kind, version, algorithm) == ("0", "verity", "1", "sha256")
    assert data == tree == f"31:{board.definition.flash.slot('a').rofs.index}"
    size = int(blocks) * int(data_block)
    assert int(sectors) * 512 == size
    assert data_block == hash_block
    assert blocks == tree_start
    built = (deploy / "rofs.img").read_bytes()
    assert root == verity_root(built[:size], bytes.fromhex(salt), int(data_block))
    assert shell.run("dmsetup status rofs").split()[-1] == "V"  # no block was found corrupt


def test_damaged_block_is_an_error_and_not_silently_read(shell: Shell, board: Board, deploy: Path) -> None:
    """Slot B is a copy of the root with one wrong byte: only the block with that byte is refused."""
    flash = board.definition.flash
    table = shell.run("dmsetup table rofs").strip()
    table = table.replace(f"31:{flash.slot('a').rofs.index}", f"31:{flash.slot('b').rofs.index}")
    block = DAMAGED_AT // 4096
    shell.run(f"dmsetup create damaged --readonly --noudevsync --noudevrules --table '{table}'")
    try:
        device = "/dev/dm-" + shell.run("dmsetup info --columns --noheadings -o minor damaged").strip()
        read = f"dd if={device} bs=4096 count=1 status=none"
        before = (deploy / "rofs.img").read_bytes()[(block - 1) * 4096 : block * 4096]
        good = shell.run(f"{read} skip={block - 1} | sha256sum").split()[0]
        assert good == hashlib.sha256(before).hexdigest()
        assert shell.run("dmsetup status damaged").split()[-1] == "V"
        assert "Input/output error" in shell.run(f"{read} skip={block} 2>&1 >/dev/null || true")
        assert shell.run("dmsetup status damaged").split()[-1] == "C"
    finally:
        shell.run("dmsetup remove --noudevsync --noudevrules damaged")
    assert f"data block {block} is corrupted" in shell.run("dmesg")


def test_root_is_read_only(shell: Shell) -> None:
    mounts = [line.split() for line in shell.run("cat /proc/mounts").splitlines()]
    root = [mount for mount in mounts if mount[1] == "/"]
    assert len(root) == 1
    assert root[0][0] in ("/dev/root", "/dev/dm-0")
    assert root[0][2] == "squashfs"
    assert "ro" in root[0][3].split(",")
    assert shell.run("touch /usr/new 2>&1 || true").strip().endswith("Read-only file system")
    assert shell.run("cat /sys/block/dm-0/ro").strip() == "1"


def test_var_is_writable_flash(shell: Shell) -> None:
    mount = shell.run("findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS /var").split()
    assert mount[:2] == ["mtd:rwfs", "jffs2"]
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(mount[2].split(","))
    assert shell.run("echo text > /var/lib/new && sync && cat /var/lib/new && rm /var/lib/new") == "text\n"


def test_flash_map_is_that_of_the_board_file(shell: Shell, board: Board) -> None:
    lines = shell.run("cat /proc/mtd").splitlines()[1:]
    found = {}
    for line in lines:
        device, size, _, name = line.split(maxsplit=3)
        index = int(device.removeprefix("mtd").rstrip(":"))
        found[name.strip('"')] = (index, int(size, 16))
    assert found == {part.name: (part.index, part.size) for part in board.definition.flash.partitions}
    offsets = shell.run("cd /sys/class/mtd; for d in mtd*[0-9]; do echo $(cat $d/name $d/offset); done")
    assert {tuple(line.split()) for line in offsets.splitlines()} == {
        (part.name, str(part.offset)) for part in board.definition.flash.partitions
    }


# --- watchdog ---


def test_systemd_feeds_the_watchdog(shell: Shell) -> None:
    """U-Boot starts it; were it left at that, the kernel would feed it and nobody would judge systemd."""
    settings = dict(
        line.split("=", 1)
        for line in shell.run("systemctl show -p RuntimeWatchdogUSec -p WatchdogDevice").splitlines()
    )
    assert settings == {"RuntimeWatchdogUSec": "1min", "WatchdogDevice": "/dev/watchdog0"}
    assert "/dev/watchdog0" in shell.run("cd /proc/1/fd; for fd in *; do readlink $fd; done").splitlines()


# --- identity and access ---


def test_host_key_is_the_provisioned_one(bmc: Connection, board: Board) -> None:
    assert bmc.transport
    shown = bmc.transport.get_remote_server_key()
    assert {shown.get_name(): shown} == ssh.host_keys(board)


# --- devices ---

# On the board: name of each line of each GPIO chip (linux/gpio.h, GPIO_GET_CHIPINFO and V2_GET_LINEINFO).
_GPIO_LINES = """
import fcntl, glob, json, struct
lines = {}
for path in glob.glob("/dev/gpiochip*"):
    with open(path, "rb") as chip:
        info = bytearray(68)
        fcntl.ioctl(chip, 0x8044B401, info)
        label, count = struct.unpack("32x32sI", info)
        for offset in range(count):
            line = bytearray(256)
            struct.pack_into("I", line, 64, offset)
            fcntl.ioctl(chip, 0xC100B405, line)
            name = line[:32].rstrip(bytes(1)).decode()
            if name:
                lines[name] = [label.rstrip(bytes(1)).decode(), offset]
print(json.dumps(lines))
"""


def test_gpio_names_are_those_of_the_board_file(bmc: Connection, board: Board) -> None:
    lines = json.loads(ssh.python(bmc, _GPIO_LINES))
    assert lines == {gpio.name: ["1e780000.gpio", gpio.offset] for gpio in board.definition.gpios}


def test_the_kernel_keeps_off_what_the_host_owns(shell: Shell, board: Board) -> None:
    """A device-tree node would make the kernel probe the device before any service could say no."""
    probed = {
        f"{bus.number}-{device.address:04x}"
        for bus, device in board.definition.devices()
        if bus.probed_at_boot(device)
    }
    present = set(shell.run("ls /sys/bus/i2c/devices").split())
    buses = {f"i2c-{bus.number}" for bus in board.definition.i2c}
    assert present == probed | buses
    for bus in board.definition.i2c:
        node = shell.run(f"readlink -f /sys/bus/i2c/devices/i2c-{bus.number}/of_node").strip()
        children = {name for name in shell.run(f"ls {node}").split() if "@" in name}
        expected = {f"{d.name}@{d.address:x}" for d in bus.devices if bus.probed_at_boot(d)}
        assert children == expected, f"bus {bus.number}"


def test_powered_devices_have_their_drivers(shell: Shell, board: Board) -> None:
    for bus, device in board.definition.devices():
        if bus.probed_at_boot(device):
            path = f"/sys/bus/i2c/devices/{bus.number}-{device.address:04x}/driver"
            assert shell.run(f"readlink {path} || true"), f"{device.name} has no driver"


# --- resources ---


# On the board: command line and proportional set size (KiB) of each component.
_COMPONENTS = """
for process in $(grep -l fleet_bmc_common /proc/[0-9]*/cmdline 2>/dev/null); do
    folder=${process%/cmdline}
    awk -v name="$(tr '\\0' ' ' < $process | cut -d' ' -f5)" '/^Pss:/ {print name, $2}' $folder/smaps_rollup
done
"""


def test_memory_in_use(shell: Shell, record_property: Record) -> None:
    """The system has its limit and the components have theirs: the system's is not for them to use up."""
    info = dict(line.split(":") for line in shell.run("cat /proc/meminfo").splitlines())
    used = (int(info["MemTotal"].split()[0]) - int(info["MemAvailable"].split()[0])) * 1024
    # The shell that runs this has the words in its command line, too.
    found = re.findall(r"^(fleet_\w+) (\d+)$", shell.run(_COMPONENTS), re.M)
    components = {name: int(size) * 1024 for name, size in found}
    record_property("memory_used_bytes", used)
    record_property("components_bytes", json.dumps(components))
    assert {"fleet_acpi_state", "fleet_host_power", "fleet_event_log", "fleet_ipmi"} <= set(components)
    assert used - sum(components.values()) <= MEMORY_LIMIT
    assert max(components.values()) <= COMPONENT_LIMIT


# --- accounts ---


def test_the_first_users_are_taken_over_at_once(shell: Shell) -> None:
    """What provisioning wrote has a password in plain text: nobody need ask for it to go."""
    shell.run("while test -e /var/lib/accounts/provision.json; do sleep 1; done")
    assert shell.run("ls /var/lib/accounts").split() == ["accounts.json", "key"]
    call = "xyz.openbmc_project.User.Manager /xyz/openbmc_project/user io.metafleet.Accounts IpmiUsers"
    # busctl's JSON has no words for numbers as keys.
    assert shell.run(f"busctl get-property {call}").strip() == 'a{qs} 1 1 "root"'
