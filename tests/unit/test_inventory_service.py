# SPDX-License-Identifier: Apache-2.0
"""The service as shipped (program, policy) on a private system bus."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from dbus_harness import PATIENCE, CallError, PrivateBus, Service

NAME = "xyz.openbmc_project.Inventory.Manager"
ROOT = "/xyz/openbmc_project/inventory"
BMC = "/xyz/openbmc_project/inventory/system/board/bmc"
ITEM = "xyz.openbmc_project.Inventory.Item"
ASSET = "xyz.openbmc_project.Inventory.Decorator.Asset"
COMPATIBLE = "xyz.openbmc_project.Inventory.Decorator.Compatible"
PROPERTIES = "org.freedesktop.DBus.Properties"

# As in the unit file, less -I: the packages are not installed here.
LAUNCH = ["-m", "fleet_bmc_common", "fleet_inventory"]
POLICY = Path(__file__).parents[2] / f"recipes/inventory/files/{NAME}.conf"

# What phosphor-dbus-interfaces defines and a device tree can tell.
EXPECTED: dict[str, dict[str, tuple[str, Any]]] = {
    ITEM: {"Present": ("b", True), "PrettyName": ("s", "Fleet X1 BMC")},
    ITEM + ".Bmc": {},
    ASSET: {
        "Manufacturer": ("s", "fleet"),
        "Model": ("s", "Fleet X1 BMC"),
        "SerialNumber": ("s", "X1-0001"),
        "PartNumber": ("s", ""),
        "SparePartNumber": ("s", ""),
        "SubModel": ("s", ""),
        "BuildDate": ("s", ""),
    },
    COMPATIBLE: {"Names": ("as", ["fleet,x1-bmc", "aspeed,ast2600"])},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device-tree")
    (folder / "model").write_bytes(b"Fleet X1 BMC\0")
    (folder / "compatible").write_bytes(b"fleet,x1-bmc\0aspeed,ast2600\0")
    (folder / "serial-number").write_bytes(b"X1-0001\0")
    return folder


@pytest.fixture(scope="module")
def bus(tree: Path) -> Iterator[PrivateBus]:
    """A bus with the shipped policy, and the ready service on it."""
    with PrivateBus([POLICY], users={"fleet-inventory": os.getuid()}) as bus:
        with Service([*LAUNCH, str(tree)], bus.address) as service:
            service.wait_for("READY=1")
            yield bus
            assert service.stop() == 0
        assert not bus.owner(NAME)


def test_every_property_with_its_type(bus: PrivateBus) -> None:
    for interface, properties in EXPECTED.items():
        (values,) = bus.call(NAME, BMC, PROPERTIES, "GetAll", "s", interface)
        assert values == {name: Variant(*value) for name, value in properties.items()}
        for name, value in properties.items():
            assert bus.call(NAME, BMC, PROPERTIES, "Get", "ss", interface, name) == [Variant(*value)]


def test_object_manager_shows_the_same(bus: PrivateBus) -> None:
    (objects,) = bus.call(NAME, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    expected = {
        interface: {name: Variant(*value) for name, value in properties.items()}
        for interface, properties in EXPECTED.items()
    }
    assert objects == {BMC: expected}


@pytest.mark.parametrize(
    ("path", "interface", "member", "signature", "body", "error"),
    [
        (BMC, PROPERTIES, "Get", "ss", [ITEM, "Colour"], "UnknownProperty"),
        (
            BMC,
            PROPERTIES,
            "Get",
            "ss",
            [ITEM + ".Fan", "Present"],
            "UnknownInterface",
        ),
        (ROOT + "/system/board/gpu", PROPERTIES, "GetAll", "s", [ITEM], "UnknownObject"),
        (BMC, PROPERTIES, "Set", "ssv", [ITEM, "Present", Variant("b", False)], "AccessDenied"),
        (ROOT, NAME, "Notify", "", [], "AccessDenied"),
    ],
)
def test_errors(
    bus: PrivateBus, path: str, interface: str, member: str, signature: str, body: list[Any], error: str
) -> None:
    with pytest.raises(CallError) as caught:
        bus.call(NAME, path, interface, member, signature, *body)
    assert caught.value.name == "org.freedesktop.DBus.Error." + error


def test_properties_are_read_only_even_without_the_policy(tree: Path) -> None:
    with (
        PrivateBus(open_to_all=True) as bus,
        Service([*LAUNCH, str(tree)], bus.address) as service,
    ):
        service.wait_for("READY=1")
        for interface, properties in EXPECTED.items():
            for name, value in properties.items():
                with pytest.raises(CallError, match=r"org\.freedesktop\.DBus\.Error\.PropertyReadOnly"):
                    bus.call(NAME, BMC, PROPERTIES, "Set", "ssv", interface, name, Variant(*value))


def test_no_other_user_gets_the_name(tree: Path) -> None:
    with (
        PrivateBus([POLICY], users={"fleet-inventory": os.getuid() + 1}) as bus,
        Service([*LAUNCH, str(tree)], bus.address) as service,
    ):
        status, errors = service.end()
        assert status == 1
        assert re.fullmatch(rf"the bus does not let user {os.geteuid()} own {NAME}; .*\n", errors)


def test_device_tree_without_properties(tmp_path: Path) -> None:
    with (
        PrivateBus([POLICY], users={"fleet-inventory": os.getuid()}) as bus,
        Service([*LAUNCH, str(tmp_path)], bus.address) as service,
    ):
        service.wait_for("READY=1")
        assert bus.call(NAME, BMC, PROPERTIES, "Get", "ss", ITEM, "PrettyName") == [Variant("s", "")]
        assert bus.call(NAME, BMC, PROPERTIES, "Get", "ss", COMPATIBLE, "Names") == [Variant("as", [])]


def test_no_device_tree(bus: PrivateBus, tmp_path: Path) -> None:
    with Service([*LAUNCH, str(tmp_path / "gone")], bus.address) as service:
        assert service.end() == (1, f"there is no device tree at {tmp_path}/gone\n")


@pytest.mark.skipif(shutil.which("busctl") is None, reason="busctl (package systemd) is not installed")
def test_busctl(bus: PrivateBus) -> None:
    def busctl(*arguments: str) -> str:
        command = ["busctl", f"--address={bus.address}", "--no-pager", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout

    assert BMC in busctl("tree", "--list", NAME).splitlines()
    lines = [line.split() for line in busctl("introspect", NAME, BMC).splitlines()]
    assert [".Present", "property", "b", "true", "emits-change"] in lines
    assert [ITEM + ".Bmc", "interface", "-", "-", "-"] in lines
    assert busctl("get-property", NAME, BMC, COMPATIBLE, "Names") == 'as 2 "fleet,x1-bmc" "aspeed,ast2600"\n'
    assert "org.freedesktop.DBus.ObjectManager" in busctl("introspect", NAME, ROOT)
