# SPDX-License-Identifier: Apache-2.0
"""What the host's software can do to the BMC, and processes on the BMC: right, wrong and malicious.

These tests share one board, whose host is in S0 before and after each.
"""

import json
import os
import random
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from board_harness import boot, power, ssh
from board_harness.bus import SECONDS
from board_harness.cycles import KINDS, POWER_ON, S0, S2, S5, acpi_offsets, other
from board_harness.power import LOGIN, Host
from board_harness.protocol import IpmitoolError
from board_harness.shared import Boards
from fleet_cli.bmc import ACPI, CHASSIS, HOST, HOST_POWER, PROPERTIES, Address

SEED = int(os.environ.get("FLEET_SEED") or 1)
IPMI = Address("xyz.openbmc_project.Ipmi.Host", "/xyz/openbmc_project/Ipmi", "io.metafleet.Ipmi")
SERVICES = ("acpi-state", "host-power", "ipmi", "event-log")
CONTRADICTED = "io.metafleet.AcpiState.Contradicted"

GET_ACPI = bytes.fromhex("18 07")
SAY_S0, SAY_S2 = bytes.fromhex("18 06 80 80"), bytes.fromhex("18 06 82 82")
OK = 0x00


@pytest.fixture(scope="module")
def started(boards: Boards) -> Iterator[Host]:
    board = boards.start()
    host = power.start(board)
    assert host.run(POWER_ON)[1] == []
    yield host
    host.close()
    boards.end(board)


@pytest.fixture
def host(started: Host) -> Host:
    """The host in S0, whatever the test before has left."""
    started.up()
    return started


def code(host: Host, request: bytes) -> int:
    """The completion code of the answer, which must be one to this request."""
    answer = host.board.host_ipmi(request)
    assert answer[:2] == bytes((request[0] | 4, request[1])), answer.hex()
    return answer[2]


def counters(host: Host) -> tuple[int, int]:
    """Requests, and those that were refused."""
    (values,) = host.bmc.values(IPMI)
    return values["Requests"], values["Refused"]


def restarts(host: Host) -> dict[str, int]:
    """How often systemd has started each service again."""
    lines = host.shell(f"systemctl show -p NRestarts {' '.join(SERVICES)}").split()
    return dict(zip(SERVICES, (int(line.partition("=")[2]) for line in lines), strict=True))


# --- stock ipmitool ---


def test_ipmitool_knows_the_bmc(host: Host) -> None:
    info = host.board.ipmitool("mc", "info")
    for line in ("IPMI Version              : 2.0", "Device Available          : yes", "    SEL Device"):
        assert line in info
    status = host.board.ipmitool("chassis", "status")
    assert "System Power         : on" in status
    assert "Power Control Fault  : false" in status


def test_ipmitool_and_dbus_agree_on_the_acpi_state(host: Host) -> None:
    before = host.status()
    assert before["acpi"] == S0
    assert host.board.ipmitool("raw", "6", "7").split() == ["00", "00"]
    last = host.last_entry()
    assert host.board.ipmitool("raw", "6", "6", "0x80", "0x80").split() == []
    assert host.status() == before
    assert host.last_entry() == last, "a state that was so already is no event"
    with pytest.raises(IpmitoolError, match="Invalid command"):
        host.board.ipmitool("raw", "6", "0x55")


def test_ipmitool_reads_and_clears_the_sel(host: Host) -> None:
    listed = host.board.ipmitool("sel", "elist")
    for line in (
        "System ACPI Power State ACPI_STATUS | S2: sleeping, processor context lost | Asserted",
        "System ACPI Power State ACPI_STATUS | S0/G0: working | Asserted",
        "System Firmwares FW_PROGRESS | Memory initialization | Asserted",
    ):
        assert line in listed
    host.board.ipmitool("sel", "clear")
    assert host.board.ipmitool("sel", "elist").strip() == ""
    assert host.entries() == []
    host.board.ipmitool("event", "1")
    (line,) = host.board.ipmitool("sel", "elist").strip().splitlines()
    assert "Temperature #0x30 | Upper Critical going high | Asserted" in line
    assert host.status()["acpi"] == S0


# --- wrong requests ---

