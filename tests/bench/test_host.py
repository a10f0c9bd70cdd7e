# SPDX-License-Identifier: Apache-2.0
"""What the services of the host's power cost, and how fast they answer the host.

FLEET_TRANSACTIONS sets how often the host asks (200), FLEET_DEPLOY another folder of a built image.
"""

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fabric import Connection

from board_harness import boot, ssh
from board_harness.qemu import QemuBoard
from figures import Report
from fleet_cli import timeline
from fleet_cli.bmc import ACPI, Bmc, last

TRANSACTIONS = int(os.environ.get("FLEET_TRANSACTIONS") or 200)
IDLE_SECONDS = 60
SERVICES = ("acpi-state", "host-power", "event-log", "ipmi", "accounts")

GET_DEVICE_ID = bytes.fromhex("1801")
SET = {"S2_D2": bytes.fromhex("18068282"), "S0_G0_D0": bytes.fromhex("18068080")}

# On the board: proportional set size of a process, in KiB (proc(5), smaps_rollup).
_PSS = "awk '/^Pss:/ {{print $2}}' /proc/$(systemctl show -P MainPID {0})/smaps_rollup"
_START_ACCOUNTS = "busctl introspect xyz.openbmc_project.User.Manager /xyz/openbmc_project/user > /dev/null"


@pytest.fixture(scope="module")
def board(deploy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QemuBoard]:
    board = QemuBoard.start(deploy / "fleet-x1.flash.img", tmp_path_factory.mktemp("boards"))
    try:
        yield board
    finally:
        board.close()


@pytest.fixture(scope="module")
def bmc(board: QemuBoard) -> Iterator[Connection]:
    """The BMC, with the host in its operating system."""
    _, connection = boot.follow(board)
    with connection:
        timeline.carry_out(Bmc(board.emulated), "on", boot.BOOT_SECONDS, print)
        yield connection


def percentile(values: list[float], part: float) -> float:
    """The value that `part` (0 to 1) of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def cpu_seconds(connection: Connection) -> dict[str, float]:
    """What each service has used of a processor since it started."""
    return {
        name: int(ssh.run(connection, f"systemctl show -P CPUUsageNSec {name}")) / 1e9 for name in SERVICES
    }


def test_services_at_rest(report: Report, bmc: Connection) -> None:
    ssh.run(bmc, _START_ACCOUNTS)
    sizes = {name: int(ssh.run(bmc, _PSS.format(name))) / 1024 for name in SERVICES}
    report.add("memory of the five services", sum(sizes.values()), "MiB", 60)
    for name, size in sizes.items():
        report.add(f"  {name}", size, "MiB")
    time.sleep(5)  # what the start of accounts has set in motion is over
    before = cpu_seconds(bmc)
    time.sleep(IDLE_SECONDS)
    after = cpu_seconds(bmc)
    used = {name: 100 * (after[name] - before[name]) / IDLE_SECONDS for name in SERVICES}
    report.add("the five services at rest, of one processor", sum(used.values()), "%", 5)
    for name, share in used.items():
        report.add(f"  {name}", share, "%")


def test_the_host_is_answered(report: Report, board: QemuBoard, bmc: Connection) -> None:
    assert bmc
    spent = []
    for _ in range(TRANSACTIONS):
        started = time.monotonic()
        assert board.emulated.host_ipmi(GET_DEVICE_ID)[2] == 0
        spent.append(1000 * (time.monotonic() - started))
    report.add("a KCS transaction, median", statistics.median(spent), "ms", 60)
    report.add("  99 of 100 within", percentile(spent, 0.99), "ms")


def test_a_state_is_on_the_bus(report: Report, board: QemuBoard, bmc: Connection) -> None:
    """From the host's first byte to the signal on the bus.

    The board's clock, whose seconds are longer than ours, is compared with ours by the arrival of the signals
    here over SSH; what the fastest of them took is in each figure.
    """
    assert bmc
    began, signalled, arrived, answered = [], [], [], []
    states = list(SET)
    with Bmc(board.emulated).monitor(ACPI.path) as monitor:
        for number in range(TRANSACTIONS):
            state = states[number % 2]
            started = time.monotonic()
            reached = None
            answer = board.emulated.host_ipmi(SET[state])
            answered.append(1000 * (time.monotonic() - started))
            assert answer[2] == 0
            while reached is None:
                change = monitor.next(boot.BOOT_SECONDS)
                assert change, f"no {state} on the bus"
                if last(str(change.values.get("SysACPIStatus", ""))) == state:
                    reached = change.time
                    arrived.append(change.arrived)
            began.append(started)
            signalled.append(reached)
    rate, _ = statistics.linear_regression(signalled, arrived)
    offset = min(here - rate * there for here, there in zip(arrived, signalled, strict=True))
    spent = [1000 * (rate * there + offset - start) for start, there in zip(began, signalled, strict=True)]
    report.add("a second of the board's clock", 1000 * rate, "ms")
    report.add("from the host's word to the bus, 99 of 100 within", percentile(spent, 0.99), "ms", 150)
    report.add("  median", statistics.median(spent), "ms")
    for first, state in enumerate(states):
        report.add(f"  {state} answered after, median", statistics.median(answered[first::2]), "ms")
