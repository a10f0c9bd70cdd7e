# SPDX-License-Identifier: Apache-2.0
"""The SEL and sensor data records."""

import pytest

from fleet_ipmi.outside import LogInfo, StorageError
from ipmi_fake import FakeBmc, Host

RECORD = "00 00 02 00 00 00 00 20 00 04 22 50 6f 05 ff ff"
PROGRESS = "00 00 02 00 00 00 00 01 00 04 0f 51 6f c2 01 ff"


@pytest.fixture
def bmc() -> FakeBmc:
    return FakeBmc()


@pytest.fixture
def host(bmc: FakeBmc) -> Host:
    return Host(bmc)


# --- SEL ---


@pytest.mark.parametrize(
    ("info", "answer"),
    [
        (LogInfo(0, 0, 4096, 0, 0), "00 51 00 00 ff ff ff ff ff ff ff ff ff ff 0b"),
        (LogInfo(3, 4, 6, 1_000_999, 2_000_000), "00 51 03 00 20 00 e8 03 00 00 d0 07 00 00 0b"),
        (LogInfo(70_000, 9, 6, 1_000, 2_000), "00 51 ff ff 00 00 01 00 00 00 02 00 00 00 0b"),
    ],
)
def test_info(host: Host, bmc: FakeBmc, info: LogInfo, answer: str) -> None:
    bmc.info = info
    assert host.ask("0a 40") == answer


def test_allocation_info(host: Host, bmc: FakeBmc) -> None:
    bmc.info = LogInfo(3, 96, 4096, 0, 0)
    assert host.ask("0a 41") == "00 00 10 10 00 a0 0f a0 0f 01"


def test_add_and_get(host: Host, bmc: FakeBmc) -> None:
    for number in ("01 00", "02 00"):
        assert host.ask("0a 44" + RECORD) == "00 " + number
    kept = RECORD[6:]
    assert host.ask("0a 43 00 00 00 00 00 ff") == "00 02 00 01 00 " + kept
    assert host.ask("0a 43 00 00 ff ff 00 ff") == "00 ff ff 02 00 " + kept
    assert host.ask("0a 43 00 00 01 00 00 03") == "00 02 00 01 00 02"
    assert host.ask("0a 43 00 00 05 00 00 ff") == "cb"
    bmc.error = StorageError("flash")
    assert host.ask("0a 44" + RECORD) == "ff"


def test_a_part_of_an_entry_needs_the_reservation(host: Host, bmc: FakeBmc) -> None:
    bmc.records = {1: bytes(range(16))}
    assert host.ask("0a 43 00 00 01 00 0a 04") == "c5"
    assert host.ask("0a 42") == "00 01 00"
    assert host.ask("0a 43 01 00 01 00 0a 04") == "00 ff ff 0a 0b 0c 0d"
    assert host.ask("0a 43 01 00 01 00 0e ff") == "00 ff ff 0e 0f"
    assert host.ask("0a 43 01 00 01 00 0e 08") == "00 ff ff 0e 0f"
    assert host.ask("0a 43 01 00 01 00 10 01") == "c9"


def test_an_empty_log(host: Host) -> None:
    for number in ("00 00", "ff ff"):
        assert host.ask(f"0a 43 00 00 {number} 00 ff") == "cb"


@pytest.mark.parametrize("kind", ["00", "01", "03", "bf"])
def test_types_of_records_that_there_are_not(host: Host, bmc: FakeBmc, kind: str) -> None:
    assert host.ask(f"0a 44 00 00 {kind}" + "00" * 13) == "cc"
    assert bmc.asked == []


@pytest.mark.parametrize("kind", ["02", "c0", "e0", "ff"])
def test_types_of_records(host: Host, kind: str) -> None:
    assert host.ask(f"0a 44 00 00 {kind}" + "00" * 13) == "00 01 00"


def test_progress_of_the_firmware_is_told(host: Host, bmc: FakeBmc) -> None:
    assert host.ask("0a 44" + PROGRESS) == "00 01 00"
    assert bmc.stages == ["MemoryInit"]


def test_delete(host: Host, bmc: FakeBmc) -> None:
    bmc.records = {1: bytes(16), 2: bytes(16)}
    assert host.ask("0a 46 00 00 01 00") == "c5"
    assert host.ask("0a 42") == "00 01 00"
    assert host.ask("0a 46 01 00 09 00") == "cb"
    assert host.ask("0a 46 01 00 00 00") == "00 01 00"
    assert list(bmc.records) == [2]
    assert host.ask("0a 46 01 00 02 00") == "c5", "the log is not as it was"


def test_clear(host: Host, bmc: FakeBmc) -> None:
    bmc.records = {1: bytes(16)}
    assert host.ask("0a 47 00 00 43 4c 52 aa") == "c5"
    assert host.ask("0a 42") == "00 01 00"
    for wrong in ("43 4c 53 aa", "43 4c 52 ab"):
        assert host.ask("0a 47 01 00" + wrong) == "cc"
    assert bmc.asked == []
    assert host.ask("0a 47 01 00 43 4c 52 aa") == "00 01"
    assert (bmc.asked, bmc.records) == ([("clear",)], {})
    assert host.ask("0a 47 01 00 43 4c 52 00") == "00 01", "whether it is done"
    assert bmc.asked == [("clear",)]


def test_what_came_after_the_reservation_is_not_cleared_unseen(host: Host, bmc: FakeBmc) -> None:
    assert host.ask("0a 42") == "00 01 00"
    assert host.ask("0a 44" + RECORD) == "00 01 00"
    assert host.ask("0a 47 01 00 43 4c 52 aa") == "c5"
    assert list(bmc.records) == [1]


def test_time(host: Host, bmc: FakeBmc) -> None:
    bmc.clock = 0x12345678
    assert host.ask("0a 48") == "00 78 56 34 12"
    assert host.ask("0a 49 01 00 00 70") == "00"
    assert bmc.asked == [("time", str(0x70000001))]
    assert host.ask("0a 49 01") == "c7"


# --- Sensor data records ---


def test_repository(host: Host) -> None:
    assert host.ask("0a 20") == "00 51 02 00 00 00 ff ff ff ff ff ff ff ff 02"
    assert host.ask("0a 22") == "00 01 00"
    header = host.ask("0a 23 00 00 00 00 00 05")
    assert header == "00 02 00 01 00 51 02 26"
    whole = bytes.fromhex(host.ask("0a 23 00 00 01 00 00 ff"))
    assert len(whole) == 3 + 5 + 0x26
    assert whole.endswith(b"ACPI_STATUS")
    assert host.ask("0a 23 01 00 01 00 07 01") == "00 02 00 50"
    assert host.ask("0a 23 02 00 01 00 07 01") == "c5"
    for number in ("02 00", "ff ff"):
        assert bytes.fromhex(host.ask(f"0a 23 00 00 {number} 00 ff")).endswith(b"FW_PROGRESS")
    assert host.ask("0a 23 00 00 03 00 00 ff") == "cb"
    assert host.ask("0a 23 01 00 01 00 60 01") == "c9"
