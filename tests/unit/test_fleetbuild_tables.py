# SPDX-License-Identifier: Apache-2.0
"""The tables in meta-fleet/core/lock belong together: names.toml, seeds.toml and packages.json."""

from pathlib import Path

import pytest

from fleetbuild import indexes, lock, names
from fleetbuild.lock import Lock, Seeds


@pytest.fixture(scope="module")
def have() -> Lock:
    return lock.load()


@pytest.fixture(scope="module")
def seeds() -> Seeds:
    return lock.load_seeds()


@pytest.mark.parametrize("group", lock.GROUPS)
def test_the_lock_holds_what_the_seeds_ask_for_and_no_more(group: str, have: Lock, seeds: Seeds) -> None:
    closure = {entry.name for entry in have.closure(group, seeds.wanted(group))}
    assert closure == set(have.groups[group])


@pytest.mark.parametrize("group", lock.GROUPS)
def test_nothing_excluded_is_locked(group: str, have: Lock, seeds: Seeds) -> None:
    assert not set(seeds.exclude[group]) & set(have.groups[group])


@pytest.mark.parametrize("group", lock.GROUPS)
def test_every_package_is_of_the_architecture_of_its_group(group: str, have: Lock) -> None:
    for entry in have.groups[group].values():
        assert entry.architecture in {"all", indexes.ARCHITECTURES[group]}
        version = entry.version.split(":")[-1]
        assert Path(entry.filename).name == f"{entry.name}_{version}_{entry.architecture}.deb"


def test_every_source_of_the_seeds_is_locked(have: Lock, seeds: Seeds) -> None:
    assert set(have.sources) == set(seeds.sources)
    for name, wish in seeds.sources.items():
        files = [Path(file.filename).name for file in have.sources[name].files]
        if "package" in wish:
            assert [file.split("_")[0] for file in files] == [wish["package"]]
        else:
            assert any(".orig.tar." in file for file in files)
            assert any(".debian.tar." in file for file in files)


def test_every_debian_name_of_the_names_table_is_wanted_of_the_image(seeds: Seeds) -> None:
    debian = {package for packages in names.table().values() for package in packages}
    assert debian <= set(seeds.wanted("target"))


@pytest.mark.parametrize("name", names.provided())
def test_every_name_of_the_names_table_resolves(name: str, have: Lock) -> None:
    packages, recipes = names.to_debian([name])
    assert recipes == []
    assert set(packages) <= {entry.name for entry in have.closure("target", packages)}


def test_byte_code_of_the_build_is_what_the_board_runs(have: Lock) -> None:
    native, target = (have.groups[group]["python3.11"].version for group in lock.GROUPS)
    assert native.split("-")[0] == target.split("-")[0]


def test_the_fate_of_the_security_suite_is_told_for_every_architecture(have: Lock) -> None:
    assert set(have.security) == set(indexes.ARCHITECTURES.values())
    for group, architecture in indexes.ARCHITECTURES.items():
        if not have.security[architecture].startswith("verified"):
            assert {entry.archive for entry in have.groups[group].values()} == {"debian"}


def test_the_lock_is_as_the_tool_writes_it(have: Lock) -> None:
    assert lock.dump(have) == (lock.LOCK_DIR / "packages.json").read_text()
