# SPDX-License-Identifier: Apache-2.0
"""The documentation: no dead link, no dependency without a line, no path of somebody's machine."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from fleetbuild import lock

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[Path]:
    """All files of the repository that are text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]


PAGES = sorted(path for path in tracked() if path.suffix == ".md")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- Links ---


@cache
def prose(page: Path) -> str:
    """A page without its blocks of code and its comments, where nothing is a link."""
    return re.sub(r"^```.*?^```|<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@cache
def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be reached, as code hosts make them."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.M):
        words = re.sub(r"\]\([^)]*\)", "", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures, those to other sites left out."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page)) + re.findall(r'src="([^"]+)"', prose(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_link_is_dead(page: Path) -> None:
    dead = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            dead.append(link)
    assert dead == []


def test_links_are_found() -> None:
    assert "docs/build.md" in links(ROOT / "README.md")
    assert "the-package-lock" in anchors(ROOT / "docs/build.md")


def test_every_page_can_be_reached_from_the_readme() -> None:
    found, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in found and page.suffix == ".md" and page.is_file():
            found.add(page)
            todo += [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= found


# --- Dependencies ---

DEPENDENCIES = ROOT / "docs/dependencies.md"


def rows(heading: str) -> dict[str, list[str]]:
    """The table below a heading of the page: first cell, without its backticks, and the others."""
    section = re.search(
        rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", DEPENDENCIES.read_text(encoding="utf-8"), re.M | re.S
    )
    assert section, heading
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section[1].splitlines()
        if "|" in line
    ]
    return {line[0].strip("`"): line[1:] for line in lines[2:]}


def host_packages() -> set[str]:
    text = (ROOT / "tools/packages.txt").read_text()
    lines = [line.split("|") for line in text.splitlines() if "|" in line and not line.startswith("#")]
    return {line[1].strip() for line in lines}


def requirements(folder: str) -> set[str]:
    text = (ROOT / folder / "requirements.in").read_text()
    return set(re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", text, re.M))


def native_packages() -> set[str]:
    return set(lock.load_seeds().wanted("native"))


def image_packages() -> set[str]:
    seeds = lock.load_seeds()
    return {*seeds.wanted("target"), *seeds.sources}


@pytest.mark.parametrize(
    ("heading", "wanted"),
    [
        ("Programs of the build host", host_packages()),
        ("Python packages of the tools", requirements("tools")),
        ("Python packages of the tests", requirements("tests")),
        ("Tools that make target bytes", native_packages()),
        ("What the image is made of", image_packages()),
    ],
)
def test_every_dependency_has_its_line(heading: str, wanted: set[str]) -> None:
    assert wanted
    table = rows(heading)
    assert set(table) == wanted, "docs/dependencies.md and the list of packages differ"
    assert all(cell for cells in table.values() for cell in cells)


def test_the_set_of_each_tool_is_right() -> None:
    sets = lock.load_seeds().sets["native"]
    both = set.intersection(*(set(packages) for packages in sets.values()))
    for package, cells in rows("Tools that make target bytes").items():
        assert package in both if cells[0] == "both" else package in sets[cells[0]], package


# --- Machines ---

# Folders of the machine where somebody wrote the file; not: below a variable, or part of a longer path.
MACHINE_PATH = re.compile(r"(?<![\w.$})/-])/(?:work/\w|root/\.cache|home/[a-z]|Users/[A-Za-z])[\w./-]*")


def test_no_file_names_a_path_of_a_machine() -> None:
    found = []
    for path in tracked():
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{name_of(path)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "text", ["see /work/main/x", "'/home/jo/x'", "in /root/.cache/meta-fleet", "/Users/jo"]
)
def test_paths_of_machines_are_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize(
    "text", ["${TMPDIR}/work/x", "../work/x", "https://a.example/home/", "/var/root/.ssh"]
)
def test_other_paths_are_left_alone(text: str) -> None:
    assert not MACHINE_PATH.search(text)
