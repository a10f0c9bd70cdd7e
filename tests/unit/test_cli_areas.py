# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from fleet_cli import areas
from fleet_cli.areas import Counts
from fleet_cli.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]

TABLE = """
[[area]]
name = "unit"
minutes = 4
needs = "tests/unit"
command = ["{python}", "-m", "pytest", "--junit-xml={junit}"]

[[area]]
name = "long"
minutes = 60
needs = "tests/unit"
nightly = true
command = ["make", "long"]

[[area]]
name = "later"
minutes = 1.5
needs = "tests/later"
command = ["true"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "areas.toml").write_text(TABLE)
    return tmp_path


def names(root: Path, *chosen: str, nightly: bool = False) -> list[str]:
    table = areas.load(root / "areas.toml")
    return [area.name for area in areas.select(table, root, names=chosen, nightly=nightly)]


def test_the_repositorys_own_table_is_valid() -> None:
    table = areas.load(REPOSITORY / "tests" / "areas.toml")
    assert {"build", "unit", "board"} <= {area.name for area in table}


def test_areas_that_exist_are_chosen_in_order(root: Path) -> None:
    assert names(root) == ["unit"]
    assert names(root, nightly=True) == ["unit", "long"]
    assert names(root, "long") == ["long"]
    (root / "tests" / "later").mkdir()
    assert names(root) == ["unit", "later"]


def test_unknown_area_names_those_there_are(root: Path) -> None:
    with pytest.raises(UserError, match="no area later, lunch") as caught:
        names(root, "lunch", "later")
    assert "unit, long" in caught.value.remedy


def test_placeholders(root: Path) -> None:
    unit, long, _ = areas.load(root / "areas.toml")
    argv = unit.argv("/usr/bin/python3", Path("build/unit.xml"))
    assert argv == ["/usr/bin/python3", "-m", "pytest", "--junit-xml=build/unit.xml"]
    assert (unit.gives_junit, long.gives_junit) == (True, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('colour = "red"', "area unit: unknown key colour"),
        ('minutes = "many"', "area unit: minutes is missing or of the wrong type"),
        ("command = []", "area unit: command is no list of words"),
        ("command = [1]", "area unit: command is no list of words"),
        ("nightly = 1", "area unit: nightly is missing or of the wrong type"),
        ("= 3", "areas.toml: Invalid statement"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, line: str, message: str) -> None:
    key = line.split("=")[0].strip()
    lines = ['name = "unit"', "minutes = 4", 'needs = "."', 'command = ["true"]']
    kept = [other for other in lines if not key or not other.startswith(key)]
    (tmp_path / "areas.toml").write_text("\n".join(["[[area]]", *kept, line]))
    with pytest.raises(UserError, match=message):
        areas.load(tmp_path / "areas.toml")


def test_two_areas_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "areas.toml").write_text(TABLE + TABLE)
    with pytest.raises(UserError, match="later, long, unit is there more than once"):
        areas.load(tmp_path / "areas.toml")


JUNIT = """<?xml version="1.0"?><testsuites>
<testsuite name="a" tests="10" failures="1" errors="1" skipped="2"/>
<testsuite name="b" tests="3" failures="0" errors="0" skipped="0"/>
</testsuites>"""


@pytest.mark.parametrize(
    ("text", "exit_code", "counts"),
    [
        (JUNIT, 1, Counts(9, 2, 2)),
        ('<testsuite tests="3" failures="0" errors="0" skipped="1"/>', 0, Counts(2, 0, 1)),
        # a run that was killed or found nothing is no success, whatever its file says
        ('<testsuite tests="3" failures="0" errors="0" skipped="0"/>', 2, Counts(3, 1, 0)),
        ("<testsuites/>", 5, Counts(0, 1, 0)),
        ("<testsui", 0, Counts(0, 1, 0)),
        (None, 0, Counts(0, 1, 0)),
    ],
)
def test_junit_sum(tmp_path: Path, text: str | None, exit_code: int, counts: Counts) -> None:
    file = tmp_path / "junit.xml"
    if text is not None:
        file.write_text(text)
    assert areas.count_junit(file, exit_code) == counts


def test_sum_line() -> None:
    assert str(Counts(1, 2, 3) + Counts(10, 20, 30)) == "11 passed, 22 failed, 33 skipped"
    assert str(areas.count_command(0)) == "1 passed, 0 failed, 0 skipped"
    assert str(areas.count_command(3)) == "0 passed, 1 failed, 0 skipped"
