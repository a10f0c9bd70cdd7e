# SPDX-License-Identifier: Apache-2.0
"""OpenEmbedded's names for Debian's packages; the table itself is checked in test_fleetbuild_tables.py."""

from pathlib import Path

import pytest

from fleetbuild import BuildError, names


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "names.toml"
    path.write_text(
        '[names]\nudev = ["udev"]\nsystemd = ["systemd", "udev"]\npython3-core = ["python3.11"]\n'
    )
    monkeypatch.setattr(names.table, "__defaults__", (path,))
    return path


def test_names_are_split_into_packages_and_recipes() -> None:
    assert names.to_debian(["systemd", "fleet-base", "alpha"]) == (
        ["systemd", "udev"],
        ["fleet-base", "alpha"],
    )
    assert names.to_debian(["udev", "python3-core", "udev"]) == (["python3.11", "udev"], [])


def test_no_names_are_no_packages() -> None:
    assert names.to_debian([]) == ([], [])


def test_provided_is_sorted() -> None:
    assert names.provided() == ["python3-core", "systemd", "udev"]


def test_a_change_of_the_table_is_seen(table: Path) -> None:
    assert names.to_debian(["kmod"]) == ([], ["kmod"])
    table.write_text('[names]\nkmod = ["kmod"]\n')
    assert names.to_debian(["kmod"]) == (["kmod"], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[names", "cannot read the table of names"),
        ("[other]\n", r"there is no \[names\]"),
        ('[names]\na = "b"\n', "a must be a list of names of Debian packages"),
        ("[names]\na = []\n", "a must be a list of names of Debian packages"),
        ("[names]\na = [1]\n", "a must be a list of names of Debian packages"),
    ],
)
def test_a_bad_table_is_named(text: str, message: str, table: Path) -> None:
    table.write_text(text)
    with pytest.raises(BuildError, match=message) as caught:
        names.provided()
    assert str(caught.value).startswith(f"{table}: ")


def test_a_missing_table_is_named(table: Path) -> None:
    table.unlink()
    with pytest.raises(BuildError, match=r"names\.toml: cannot read the table of names: .*No such file"):
        names.table()