WRONG = {
    "18 06": 0xC7,
    "18 06 80": 0xC7,
    "18 06 80 80 80": 0xC7,
    "18 01 00": 0xC7,
    "18 01" + " 00" * 250: 0xC7,
    "10 02": 0xC7,
    "10 02 41 04 12": 0xC7,
    "28 44 00 00": 0xC7,
    "18 55": 0xC1,
    "b8 01": 0xC1,
    "18 06 8b 80": 0xC9,  # no such state
    "18 06 80 85": 0xC9,  # devices cannot be in S5
    "00 02 0f": 0xCC,  # no such chassis control
}


def test_wrong_requests_get_their_code(host: Host) -> None:
    before, (requests, refused) = host.status(), counters(host)
    # Less than a command is against KCS (9.8): the BMC's driver aborts it, and the next one is answered.
    with pytest.raises(Exception, match="aborted by command"):
        host.board.host_ipmi(b"\x18")
    assert {text: code(host, bytes.fromhex(text)) for text in WRONG} == WRONG
    after = counters(host)
    assert after[0] - requests == len(WRONG)
    assert after[1] - refused == sum(value in (0xC1, 0xC7) for value in WRONG.values())
    assert host.status() == before


# What a random request must not be, because it would do what it says.
_POWERFUL = {(0x00, 0x02), (0x06, 0x06)}
_KNOWN_NETFNS = (0x00, 0x04, 0x06, 0x0A)


def random_requests(count: int) -> Iterator[bytes]:
    chance = random.Random(SEED)
    while count:
        netfn = chance.choice(_KNOWN_NETFNS) if chance.random() < 0.7 else chance.randrange(64)
        command = chance.choice(
            (chance.randrange(0x10), 0x20 + chance.randrange(0x30), chance.randrange(256))
        )
        if (netfn & 0x3E, command) not in _POWERFUL:
            length = chance.choice((0, 1, 2, 6, 8, 16, chance.randrange(64)))
            yield bytes((netfn << 2 | chance.randrange(4), command)) + chance.randbytes(length)
            count -= 1


def test_random_requests_are_answered(host: Host) -> None:
    before, started_again, (requests, refused) = host.status(), restarts(host), counters(host)
    codes = [code(host, request) for request in random_requests(200)]
    assert OK in codes, "none reached a command"
    after = counters(host)
    assert after[0] - requests == len(codes)
    assert after[1] - refused >= codes.count(0xC1) > 0
    assert restarts(host) == started_again
    assert host.board.ipmitool("raw", "6", "7").split() == ["00", "00"]
    now = host.status()
    assert now == before | {"boot_progress": now["boot_progress"]}  # a random event may be one of progress


# --- a host that says odd things ---


def test_a_host_that_repeats_itself(host: Host) -> None:
    last, place = host.last_entry(), host.bus.seen
    assert {code(host, SAY_S2) for _ in range(50)} == {OK}
    host.wait_for_state(S2, place)
    assert code(host, SAY_S0) == OK
    host.wait_for_state(S0, place)
    boot.until(lambda: len(acpi_offsets(host.entries(last))) >= 2, "both states are in the SEL", SECONDS)
    assert acpi_offsets(host.entries(last)) == (2, 0)


def test_a_host_that_lies_about_its_power(host: Host) -> None:
    place = host.bus.seen
    host.ask("off")
    host.wait_for_state(S5, place)
    host.board.host_wait("off", SECONDS)
    boot.until(lambda: acpi_offsets(host.entries())[-1:] == (5,), "S5 is in the SEL", SECONDS)
    last = host.last_entry()
    for _ in range(5):
        code(host, SAY_S0)
    status = host.status()
    assert (status["acpi"], status["contradicted"], status["host"]) == (S5, True, "Off")
    assert host.board.ipmitool("raw", "6", "7").split() == ["05", "03"]
    entries = host.entries(last)
    assert other(entries) == (CONTRADICTED,)
    assert acpi_offsets(entries) == ()
    place = host.bus.seen
    host.ask("on")
    host.wait_for_state(S0, place)
    host.board.host_wait("os", SECONDS, LOGIN)
    assert host.status()["contradicted"] is False


# --- D-Bus: who may, and what is taken ---

_AS_INVENTORY = """
import json, os, pwd, subprocess, sys
user = pwd.getpwnam("fleet-inventory")
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
done = [subprocess.run(words, capture_output=True, text=True) for words in json.loads(sys.argv[1])]
print(json.dumps([[one.returncode, one.stdout + one.stderr] for one in done]))
"""


