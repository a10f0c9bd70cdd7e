# SPDX-License-Identifier: Apache-2.0
"""The files around the program agree with each other: recipe, unit, policy, users, package."""

import configparser
import hashlib
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from fleet_inventory import tables

ROOT = Path(__file__).parents[2]
COMPONENTS = {"bmc-common": "fleet_bmc_common", "inventory": "fleet_inventory"}
FILES = ROOT / "recipes/inventory/files"


def _unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(FILES / "inventory.service")
    return unit


@pytest.mark.parametrize("name", COMPONENTS)
def test_recipe_names_files_and_licence_that_are_there(name: str) -> None:
    folder = ROOT / "recipes" / name
    recipe = (folder / f"{name}_0.1.bb").read_text()
    for file in re.findall(r"file://([^\s;\"]+)", recipe):
        assert (folder / "files" / file).exists()
    digest = re.search(r"md5=([0-9a-f]{32})", recipe)
    assert digest
    assert hashlib.md5((folder / "files/LICENSE").read_bytes()).hexdigest() == digest[1]
    assert (folder / "files/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize(("name", "package"), COMPONENTS.items())
def test_package_is_complete(name: str, package: str) -> None:
    project = tomllib.loads((ROOT / "recipes" / name / "files/pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["packages"] == [package]
    files = ROOT / "recipes" / name / "files" / package
    assert not [path for path in files.iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_unit_policy_and_user_table_name_the_same() -> None:
    service = _unit()["Service"]
    assert service["BusName"] == tables.BUS_NAME
    policy = ET.parse(FILES / f"{tables.BUS_NAME}.conf").getroot()
    owners = {entry.get("user"): [rule.attrib for rule in entry] for entry in policy if entry.get("user")}
    assert owners == {service["User"]: [{"own": tables.BUS_NAME}]}
    users = tomllib.loads((ROOT / "meta-fleet/distro/rootfs/users.toml").read_text())["users"]
    assert users[service["User"]]["uid"] == 200
    assert f"--user-group {service['User']}" in (ROOT / "recipes/inventory/inventory_0.1.bb").read_text()


def test_policy_allows_reading_and_no_more() -> None:
    policy = ET.parse(FILES / f"{tables.BUS_NAME}.conf").getroot()
    rules = [rule for entry in policy if entry.get("context") for rule in entry]
    assert {(rule.tag, rule.get("send_destination")) for rule in rules} == {("allow", tables.BUS_NAME)}
    standard = "org.freedesktop.DBus."
    assert {(rule.get("send_interface"), rule.get("send_member")) for rule in rules} == {
        (standard + "Properties", "Get"),
        (standard + "Properties", "GetAll"),
        (standard + "ObjectManager", "GetManagedObjects"),
        (standard + "Introspectable", "Introspect"),
        (standard + "Peer", None),
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_unit_is_hardened(tmp_path: Path) -> None:
    unit = shutil.copy(FILES / "inventory.service", tmp_path)
    limit = 10  # tenths; 0.0 is the best score, 10.0 the worst
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={limit}", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout
