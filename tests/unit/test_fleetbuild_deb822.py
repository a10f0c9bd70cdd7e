# SPDX-License-Identifier: Apache-2.0
"""Control files: stanzas and relations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbuild.deb822 import relation, stanzas


def test_stanzas_are_separated_by_any_number_of_blank_lines() -> None:
    text = "\n\nPackage: a\nVersion: 1\n\n \t\n\nPackage: b\n"
    assert list(stanzas(text)) == [{"Package": "a", "Version": "1"}, {"Package": "b"}]


def test_continuation_lines_lose_one_blank_and_keep_the_rest() -> None:
    text = "Files:\n abc 1 x\n  indented\n\t.\nNext: y"
    assert list(stanzas(text)) == [{"Files": "\nabc 1 x\n indented\n.", "Next": "y"}]


def test_comments_and_stray_lines_are_not_fields() -> None:
    text = " before any field\n# a: comment\nPackage: a\n# b: comment\n more\nneither field nor comment\n"
    assert list(stanzas(text)) == [{"Package": "a\nmore"}]


def test_a_value_may_hold_colons() -> None:
    assert list(stanzas("Version: 2:1.0-1\nHomepage: scheme://host/\n")) == [
        {"Version": "2:1.0-1", "Homepage": "scheme://host/"}
    ]


@pytest.mark.parametrize("mark", ["\f", "\v", "\x1c", "\x85", "\u2028"])
def test_only_a_newline_ends_a_line(mark: str) -> None:
    assert list(stanzas(f"License: a\n text{mark}Files: no field\n")) == [
        {"License": f"a\ntext{mark}Files: no field"}
    ]


def test_dos_line_ends_are_no_part_of_a_value() -> None:
    assert list(stanzas("License: MIT\r\n text\r\n\r\nFiles: *\r\n")) == [
        {"License": "MIT\ntext"},
        {"Files": "*"},
    ]


_fields = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,8}", fullmatch=True)
_values = st.lists(st.from_regex(r"[ a:#.]{0,5}[a:#.][ a:#.]{0,5}", fullmatch=True), min_size=1, max_size=3)


@given(st.lists(st.dictionaries(_fields, _values, min_size=1, max_size=4), max_size=4))
@settings(deadline=None)
def test_what_is_written_is_read_back(wanted: list[dict[str, list[str]]]) -> None:
    text = "".join(
        "".join(f"{field}: " + "\n ".join(lines) + "\n" for field, lines in stanza.items()) + "\n"
        for stanza in wanted
    )
    assert list(stanzas(text)) == [
        {field: "\n".join([lines[0].strip(), *lines[1:]]) for field, lines in stanza.items()}
        for stanza in wanted
    ]


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        ("", []),
        ("libc6", [["libc6"]]),
        (
            "libc6 (>= 2.36), default-mta | mail-transport-agent",
            [["libc6"], ["default-mta", "mail-transport-agent"]],
        ),
        ("python3:any (>= 3.9~), libstdc++6", [["python3"], ["libstdc++6"]]),
        ("a [armhf] | b <!nocheck>,\n c", [["a", "b"], ["c"]]),
        (" , a,", [["a"]]),
        ("0ad | g++-12", [["0ad", "g++-12"]]),
    ],
)
def test_relations_are_reduced_to_names(value: str, groups: list[list[str]]) -> None:
    assert relation(value) == groups
