# SPDX-License-Identifier: Apache-2.0
"""What is in the image: licences as Debian writes them, the SBOM as SPDX reads it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spdx_tools.spdx.model.document import Document
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from fleetbuild import sbom

EPOCH = 1700000000
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: x
License: Apache-2.0

Files: *
Copyright: someone
License: GPL-2+ or BSD-3-clause
 a text

Files: debian/*
Copyright: someone
License: expat

License: GPL-2+
 the text of it
"""


class TestNames:
    def test_licences_of_files_count(self) -> None:
        assert sbom.licence_names(COPYRIGHT) == ["GPL-2+ or BSD-3-clause", "expat"]

    def test_comments_may_come_first(self) -> None:
        assert sbom.licence_names("# vim: set\n\n" + COPYRIGHT) == ["GPL-2+ or BSD-3-clause", "expat"]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "This package was debianized by\n\nFiles: none\nLicense: MIT\n",
            "Files: *\nLicense: MIT\n\nFormat: x\n",
        ],
    )
    def test_free_text_has_none(self, text: str) -> None:
        assert sbom.licence_names(text) == []

    def test_an_empty_field_is_no_name(self) -> None:
        assert sbom.licence_names("Format: x\n\nFiles: *\nLicense:\n text only\n") == []


class TestExpression:
    @pytest.mark.parametrize(
        ("names", "expression"),
        [
            ([], "NOASSERTION"),
            (["Expat"], "MIT"),
            (["GPL-2"], "GPL-2.0-only"),
            (["GPL-2.0+"], "GPL-2.0-or-later"),
            (["gpl-3+"], "GPL-3.0-or-later"),
            (["LGPL-2.1"], "LGPL-2.1-only"),
            (["GFDL-1.3+"], "GFDL-1.3-or-later"),
            (["BSD-3-clause", "MIT", "Expat"], "BSD-3-Clause AND MIT"),
            (["GPL-2+ or BSD-3-clause"], "BSD-3-Clause OR GPL-2.0-or-later"),
            (["GPL-2+ or BSD-3-clause", "Expat"], "(BSD-3-Clause OR GPL-2.0-or-later) AND MIT"),
            # "and" binds tighter than "or", a comma turns that round: copyright-format 1.0, section 7.2
            (["ISC and MIT or Zlib"], "(ISC AND MIT) OR Zlib"),
            (["ISC or MIT and Zlib"], "ISC OR (MIT AND Zlib)"),
            (["ISC or MIT, and Zlib"], "(ISC OR MIT) AND Zlib"),
            (["ISC and MIT, or Zlib"], "(ISC AND MIT) OR Zlib"),
            (["GPL-2 with Linux-syscall-note exception"], "GPL-2.0-only WITH Linux-syscall-note"),
            (["GPL-2+ with OpenSSL exception"], "NOASSERTION"),
            (["public-domain"], "NOASSERTION"),
            (["MIT", "public-domain"], "NOASSERTION"),
            (["MIT or public-domain"], "NOASSERTION"),
        ],
    )
    def test_of_debians_words(self, names: list[str], expression: str) -> None:
        assert sbom.spdx_expression(names) == expression

    @given(st.permutations(["GPL-2+", "MIT", "ISC or Zlib", "Expat"]))
    @settings(deadline=None)
    def test_order_plays_no_part(self, names: list[str]) -> None:
        assert sbom.spdx_expression(names) == "GPL-2.0-or-later AND (ISC OR Zlib) AND MIT"

    @pytest.mark.parametrize(
        ("licence", "expression"),
        [
            ("Apache-2.0", "Apache-2.0"),
            ("MIT & (GPL-2.0-only|ISC)", "MIT AND (GPL-2.0-only OR ISC)"),
            ("GPL-2.0-only WITH Linux-syscall-note", "GPL-2.0-only WITH Linux-syscall-note"),
            ("CLOSED", "NOASSERTION"),
            ("", "NOASSERTION"),
        ],
    )
    def test_of_a_recipe(self, licence: str, expression: str) -> None:
        assert sbom.recipe_expression(licence) == expression


def debian(name: str, version: str = "1.0-1", architecture: str = "armhf") -> dict[str, str]:
    filename = f"pool/main/{name}_{version.split(':')[-1]}_{architecture}.deb"
    return {
        "name": name,
        "version": version,
        "source": f"src-{name}",
        "sha256": "ab" * 32,
        "filename": filename,
    }


RECORD: dict[str, Any] = {
    "debian": [
        debian("libstdc++6", "1:12.2~rc1+b2-14"),
        debian("libstdc--6"),
        debian("netbase", "6.4", "all"),
        debian("fleet-base", "9"),
    ],
    "components": [
        {
            "name": "fleet-base",
            "version": "1.0",
            "license": "Apache-2.0 & MIT",
            "summary": "x",
            "files": ["etc/x"],
        }
    ],
    "security": {"armhf": "verified"},
}