def dbus_send(address: Address, member: str, *arguments: str) -> list[str]:
    """Words for dbus-send, which tells errors by their names."""
    call = f"{PROPERTIES}.{member}"
    to = ["dbus-send", "--system", "--print-reply", f"--dest={address.service}", address.path]
    return [*to, call, f"string:{address.interface}", *arguments]


def put(address: Address, name: str, value: str) -> list[str]:
    return dbus_send(address, "Set", f"string:{name}", f"variant:{value}")


def test_a_process_without_rights_may_read_only(host: Host) -> None:
    reads = [dbus_send(address, "GetAll") for address in (ACPI, HOST, CHASSIS, HOST_POWER)]
    writes = [
        put(ACPI, "SysACPIStatus", f"string:{ACPI.interface}.ACPI.{S5}"),
        put(CHASSIS, "RequestedPowerTransition", f"string:{CHASSIS.interface}.Transition.Off"),
        put(HOST, "RequestedHostTransition", f"string:{HOST.interface}.Transition.Off"),
    ]
    before = host.status()
    words = shlex.quote(json.dumps(reads + writes))
    answers = json.loads(host.shell(f"python3 -I -c {shlex.quote(_AS_INVENTORY)} {words}"))
    for status, text in answers[: len(reads)]:
        assert status == 0, text
    assert S0 in answers[0][1]
    for status, text in answers[len(reads) :]:
        assert status != 0
        assert "org.freedesktop.DBus.Error.AccessDenied" in text
    assert host.status() == before


def test_wrong_values_are_refused(host: Host) -> None:
    before, started_again = host.status(), restarts(host)
    for address, name in (
        (ACPI, "SysACPIStatus"),
        (ACPI, "DevACPIStatus"),
        (CHASSIS, "RequestedPowerTransition"),
        (HOST, "RequestedHostTransition"),
    ):
        for value in ("uint32:4", "string:Off"):
            words = shlex.join(put(address, name, value))
            with pytest.raises(ssh.CommandError, match=r"org\.freedesktop\.DBus\.Error\.InvalidArgs"):
                host.shell(words)
    assert host.status() == before
    assert restarts(host) == started_again


# --- services that die ---


# And wait until it runs again, with pauses: the emulated processors have enough to do.
_KILL = """
kill -9 $(systemctl show -P MainPID {service})
until test "$(systemctl show -P NRestarts -P ActiveState {service} | sort | xargs)" = "{restarts} active"
do sleep 1; done
"""


def stayed_up(host: Host, since: int) -> None:
    """The host has not been touched: no state left, nothing driven."""
    for event in host.board.host_events()[since:]:
        assert event["event"] not in ("state", "hears"), event


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_killed(host: Host, service: str) -> None:
    before, last, done = host.status(), host.last_entry(), len(host.board.host_events())
    count = restarts(host)[service]
    host.shell(_KILL.format(service=service, restarts=count + 1), SECONDS)
    allowed: dict[str, Any] = {"source": "Restored"} if service == "acpi-state" else {}
    boot.until(lambda: host.status() == before | allowed, f"all is as it was: {before}", SECONDS)
    assert host.board.ipmitool("raw", "6", "7").split() == ["00", "00"]
    entries = host.entries(last)
    assert acpi_offsets(entries) == ()
    assert other(entries) == ()
    stayed_up(host, done)


# --- a full flash ---

_FILL = """
dd if=/dev/urandom of=/var/fill bs=64k 2> /dev/null
test "$(df -k /var | awk 'END { print $4 }')" -lt 64
"""
_REFUSED = "events are refused until it can be written again"


def test_a_full_flash(host: Host) -> None:
    said = f"journalctl -b -u event-log --no-pager | grep -c {shlex.quote(_REFUSED)} || true"
    before, started_again = int(host.shell(said)), restarts(host)
    try:
        host.shell(_FILL, SECONDS)
        record, wrong = host.run(KINDS["cycle"], logged=False)
        assert wrong == []
        is_refused = record.sel != KINDS["cycle"].sel
        assert int(host.shell(said)) == before + is_refused
        assert restarts(host) == started_again
    finally:
        host.shell("rm -f /var/fill; sync")
    assert host.run(KINDS["reset"])[1] == []
    assert restarts(host) == started_again
