# SPDX-License-Identifier: Apache-2.0
"""What is in the image, for people and scanners: SPDX 2.3 SBOM, licence manifest, rootfs manifest."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetbuild.deb822 import stanzas

# Debian's short names (copyright-format 1.0, section 7.1) where SPDX spells them differently.
_SPDX = {
    "GPL-2": "GPL-2.0-only",
    "GPL-2+": "GPL-2.0-or-later",
    "GPL-3": "GPL-3.0-only",
    "GPL-3+": "GPL-3.0-or-later",
    "LGPL-2": "LGPL-2.0-only",
    "LGPL-2+": "LGPL-2.0-or-later",
    "LGPL-2.1": "LGPL-2.1-only",
    "LGPL-2.1+": "LGPL-2.1-or-later",
    "LGPL-3+": "LGPL-3.0-or-later",
    "GFDL-1.3+": "GFDL-1.3-or-later",
    "Expat": "MIT",
    "BSD-2-clause": "BSD-2-Clause",
    "BSD-3-clause": "BSD-3-Clause",
    "BSD-4-clause": "BSD-4-Clause",
    "Zlib": "Zlib",
    "CC0": "CC0-1.0",
    "CC0-1.0": "CC0-1.0",
    "ISC": "ISC",
    "MIT": "MIT",
    "Apache-2.0": "Apache-2.0",
    "PSF-2": "PSF-2.0",
}


def licence_names(copyright_text: str) -> list[str]:
    """Return the licence short names of a machine-readable copyright file; empty when it is free text."""
    if "Format:" not in copyright_text.split("\n\n", 1)[0]:
        return []
    found = set()
    for stanza in stanzas(copyright_text):
        if "Files" in stanza and "License" in stanza:
            found.add(stanza["License"].splitlines()[0].strip())
    return sorted(name for name in found if name)


def spdx_expression(names: list[str]) -> str:
    """Return Debian short names as an SPDX expression; NOASSERTION when one of them has no SPDX name."""
    parts = set()
    for name in names:
        for word in re.split(r"\s+(?:and|or)\s+|,\s*", name):
            if word not in _SPDX:
                return "NOASSERTION"
            parts.add(_SPDX[word])
    return " AND ".join(sorted(parts)) or "NOASSERTION"


def write(
    record: Path, licences: Path, out: Path, image: str, version: str, epoch: int, extra: Mapping[str, str]
) -> None:
    """Write sbom.spdx.json, licenses.json and rootfs-manifest.json to ``out``.

    ``record`` is what do_rootfs wrote, ``licences`` the copyright files by package name, ``extra`` further parts
    of the flash image (name to version). Identifiers depend on the contents alone.
    """
    data: dict[str, Any] = json.loads(record.read_text())
    table = {}
    for package in data["debian"]:
        path = licences / package["name"]
        table[package["name"]] = licence_names(path.read_text(errors="replace")) if path.is_file() else []
    packages = [_debian(package, spdx_expression(table[package["name"]])) for package in data["debian"]]
    packages += [_own(c["name"], c["version"], c["license"]) for c in data["components"]]
    packages += [_own(name, number, "GPL-2.0-only") for name, number in sorted(extra.items())]
    digest = hashlib.sha256(json.dumps([packages, version], sort_keys=True).encode()).hexdigest()
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    root = {**_own(image, version, "NOASSERTION"), "primaryPackagePurpose": "FIRMWARE"}
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{image}-{version}",
        "documentNamespace": f"urn:uuid:{uuid.UUID(digest[:32])}",
        "creationInfo": {"created": created, "creators": ["Organization: meta-fleet"]},
        "packages": [root, *packages],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", root["SPDXID"]),
            *(_relation(root["SPDXID"], "CONTAINS", package["SPDXID"]) for package in packages),
        ],
    }
    _dump(out / "sbom.spdx.json", document)
    own = {c["name"]: [c["license"]] for c in data["components"]}
    _dump(out / "licenses.json", {**table, **own})
    _dump(out / "rootfs-manifest.json", {"image": image, "version": version, **data})


def _debian(package: Mapping[str, str], licence: str) -> dict[str, Any]:
    name, version = package["name"], package["version"]
    entry = _own(name, version, licence)
    entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": package["sha256"]}]
    entry["sourceInfo"] = f"built from Debian source package {package['source']}"
    entry["externalRefs"] = [
        {
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": f"pkg:deb/debian/{name}@{version.replace(':', '%3A')}?arch=armhf",
        }
    ]
    return entry


def _own(name: str, version: str, licence: str) -> dict[str, Any]:
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
    }


def _relation(left: str, kind: str, right: str) -> dict[str, str]:
    return {"spdxElementId": left, "relationshipType": kind, "relatedSpdxElement": right}


def _dump(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")
