# SPDX-License-Identifier: Apache-2.0
"""What ``yocto-check-layer`` asks of a layer, as far as it shows without OE-core; the overlay for OE-core.

The check itself needs an OE-core checkout and an hour: docs/oe-core.md says how to run it and what came out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# The standalone core takes OE-core's place; it is not among the layers that OE-core loads.
LAYERS = ["recipes", "meta-fleet/bsp", "meta-fleet/distro"]
# Recipes below here are active on the standalone core only.
STANDALONE = "dynamic-layers/fleet-core"


def recipes(layer: str) -> list[Path]:
    """Recipes of a layer that OE-core reads."""
    return [path for path in (ROOT / layer).rglob("*.bb") if STANDALONE not in path.as_posix()]


def overlay() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "meta-fleet/kas/oe-core.yml").read_text())
    return loaded


def test_there_are_recipes_to_look_at() -> None:
    assert [layer for layer in LAYERS if recipes(layer)] == ["recipes", "meta-fleet/bsp", "meta-fleet/distro"]


# --- Documents ---


@pytest.mark.parametrize("layer", LAYERS)
def test_readme_names_maintainer_patches_and_address(layer: str) -> None:
    text = (ROOT / layer / "README.md").read_text()
    assert "maintainer" in text.lower()
    assert "patch" in text.lower()
    assert re.search(r"[^@\s]+@[^@\s]+", text)
    assert "README" not in text, "the check takes the word for a reference and skips the rest"


@pytest.mark.parametrize("layer", LAYERS)
def test_licence_is_that_of_the_repository(layer: str) -> None:
    assert (ROOT / layer / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_vulnerabilities_have_an_address() -> None:
    assert re.search(r"[^@\s]+@[^@\s]+", (ROOT / "SECURITY.md").read_text())


# --- Layers ---


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_names_series_version_and_dependencies(layer: str) -> None:
    text = (ROOT / layer / "conf/layer.conf").read_text()
    name = re.search(r'^BBFILE_COLLECTIONS \+= "(\S+)"$', text, re.M)
    assert name
    for variable in (
        "LAYERSERIES_COMPAT",
        "LAYERVERSION",
        "LAYERDEPENDS",
        "BBFILE_PATTERN",
        "BBFILE_PRIORITY",
    ):
        assert re.search(rf'^{variable}_{name[1]} = "[^"]+"$', text, re.M), variable


@pytest.mark.parametrize("layer", LAYERS)
def test_only_the_layer_itself_has_a_conf_folder(layer: str) -> None:
    assert list((ROOT / layer).rglob("conf")) == [ROOT / layer / "conf"], "each would be taken for a layer"


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_has_machines_and_distributions(layer: str) -> None:
    kinds = [kind for kind in ("machine", "distro") if list((ROOT / layer / "conf" / kind).glob("*.conf"))]
    assert len(kinds) < 2


# --- Recipes and patches ---


@pytest.mark.parametrize("layer", LAYERS)
def test_no_recipe_uses_the_network_or_skips_checks(layer: str) -> None:
    found = [
        f"{path.name}: {match[0]}"
        for path in recipes(layer)
        for match in re.finditer(r"^\S*\[network\]|^INSANE_SKIP\S*", path.read_text(), re.M)
    ]
    assert found == []


@pytest.mark.parametrize("layer", LAYERS)
def test_every_patch_says_what_upstream_thinks_of_it(layer: str) -> None:
    status = re.compile(
        r"^Upstream-Status: (Pending|Submitted \[.+\]|Backport \[.+\]|Denied|"
        r"Inactive-Upstream \[.+\]|Inappropriate \[.+\])$",
        re.M,
    )
    patches = list((ROOT / layer).rglob("*.patch"))
    assert [path.name for path in patches if not status.search(path.read_text())] == []


# --- Overlay ---


def test_overlay_takes_the_core_out() -> None:
    assert overlay()["repos"]["meta-fleet"]["layers"] == {"meta-fleet/core": "disabled"}


def test_overlay_leaves_one_init_script() -> None:
    folder = ROOT / overlay()["repos"]["bitbake-env"]["path"]
    assert folder.is_dir()
    assert not (folder / "oe-init-build-env").exists(), "kas refuses two"


def test_overlay_pins_the_commits_of_the_record() -> None:
    record = (ROOT / "docs/oe-core.md").read_text()
    pinned = {name: repo["commit"] for name, repo in overlay()["repos"].items() if "url" in repo}
    assert set(pinned) == {"bitbake", "openembedded-core", "meta-openembedded"}
    for name, commit in pinned.items():
        assert re.fullmatch(r"[0-9a-f]{40}", commit), name
        assert f"`{commit}`" in record, f"docs/oe-core.md records another commit of {name}"
