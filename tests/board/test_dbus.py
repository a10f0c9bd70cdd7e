# SPDX-License-Identifier: Apache-2.0
"""Who owns what on the bus: the table of docs/dbus.md against the running board."""

import fnmatch
import json
import re
from pathlib import Path

import pytest
from fabric import Connection

from board_harness import ssh
from board_harness.shared import Shell

TABLE = Path(__file__).resolve().parents[2] / "docs" / "dbus.md"
STANDARD = "org.freedesktop.DBus."
ITEM = "xyz.openbmc_project.Inventory.Item"

# On the board: every object of every service of ours, as [bus name, unit, path, interfaces].
_OBJECTS = """
import json, subprocess
from xml.etree import ElementTree

def busctl(*words):
    return subprocess.run(["busctl", *words], capture_output=True, text=True, check=True).stdout

found = []
for entry in json.loads(busctl("--json=short", "list", "--acquired")):
    name = entry["name"]
    if name.startswith(("xyz.openbmc_project.", "io.metafleet.")):
        for path in busctl("--list", "tree", name).split():
            xml = busctl("--xml-interface", "introspect", name, path)
            interfaces = [node.get("name") for node in ElementTree.fromstring(xml).iter("interface")]
            found.append([name, entry["unit"], path, interfaces])
print(json.dumps(found))
"""


def owners() -> list[tuple[str, str, str]]:
    """Object pattern, interface and service of each row."""
    text = re.search(r"<!-- table: owners -->(.*?)<!-- end -->", TABLE.read_text(), re.S)
    assert text
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in text[1].split("\n")
        if "|" in line
    ]
    return [(path, interface, service) for path, interface, service, _ in rows[2:]]


@pytest.fixture
def bmc(shell: Shell) -> Connection:
    return shell.connection


def test_the_bus_is_what_the_table_says(bmc: Connection) -> None:
    call = "busctl call xyz.openbmc_project.Logging /xyz/openbmc_project/logging io.metafleet.EventLog"
    ssh.run(bmc, f'{call} Append "ssa{{ss}}ay" "test of the table" Debug 0 0')
    mapper = "xyz.openbmc_project.ObjectMapper"
    question = f"{mapper} /xyz/openbmc_project/object_mapper {mapper} GetSubTreePaths sias / 0 1 {ITEM}"
    answer = json.loads(ssh.run(bmc, f"busctl --json=short call {question}"))  # the bus starts the mapper
    assert answer["data"] == [["/xyz/openbmc_project/inventory/system/board/bmc"]]
    ssh.run(
        bmc, "busctl call xyz.openbmc_project.User.Manager / org.freedesktop.DBus.Peer Ping"
    )  # starts accounts
    table = owners()
    seen = set()
    for _, unit, path, interfaces in json.loads(ssh.python(bmc, _OBJECTS)):
        for interface in interfaces:
            if interface.startswith(STANDARD):
                continue
            rows = [row for row in table if fnmatch.fnmatch(path, row[0]) and row[1] == interface]
            assert [row[2] for row in rows] == [unit.removesuffix(".service")], (
                f"{interface} at {path} by {unit}"
            )
            seen.update(rows)
    assert seen == set(table), "the table has what the bus has not"
