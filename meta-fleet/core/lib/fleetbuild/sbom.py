# SPDX-License-Identifier: Apache-2.0
"""What is in the image, for people and scanners: SPDX 2.3 SBOM, licence manifest, rootfs manifest."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fleetbuild.deb822 import stanzas

NOASSERTION = "NOASSERTION"
SUITE = "bookworm"

# Debian's short names (copyright-format 1.0, section 7.1) where SPDX spells them differently.
_DEBIAN_NAMES = {
    "Expat": "MIT",
    "CC0": "CC0-1.0",
    "PSF-2": "PSF-2.0",
    "OpenSSH": "SSH-OpenSSH",
    "WTFPL-2": "WTFPL",
    "GPL-2 with Linux-syscall-note exception": "GPL-2.0-only WITH Linux-syscall-note",
    "GPL-3+ with Bison exception": "GPL-3.0-or-later WITH Bison-exception-2.2",
    **{
        f"{kind}-{short}{plus}": f"{kind}-{number}-{meaning}"
        for kind, numbers in (
            ("GPL", ("1.0", "2.0", "3.0")),
            ("LGPL", ("2.0", "2.1", "3.0")),
            ("GFDL", ("1.1", "1.2", "1.3")),
        )
        for number in numbers
        for short in {number, number.removesuffix(".0")}
        for plus, meaning in (("", "only"), ("+", "or-later"))
    },
}
_SPDX_NAMES = (
    *("0BSD", "AFL-2.1", "Apache-2.0", "Beerware", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause", "BSL-1.0"),
    *(
        "CC0-1.0",
        "ISC",
        "MIT",
        "MPL-1.1",
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "WTFPL",
        "X11",
        "Zlib",
    ),
)
# Names count without regard to case, copyright-format 1.0 section 7.
_NAMES = {
    name.lower(): spdx for name, spdx in (*_DEBIAN_NAMES.items(), *zip(_SPDX_NAMES, _SPDX_NAMES, strict=True))
}
# What binds weakest comes first: a comma before a word outranks the words, "and" binds tighter than "or".
_OPERATORS = ((r",\s*or\s+", "OR"), (r",\s*and\s+", "AND"), (r"\s+or\s+", "OR"), (r"\s+and\s+", "AND"))


def licence_names(copyright_text: str) -> list[str]:
    """Return the licences of the files of a machine-readable copyright file; empty when it is free text."""
    entries = list(stanzas(copyright_text))
    if not entries or "Format" not in entries[0]:
        return []
    found = {
        entry["License"].split("\n")[0].strip()
        for entry in entries
        if "Files" in entry and "License" in entry
    }
    return sorted(name for name in found if name)


def spdx_expression(names: Iterable[str]) -> str:
    """Return Debian's words for licences as one SPDX expression; NOASSERTION when one has no SPDX name."""
    parts = {_expression(name, 0) for name in names}
    if not parts or None in parts:
        return NOASSERTION
    return _join("AND", [part for part in parts if part])


def _expression(text: str, level: int) -> str | None:
    if level == len(_OPERATORS):
        return _NAMES.get(" ".join(text.split()).lower())
    pattern, word = _OPERATORS[level]
    parts = [_expression(part, level + 1) for part in re.split(pattern, text)]
    return None if None in parts else _join(word, [part for part in parts if part])


def _join(word: str, parts: list[str]) -> str:
    other = " OR " if word == "AND" else " AND "
    unique = sorted(set(parts))
    if len(unique) == 1:
        return unique[0]
    return f" {word} ".join(f"({part})" if other in part else part for part in unique)


def recipe_expression(licence: str) -> str:
    """Return a recipe's LICENSE, which has & and | for "and" and "or", as an SPDX expression."""
    words = re.sub(r"\s*([&|])\s*", lambda match: " AND " if match[1] == "&" else " OR ", licence.strip())
    return NOASSERTION if words in {"", "CLOSED", "INVALID"} else words


def write(
    record: Path,
    licences: Path,
    out: Path,
    image: str,
    version: str,
    epoch: int,
    extra: Mapping[str, tuple[str, str]],
) -> None:
    """Write sbom.spdx.json, licenses.json and rootfs-manifest.json to ``out``.

    ``record`` is what do_rootfs wrote, ``licences`` the copyright files by package name, ``extra`` further
    parts of the flash image (name to version and licence), ``epoch`` (s) the time of creation. The same
    contents give the same bytes.
    """
    data: dict[str, Any] = json.loads(record.read_text())
    table = {}
    for package in data["debian"]:
        path = licences / package["name"]
        table[package["name"]] = licence_names(path.read_text(errors="replace")) if path.is_file() else []
    packages = [_debian(package, spdx_expression(table[package["name"]])) for package in data["debian"]]
    for component in data["components"]:
        licence = recipe_expression(component["license"])
        packages.append(_package("Recipe", component["name"], component["version"], licence))
    packages += [_package("Part", name, number, licence) for name, (number, licence) in sorted(extra.items())]
    root = {**_package("Image", image, version, NOASSERTION), "primaryPackagePurpose": "FIRMWARE"}
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{image}-{version}",
        "creationInfo": {
            "created": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Organization: meta-fleet"],
        },
        "packages": [root, *packages],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", root["SPDXID"]),
            *(_relation(root["SPDXID"], "CONTAINS", package["SPDXID"]) for package in packages),
        ],
    }
    # A document that differs in anything has another namespace, as SPDX 2.3 section 6.5 wants it.
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    document["documentNamespace"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'sha256:{digest}')}"
    _dump(out / "sbom.spdx.json", document)
    own = {component["name"]: [component["license"]] for component in data["components"]}
    _dump(out / "licenses.json", {**table, **own})
    _dump(out / "rootfs-manifest.json", {"image": image, "version": version, **data})


def _debian(package: Mapping[str, str], licence: str) -> dict[str, Any]:
    name, version = package["name"], package["version"]
    architecture = package["filename"].removesuffix(".deb").rsplit("_", 1)[-1]
    entry = _package("Debian", name, version, licence)
    entry["supplier"] = "Organization: Debian"
    entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": package["sha256"]}]
    entry["sourceInfo"] = f"built from Debian source package {package['source']}"
    entry["externalRefs"] = [
        {
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}"
            f"?arch={architecture}&distro={SUITE}",
        }
    ]
    return entry


def _package(kind: str, name: str, version: str, licence: str) -> dict[str, Any]:
    safe = re.sub(r"[^A-Za-z0-9.-]", "-", name)
    if safe != name:
        # "libstdc++6" and "libstdc--6" must not become one.
        safe += f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return {
        "SPDXID": f"SPDXRef-{kind}-{safe}",
        "name": name,
        "versionInfo": version,
        "supplier": "Organization: meta-fleet",
        "downloadLocation": NOASSERTION,
        "filesAnalyzed": False,
        "licenseConcluded": NOASSERTION,
        "licenseDeclared": licence,
        "copyrightText": NOASSERTION,
    }


def _relation(left: str, kind: str, right: str) -> dict[str, str]:
    return {"spdxElementId": left, "relationshipType": kind, "relatedSpdxElement": right}


def _dump(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")
