# SPDX-License-Identifier: Apache-2.0
"""The mapper's questions, over a snapshot."""

import pytest

from fleet_mapper import index

SNAPSHOT = {
    "a.Fans": {"/x/fans": ["Manager"], "/x/fans/one": ["Fan", "Item"], "/x/fans/one/rotor": ["Rotor"]},
    "a.Items": {"/x/fans/one": ["Item", "Asset"], "/x/items": ["Item"], "/x": ["Root"]},
}


def test_owners() -> None:
    assert index.owners(SNAPSHOT, "/x/fans/one") == {"a.Fans": ["Fan", "Item"], "a.Items": ["Asset", "Item"]}
    assert index.owners(SNAPSHOT, "/x/fans/one", ["Fan", "Other"]) == {"a.Fans": ["Fan", "Item"]}
    assert index.owners(SNAPSHOT, "/x/fans/one", ["Other"]) == {}
    assert index.owners(SNAPSHOT, "/x/fan") == {}


@pytest.mark.parametrize(
    ("path", "depth", "wanted", "found"),
    [
        ("/", 0, [], ["/x", "/x/fans", "/x/fans/one", "/x/fans/one/rotor", "/x/items"]),
        ("/", 1, [], ["/x"]),
        ("/", 2, [], ["/x", "/x/fans", "/x/items"]),
        ("/x", 1, [], ["/x/fans", "/x/items"]),
        ("/x", 0, ["Item"], ["/x/fans/one", "/x/items"]),
        ("/x/fans", 1, ["Rotor"], []),
        ("/x/fan", 0, [], []),
    ],
)
def test_sub_tree(path: str, depth: int, wanted: list[str], found: list[str]) -> None:
    tree = index.sub_tree(SNAPSHOT, path, depth, wanted)
    assert list(tree) == found
    assert all(tree[other] == index.owners(SNAPSHOT, other, wanted) for other in found)


def test_ancestors() -> None:
    assert list(index.ancestors(SNAPSHOT, "/x/fans/one/rotor")) == ["/x/fans/one", "/x/fans", "/x"]
    assert list(index.ancestors(SNAPSHOT, "/x/fans/one/rotor", ["Root", "Fan"])) == ["/x/fans/one", "/x"]
    assert index.ancestors(SNAPSHOT, "/") == {}


@pytest.mark.parametrize(
    ("path", "there"), [("/", True), ("/x/fans", True), ("/x/fan", False), ("/y", False)]
)
def test_exists(path: str, there: bool) -> None:
    assert index.exists(SNAPSHOT, path) is there


def test_a_path_above_objects_exists() -> None:
    assert index.exists({"s": {"/a/b/c": ["I"]}}, "/a")
