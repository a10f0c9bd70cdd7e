# SPDX-License-Identifier: Apache-2.0
"""How long a board takes from power on to D-Bus and SSH, where the time goes, and what is in use then.

FLEET_BOOTS sets how often it boots (20), FLEET_DEPLOY another folder of a built image.
"""

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from fabric import Connection

from board_harness import boot, ssh
from board_harness.qemu import QemuBoard
from figures import Report

MACHINE = "fleet-x1"
BOOTS = int(os.environ.get("FLEET_BOOTS") or 20)
MIB = 1 << 20

# Parts of a boot, and the moment at which each ends. The first begins at power on.
PARTS = {
    "QEMU": "SPL",
    "SPL": "U-Boot",
    "U-Boot": "kernel",
    "kernel": "systemd",
    "systemd and services": "ssh",
}


def parts(times: Mapping[str, float]) -> dict[str, float]:
    """How long each part of a boot took, in seconds."""
    moments = [0.0, *(times[moment] for moment in PARTS.values())]
    return dict(zip(PARTS, (end - start for start, end in pairwise(moments)), strict=True))


def service_starts(connection: Connection, clock_zero: float) -> dict[str, float]:
    """When the bus and each component was ready, in seconds since power on."""
    ours = ssh.run(connection, "grep -l fleet_bmc_common /usr/lib/systemd/system/*.service").split()
    units = " ".join(["dbus.service", *(Path(unit).name for unit in ours)])
    shown = ssh.run(connection, f"systemctl show -p Id -p ActiveEnterTimestampMonotonic {units}")
    units_shown = shown.strip().split("\n\n")
    fields = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in units_shown]
    starts = {unit["Id"]: int(unit["ActiveEnterTimestampMonotonic"]) for unit in fields}
    # 0: started only when somebody asks
    return {unit: clock_zero + start / 1e6 for unit, start in starts.items() if start}


def memory_in_use(connection: Connection) -> float:
    """What is not available any more, in MiB."""
    info = dict(line.split(":") for line in ssh.run(connection, "cat /proc/meminfo").splitlines())
    return (int(info["MemTotal"].split()[0]) - int(info["MemAvailable"].split()[0])) / 1024


def memory_of_components(connection: Connection) -> float:
    """Their proportional set sizes (proc(5), smaps_rollup), in MiB."""
    files = "$(grep -ls '^/usr/bin/python3.*fleet_bmc_common' /proc/[0-9]*/cmdline)"
    script = f"for file in {files}; do grep -s ^Pss: ${{file%cmdline}}smaps_rollup; done"
    return sum(int(line.split()[1]) for line in ssh.run(connection, script).splitlines()) / 1024


def test_boot(report: Report, deploy: Path, tmp_path: Path) -> None:
    board = QemuBoard.start(deploy / f"{MACHINE}.flash.img", tmp_path)
    boots: list[boot.Boot] = []
    services: list[dict[str, float]] = []
    memory: list[float] = []
    components: list[float] = []
    try:
        for _ in range(BOOTS):
            board.power_off()
            board.power_on()
            result, connection = boot.follow(board)
            with connection:
                services.append(service_starts(connection, result.clock_zero))
                memory.append(memory_in_use(connection))
                components.append(memory_of_components(connection))
                assert components[-1] > 0
            boots.append(result)
    finally:
        board.close()
    both = list(zip(boots, services, strict=True))
    first = [max(result.times["ssh"], starts["dbus.service"]) for result, starts in both]
    report.add_median("power on to D-Bus and SSH", first, "s", 15)
    report.add_median(
        "power on to all components ready", [max(starts.values()) for starts in services], "s", 18
    )
    for part in PARTS:
        report.add_median(f"  {part}", [parts(result.times)[part] for result in boots], "s")
    for unit in sorted(set.intersection(*map(set, services))):  # some start in the first boot only
        report.add_median(f"  {unit} ready at", [starts[unit] for starts in services], "s")
    report.add_median("power on to the answer that all units run", [b.times["running"] for b in boots], "s")
    report.add_median("memory in use after boot, components included", memory, "MiB")
    report.add_median("  components", components, "MiB", 60)
    system = [all_ - part for all_, part in zip(memory, components, strict=True)]
    report.add_median("  system", system, "MiB", 60)
    broken = [result for result in boots if not result.clean]
    report.add(f"boots not clean on two processors, of {BOOTS}", len(broken), "", 0)
    assert broken == []


def test_slot(report: Report, deploy: Path) -> None:
    sizes = {name: (deploy / name).stat().st_size / MIB for name in ("fitImage", "rofs.img")}
    report.add("flash used by a slot", sum(sizes.values()), "MiB", 30)
    for name, size in sizes.items():
        report.add(f"  {name}", size, "MiB")
