# SPDX-License-Identifier: Apache-2.0
"""Control-file stanzas and package relations, as Debian Policy sections 5.1 and 7.1 define them."""

from __future__ import annotations

import re
from collections.abc import Iterator

Stanza = dict[str, str]


def stanzas(text: str) -> Iterator[Stanza]:
    """Yield each stanza of a control file; continuation lines keep their newline, field names their case.

    Comment lines are left out. A line that is neither field, continuation nor comment is ignored.
    """
    current: Stanza = {}
    field = ""
    # Not splitlines(): licence texts hold form feeds, and those do not end a line.
    for line in text.split("\n"):
        if not line.strip():
            if current:
                yield current
            current, field = {}, ""
        elif line[0] in " \t":
            if field:
                current[field] += "\n" + line[1:].rstrip("\r")
        elif ":" in line and not line.startswith("#"):
            field, _, value = line.partition(":")
            current[field] = value.strip()
    if current:
        yield current


_NAME = re.compile(r"\s*([a-z0-9][a-z0-9+.-]*)")


def relation(value: str) -> list[list[str]]:
    """Return a Depends-like field as groups of alternative package names, without versions and qualifiers."""
    groups = []
    for group in value.split(","):
        names = [match.group(1) for part in group.split("|") if (match := _NAME.match(part))]
        if names:
            groups.append(names)
    return groups