def write(folder: Path, record: Any = RECORD, epoch: int = EPOCH, version: str = "1.2") -> Path:
    """Write the three files and return their folder."""
    (folder / "licences").mkdir(parents=True)
    (folder / "licences/netbase").write_text(COPYRIGHT)
    (folder / "licences/libstdc++6").write_bytes(b"free text \xff\n")
    (folder / "record.json").write_text(json.dumps(record))
    out = folder / "out"
    out.mkdir()
    extra = {"linux": ("6.12.1", "GPL-2.0-only")}
    sbom.write(folder / "record.json", folder / "licences", out, "fleet-image", version, epoch, extra)
    return out


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((write(tmp_path) / "sbom.spdx.json").read_text())
    return read


def test_spdx_finds_nothing_wrong(tmp_path: Path) -> None:
    parsed = parse_file(str(write(tmp_path) / "sbom.spdx.json"))
    assert isinstance(parsed, Document)
    assert [message.validation_message for message in validate_full_spdx_document(parsed)] == []
    assert len(parsed.packages) == 7


def test_every_part_is_in_it_once_and_contained_in_the_image(document: dict[str, Any]) -> None:
    packages = {package["SPDXID"]: package for package in document["packages"]}
    assert len(packages) == len(document["packages"]) == 7
    image = next(identifier for identifier, package in packages.items() if package["name"] == "fleet-image")
    relations = {
        (r["spdxElementId"], r["relationshipType"], r["relatedSpdxElement"])
        for r in document["relationships"]
    }
    contained = {(image, "CONTAINS", identifier) for identifier in packages if identifier != image}
    assert relations == contained | {("SPDXRef-DOCUMENT", "DESCRIBES", image)}


def test_licences_are_declared(document: dict[str, Any]) -> None:
    licences = {(p["name"], p["versionInfo"]): p["licenseDeclared"] for p in document["packages"]}
    assert licences == {
        ("fleet-image", "1.2"): "NOASSERTION",
        ("libstdc++6", "1:12.2~rc1+b2-14"): "NOASSERTION",
        ("libstdc--6", "1.0-1"): "NOASSERTION",
        ("netbase", "6.4"): "(BSD-3-Clause OR GPL-2.0-or-later) AND MIT",
        ("fleet-base", "9"): "NOASSERTION",
        ("fleet-base", "1.0"): "Apache-2.0 AND MIT",
        ("linux", "6.12.1"): "GPL-2.0-only",
    }


def test_debian_packages_carry_what_scanners_look_for(document: dict[str, Any]) -> None:
    package = document["packages"][1]
    assert package["supplier"] == "Organization: Debian"
    assert package["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ab" * 32}]
    assert package["sourceInfo"] == "built from Debian source package src-libstdc++6"
    purls = [p["externalRefs"][0]["referenceLocator"] for p in document["packages"] if "externalRefs" in p]
    assert purls[0] == "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2~rc1%2Bb2-14?arch=armhf&distro=bookworm"
    assert purls[2] == "pkg:deb/debian/netbase@6.4?arch=all&distro=bookworm"


def test_the_time_is_the_one_given(document: dict[str, Any]) -> None:
    assert document["creationInfo"]["created"] == "2023-11-14T22:13:20Z"


def test_the_other_two_files(tmp_path: Path) -> None:
    out = write(tmp_path)
    assert json.loads((out / "licenses.json").read_text()) == {
        "libstdc++6": [],
        "libstdc--6": [],
        "netbase": ["GPL-2+ or BSD-3-clause", "expat"],
        "fleet-base": ["Apache-2.0 & MIT"],
    }
    assert json.loads((out / "rootfs-manifest.json").read_text()) == {
        "image": "fleet-image",
        "version": "1.2",
        **RECORD,
    }


def test_the_same_contents_give_the_same_bytes_and_others_another_namespace(tmp_path: Path) -> None:
    def namespace(out: Path) -> str:
        return str(json.loads((out / "sbom.spdx.json").read_text())["documentNamespace"])

    one, two = write(tmp_path / "1"), write(tmp_path / "2")
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
    others = [
        write(tmp_path / "3", epoch=EPOCH + 1),
        write(tmp_path / "4", version="1.3"),
        write(tmp_path / "5", record={**RECORD, "debian": RECORD["debian"][:1]}),
    ]
    assert len({namespace(out) for out in (one, *others)}) == 4
    assert namespace(one).startswith("urn:uuid:")


def test_the_seed_of_pythons_hashes_plays_no_part(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fleetbuild import sbom\n"
        "top = Path(sys.argv[1]); out = top / sys.argv[2]; out.mkdir()\n"
        "extra = {'b': ('1', 'MIT'), 'a': ('2', 'MIT')}\n"
        "sbom.write(top / 'record.json', top / 'licences', out, 'i', '1', 5, extra)\n"
    )
    write(tmp_path)
    library = str(Path(__file__).parents[2] / "meta-fleet/core/lib")
    for seed in ("0", "1", "2"):
        subprocess.run(
            [sys.executable, "-c", program, tmp_path, seed],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": library},
            check=True,
        )
    for name in ("sbom.spdx.json", "licenses.json", "rootfs-manifest.json"):
        assert len({(tmp_path / seed / name).read_bytes() for seed in ("0", "1", "2")}) == 1
