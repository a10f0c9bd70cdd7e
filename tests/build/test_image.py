# SPDX-License-Identifier: Apache-2.0
"""What is in the image, read back from its own bytes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import fleetboard
from fleetboard import flash

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "meta-fleet" / "distro" / "rootfs"
MIB = 1024 * 1024


def test_everything_is_deployed_and_summed(deploy: Path) -> None:
    listed = dict(line.split()[::-1] for line in (deploy / "SHA256SUMS").read_text().splitlines())
    expected = {
        *("fleet-x1.flash.img", "flash-manifest.json", "u-boot-with-spl.bin", "fitImage", "rofs.img"),
        *("fleet-x1-a.dtb", "fleet-x1-b.dtb", "board.toml"),
        *("rootfs-manifest.json", "sbom.spdx.json", "licenses.json"),
    }
    assert set(listed) == expected
    for name, digest in listed.items():
        assert hashlib.sha256((deploy / name).read_bytes()).hexdigest() == digest, name


def test_the_flash_image_matches_its_manifests(deploy: Path) -> None:
    board = fleetboard.load(deploy / "board.toml")
    found = flash.verify(board, deploy / "fleet-x1.flash.img", deploy / "flash-manifest.json")
    assert found["a"] is not None


def test_a_slot_uses_at_most_30_mib_of_flash(deploy: Path) -> None:
    used = (deploy / "fitImage").stat().st_size + (deploy / "rofs.img").stat().st_size
    assert used <= 30 * MIB


def test_owners_modes_and_types_are_those_of_the_tables(listing: list[list[str]]) -> None:
    table = tomllib.loads((TABLES / "permissions.toml").read_text())["permissions"]
    assert len(listing) > 1000
    seen = set()
    for mode, owner, _, _, _, name in listing:
        path = name.split(" -> ")[0].removeprefix("squashfs-root").lstrip("/")
        assert mode[0] in "-dl", f"{path}: devices, sockets and pipes have no place in the image"
        if path in table:
            seen.add(path)
            assert _octal(mode) == int(table[path].get("mode", "0644"), 8), path
            continue
        assert owner == "0/0", path
        assert not set(mode) & set("sStT") or path == "tmp", f"{path}: set-id or sticky {mode}"
        assert mode[8] != "w" or mode[0] == "l" or path == "tmp", f"{path}: writable by everybody"
    assert seen == set(table)


def test_capabilities_are_those_of_the_table(deploy: Path, tmp_path: Path) -> None:
    table = tomllib.loads((TABLES / "permissions.toml").read_text())["permissions"]
    expected = {path for path, entry in table.items() if entry.get("capabilities")}
    # Root of a user namespace may set capabilities of files of its own. It cannot set owners other than root,
    # which unsquashfs calls a failure that is not fatal (2).
    script = (
        'unsquashfs -q -n -d "$1/rootfs" "$2" 2>/dev/null || [ $? -eq 2 ]; getcap -n -r "$1/rootfs"; '
        'rm -r "$1/rootfs"'
    )
    words = ["unshare", "--user", "--map-root-user", "sh", "-ec", script, "sh", tmp_path, deploy / "rofs.img"]
    listed = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout
    found = {line.split(" ")[0].removeprefix(f"{tmp_path}/rootfs/") for line in listed.splitlines()}
    assert found == expected


def _octal(mode: str) -> int:
    bits = "".join("0" if c == "-" else "1" for c in mode[1:])
    return int(bits, 2)


def test_the_image_holds_no_credentials(rootfs: Path) -> None:
    for line in (rootfs / "etc/shadow").read_text().splitlines():
        name, password = line.split(":")[:2]
        assert password.startswith(("!", "*")), f"{name} has a password"
    markers = re.compile(rb"PRIVATE KEY-----|^(ssh|ecdsa)-[a-z0-9-]+ AAAA[A-Za-z0-9+/]{40}", re.M)
    for path in rootfs.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.name not in {"authorized_keys", "known_hosts"}, path
            assert "host_key" not in path.name, path
            # programs that handle keys hold the marker without a key behind it
            for match in markers.finditer(path.read_bytes()):
                following = path.read_bytes()[match.end() : match.end() + 64]
                assert not re.match(rb"\s+[A-Za-z0-9+/=]{40}", following), path


def test_all_python_is_byte_compiled_and_unchecked(rootfs: Path) -> None:
    sources = [path for path in (rootfs / "usr/lib").rglob("*.py") if "python3" in str(path)]
    assert len(sources) > 200
    for source in sources:
        compiled = Path(importlib.util.cache_from_source(str(source))).name.split(".")[0]
        pyc = source.parent / "__pycache__" / f"{compiled}.cpython-311.pyc"
        assert pyc.is_file(), f"{source}: no byte-code"
        flags = int.from_bytes(pyc.read_bytes()[4:8], "little")
        assert flags == 0b01, f"{pyc}: byte-code must be hash-based and unchecked (PEP 552)"


def test_users_have_the_fixed_numbers(rootfs: Path) -> None:
    table = tomllib.loads((TABLES / "users.toml").read_text())["users"]
    passwd = [line.split(":") for line in (rootfs / "etc/passwd").read_text().splitlines()]
    numbers = {entry[0]: int(entry[2]) for entry in passwd}
    assert numbers["fleet-inventory"] == table["fleet-inventory"]["uid"]
    for name, entry in table.items():
        assert numbers.get(name, entry["uid"]) == entry["uid"]
    assert len(set(numbers.values())) == len(numbers)


def test_the_sbom_is_valid_and_complete(deploy: Path) -> None:
    parse = pytest.importorskip("spdx_tools.spdx.parser.parse_anything")
    validate = pytest.importorskip("spdx_tools.spdx.validation.document_validator")
    document = parse.parse_file(str(deploy / "sbom.spdx.json"))
    assert validate.validate_full_spdx_document(document) == []
    manifest = json.loads((deploy / "rootfs-manifest.json").read_text())
    wanted = {package["name"] for package in manifest["debian"]} | {c["name"] for c in manifest["components"]}
    assert wanted <= {package.name for package in document.packages}
    assert {"linux", "u-boot"} <= {package.name for package in document.packages}


def test_licences_are_known_for_most_packages(deploy: Path) -> None:
    licences = json.loads((deploy / "licenses.json").read_text())
    unknown = [name for name, found in licences.items() if not found]
    assert len(unknown) < len(licences) / 3, f"no machine-readable licence: {', '.join(unknown)}"


def test_the_manifest_says_what_became_of_security_updates(deploy: Path) -> None:
    manifest = json.loads((deploy / "rootfs-manifest.json").read_text())
    assert set(manifest["security"]) == {"amd64", "armhf"}
