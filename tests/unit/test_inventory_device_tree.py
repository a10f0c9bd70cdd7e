# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from dbus_fast import Variant
from hypothesis import given
from hypothesis import strategies as st

from fleet_inventory.device_tree import ROOT, Identity, parse, read

_X1 = {
    "model": b"Fleet X1 BMC\0",
    "compatible": b"fleet,x1-bmc\0aspeed,ast2600\0",
    "serial-number": b"X1-0001\0",
}


@pytest.mark.parametrize(
    ("properties", "identity"),
    [
        (_X1, Identity("Fleet X1 BMC", "X1-0001", ("fleet,x1-bmc", "aspeed,ast2600"))),
        ({}, Identity("", "", ())),
        ({"model": b"", "compatible": b"", "serial-number": b"\0"}, Identity("", "", ())),
        ({"model": b"no end"}, Identity("no end", "", ())),
        ({"model": b"one\0two\0"}, Identity("one", "", ())),
        ({"model": b"\xff\xfe!\0"}, Identity("��!", "", ())),
        ({"model": "Größe\0".encode()}, Identity("Größe", "", ())),
        ({"compatible": b"\0a,b\0\0c\0"}, Identity("", "", ("a,b", "c"))),
    ],
)
def test_parse(properties: dict[str, bytes], identity: Identity) -> None:
    assert parse(properties) == identity


@pytest.mark.parametrize(
    ("compatible", "manufacturer"),
    [
        ((), ""),
        (("fleet,x1-bmc", "aspeed,ast2600"), "fleet"),
        (("noprefix", "aspeed,ast2600"), ""),
        ((",odd",), ""),
        (("a,b,c",), "a"),
    ],
)
def test_manufacturer_is_the_vendor_prefix(compatible: tuple[str, ...], manufacturer: str) -> None:
    assert Identity(compatible=compatible).manufacturer == manufacturer


@given(st.dictionaries(st.sampled_from(sorted(_X1)), st.binary(max_size=80)))
def test_any_bytes_become_strings_that_dbus_takes(properties: dict[str, bytes]) -> None:
    identity = parse(properties)
    for text in (identity.model, identity.serial_number, identity.manufacturer, *identity.compatible):
        assert "\0" not in text
        text.encode()
    Variant("as", list(identity.compatible))


def test_read_takes_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(_X1["model"])
    (tmp_path / "name").write_bytes(b"\0")
    (tmp_path / "serial-number").mkdir()
    assert read(tmp_path) == {"model": _X1["model"]}
    assert read(tmp_path / "gone") == {}


def test_the_kernels_tree_is_the_default() -> None:
    """The path is the kernel's ABI: Documentation/ABI/testing/sysfs-firmware-ofw."""
    assert Path("/sys/firmware/devicetree/base") == ROOT
