# SPDX-License-Identifier: Apache-2.0
"""The files around each component's program agree: recipe, unit, policy, users, package, lists."""

import configparser
import hashlib
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
COMPONENTS = sorted(path.parent.name for path in RECIPES.glob("*/*.bb"))
SERVICES = sorted(path.parents[1].name for path in RECIPES.glob("*/files/*.service"))
USERS = tomllib.loads((ROOT / "meta-fleet/distro/rootfs/users.toml").read_text())["users"]

# Most that each unit may be exposed, by systemd-analyze's score in tenths; 0 is best, 100 worst.
EXPOSURE = {
    "accounts": 10,
    "acpi-state": 20,
    "event-log": 10,
    "host-power": 10,
    "inventory": 10,
    "ipmi": 10,
    "mapper": 10,
}

# Names that a service owns beside its unit's BusName.
MORE_NAMES = {"host-power": ["xyz.openbmc_project.State.Chassis"]}

# Services that do not run as a user of their own.
ROOT_SERVICES = {"acpi-state"}


def recipe(name: str) -> str:
    return (RECIPES / name / f"{name}_0.1.bb").read_text()


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(RECIPES / name / "files" / f"{name}.service")
    return parser


def policy(name: str) -> ET.Element:
    return ET.parse(RECIPES / name / "files" / f"{unit(name)['Service']['BusName']}.conf").getroot()


def bus_names(name: str) -> set[str]:
    """The names that a service may own: the one that its unit waits for, and others that come with it."""
    return {rule.attrib["own"] for entry in policy(name) for rule in entry if rule.get("own")}


def test_components_are_found() -> None:
    assert {"bmc-common", "inventory"} <= set(COMPONENTS)
    assert set(SERVICES) == set(COMPONENTS) - {"bmc-common"} == set(EXPOSURE)


@pytest.mark.parametrize("name", COMPONENTS)
def test_recipe_names_files_and_licence_that_are_there(name: str) -> None:
    files = RECIPES / name / "files"
    named = set(re.findall(r"file://([^\s;\"]+)", recipe(name)))
    assert named == {path.name for path in files.iterdir()}
    digest = re.search(r"md5=([0-9a-f]{32})", recipe(name))
    assert digest
    assert hashlib.md5((files / "LICENSE").read_bytes()).hexdigest() == digest[1]
    assert (files / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("name", COMPONENTS)
def test_package_is_complete_and_known_to_the_tools(name: str) -> None:
    files = RECIPES / name / "files"
    package = "fleet_" + name.replace("-", "_")
    project = tomllib.loads((files / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["packages"] == [package]
    assert project["project"]["name"] == f"fleet-{name}"
    folders = [path for path in (files / package).iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert folders == []
    tools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    path = f"recipes/{name}/files"
    for paths in (
        tools["pytest"]["ini_options"]["pythonpath"],
        tools["ruff"]["src"],
        tools["mypy"]["mypy_path"],
    ):
        assert path in paths
    assert f"| `{name}` |" in (RECIPES / "README.md").read_text()


@pytest.mark.parametrize("name", COMPONENTS)
def test_no_component_imports_another(name: str) -> None:
    own = {"fleet_" + name.replace("-", "_"), "fleet_bmc_common"}
    for module in (RECIPES / name / "files").glob("*/*.py"):
        found = set(re.findall(r"^\s*(?:from|import) (fleet_\w+)", module.read_text(), re.M))
        assert found <= own, module


@pytest.mark.parametrize("name", SERVICES)
def test_unit_policy_and_user_table_name_the_same(name: str) -> None:
    service = unit(name)["Service"]
    assert service["User"] == ("root" if name in ROOT_SERVICES else f"fleet-{name}")
    assert service["ExecStart"] == f"/usr/bin/python3 -I -m fleet_bmc_common fleet_{name.replace('-', '_')}"
    owners = {entry.get("user") for entry in policy(name) if any(rule.get("own") for rule in entry)}
    assert owners == {service["User"]}
    assert bus_names(name) == {service["BusName"], *MORE_NAMES.get(name, ())}
    if name in ROOT_SERVICES:
        assert service["CapabilityBoundingSet"] == ""
        return
    assert service["User"] in USERS
    assert f"--user-group {service['User']}" in recipe(name)


@pytest.mark.parametrize("name", SERVICES)
def test_policy_allows_everybody_no_more_than_to_read(name: str) -> None:
    rules = [rule for entry in policy(name) if entry.get("context") for rule in entry]
    assert {rule.tag for rule in rules} == {"allow"}
    assert {rule.get("send_destination") for rule in rules} == bus_names(name)
    standard = "org.freedesktop.DBus."
    for bus_name in bus_names(name):
        members = {
            (rule.get("send_interface"), rule.get("send_member"))
            for rule in rules
            if rule.get("send_destination") == bus_name
        }
        assert {
            (standard + "Properties", "Get"),
            (standard + "Properties", "GetAll"),
            (standard + "ObjectManager", "GetManagedObjects"),
            (standard + "Introspectable", "Introspect"),
            (standard + "Peer", None),
        } <= members
        for interface, member in members:
            assert interface
            assert interface == standard + "Peer" or (member or "").startswith(("Get", "Read", "Introspect"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", SERVICES)
def test_unit_is_hardened(name: str, tmp_path: Path) -> None:
    file = shutil.copy(RECIPES / name / "files" / f"{name}.service", tmp_path)
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE[name]}", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout
