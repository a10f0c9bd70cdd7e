# SPDX-License-Identifier: Apache-2.0
"""Put a flash image together from its parts, and check one.

Each slot carries a manifest in its own partition: JSON, UTF-8, one line, the rest of the partition 0xff.
It holds board, version, timestamp and, for fit and rofs, size and SHA-256; `sha256` is over the manifest's
canonical form (sorted keys, no spaces) without that key. A slot whose manifest partition is erased is empty.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fleetboard.model import SLOT_NAMES, Board, Partition, Slot

FILL = b"\xff"
CHUNK = 1 << 20
SCHEMA = 1
VERSION = r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}"
# The parts of a slot, as the manifest names them.
SLOT_PARTS = ("fit", "rofs")


class FlashError(Exception):
    """An image or one of its parts is wrong. `problems` holds one line per mistake."""

    def __init__(self, what: Path | str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{what}:", *(f"  {line}" for line in problems)]))


@dataclass(frozen=True, slots=True)
class Release:
    """What is being put into flash: version and time in seconds since 1970 (SOURCE_DATE_EPOCH)."""

    version: str
    timestamp: int

    def __post_init__(self) -> None:
        if re.fullmatch(VERSION, self.version) is None:
            raise ValueError(f"version {self.version!r}; expected up to 64 letters, digits and . + ~ _ -")
        if not 0 <= self.timestamp < 1 << 40:
            raise ValueError(f"timestamp {self.timestamp}; expected seconds since 1970")


@dataclass(frozen=True, slots=True)
class Content:
    """Size in bytes and SHA-256 (hexadecimal) of something in flash."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SlotManifest:
    """A slot's manifest; `parts` has an entry for each of SLOT_PARTS."""

    board: str
    release: Release
    parts: Mapping[str, Content]


def encode_manifest(manifest: SlotManifest) -> bytes:
    """Return the manifest as it is written to flash, without padding."""
    body: dict[str, object] = {
        "schema": SCHEMA,
        "board": manifest.board,
        "version": manifest.release.version,
        "timestamp": manifest.release.timestamp,
        "images": {
            part: {"size": content.size, "sha256": content.sha256} for part, content in manifest.parts.items()
        },
    }
    return _canonical({**body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()})


def decode_manifest(raw: bytes) -> SlotManifest | None:
    """Return the manifest in a manifest partition, None if it is erased; ValueError says what is wrong."""
    text = raw.rstrip(FILL)
    if not text:
        return None
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(body, dict):
        raise ValueError("is not a JSON object")
    digest = body.pop("sha256", None)
    if digest != hashlib.sha256(_canonical(body)).hexdigest():
        raise ValueError("does not match its own sha256")
    if body.get("schema") != SCHEMA:
        raise ValueError(f"has schema {body.get('schema')!r}; expected {SCHEMA}")
    return _typed_manifest(body)


def _typed_manifest(body: Mapping[str, object]) -> SlotManifest:
    # Whoever can write the partition can compute its sha256 too, so types and ranges are checked as well.
    board, version, timestamp, images = (body.get(key) for key in ("board", "version", "timestamp", "images"))
    if not isinstance(board, str) or not isinstance(version, str):
        raise ValueError("has no board or version")
    if not isinstance(timestamp, int) or isinstance(timestamp, bool):
        raise ValueError("has no timestamp")
    if not isinstance(images, dict) or set(images) != set(SLOT_PARTS):
        raise ValueError(f"does not list exactly {' and '.join(SLOT_PARTS)}")
    parts = {}
    for part in SLOT_PARTS:
        entry = images[part]
        size = entry.get("size") if isinstance(entry, dict) else None
        digest = entry.get("sha256") if isinstance(entry, dict) else None
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValueError(f"has no size of {part}")
        if not isinstance(digest, str) or re.fullmatch(r"[0-9a-f]{64}", digest) is None:
            raise ValueError(f"has no sha256 of {part}")
        parts[part] = Content(size, digest)
    return SlotManifest(board, Release(version, timestamp), parts)


def assemble(
    board: Board, images: Mapping[str, Path], out: Path, release: Release, manifest: Path | None = None
) -> None:
    """Write the full flash image `out`, and `manifest` (flash-manifest.json) if asked.

    `images` maps partition names to files; partitions without one stay erased. A slot manifest is made for
    every slot of which both parts are given. Both files appear complete or not at all.
    FlashError lists unknown partitions, half-filled slots, unreadable files and files that do not fit.
    """
    contents = _measure(board, images)
    manifests = {
        slot.manifest.name: _slot_manifest(board, slot, release, contents)
        for slot in board.flash.slots
        if slot.fit.name in contents
    }
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as flash:
            for partition in sorted(board.flash.partitions, key=lambda p: p.offset):
                _pad(flash, partition.offset)
                if partition.name in manifests:
                    flash.write(manifests[partition.name])
                elif partition.name in images:
                    _copy(images[partition.name], flash, partition, contents[partition.name])
            _pad(flash, board.flash.size)
        if manifest is not None:
            described = _describe(board, release, contents, manifests, _hash_file(temporary))
            _write_text(manifest, json.dumps(described, indent=2) + "\n")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def verify(board: Board, image: Path, manifest: Path | None = None) -> dict[str, SlotManifest | None]:
    """Check a flash image against its slot manifests (and flash-manifest.json if given).

    Returns each slot's manifest, None for an empty slot. FlashError says what is wrong: size, no system in
    any slot, a manifest of another board, damaged contents.
    """
    problems: list[str] = []
    found: dict[str, SlotManifest | None] = {}
    try:
        size = image.stat().st_size
        if size != board.flash.size:
            word = "truncated" if size < board.flash.size else "too long"
            raise FlashError(image, [f"is {word}: {size} bytes; {board.name} has {board.flash.size}"])
        with image.open("rb") as flash:
            for slot in board.flash.slots:
                found[slot.name] = _verify_slot(board, slot, flash, problems)
        if manifest is not None:
            _verify_against(board, image, manifest, problems)
    except OSError as error:
        raise FlashError(error.filename or image, [f"cannot be read: {error.strerror}"]) from None
    if not problems and not any(found.values()):
        problems.append("holds no system: both slot manifests are erased")
    if problems:
        raise FlashError(image, problems)
    return found


def _verify_slot(board: Board, slot: Slot, flash: BinaryIO, problems: list[str]) -> SlotManifest | None:
    flash.seek(slot.manifest.offset)
    try:
        manifest = decode_manifest(flash.read(slot.manifest.size))
    except ValueError as error:
        problems.append(f"{slot.manifest.name}: {error}")
        return None
    if manifest is None:
        return None
    if manifest.board != board.name:
        problems.append(f"{slot.manifest.name}: is for board {manifest.board!r}; expected {board.name!r}")
        return manifest
    for partition, content in zip(
        (slot.fit, slot.rofs), (manifest.parts[p] for p in SLOT_PARTS), strict=True
    ):
        if content.size > partition.size:
            problems.append(f"{partition.name}: manifest says {content.size} bytes; {partition.size} fit")
        elif _hash_range(flash, partition.offset, content.size) != content.sha256:
            problems.append(f"{partition.name}: contents do not match the sha256 in {slot.manifest.name}")
    return manifest


def _verify_against(board: Board, image: Path, manifest: Path, problems: list[str]) -> None:
    try:
        described = json.loads(manifest.read_bytes())
        named, digest = described["board"], described["flash"]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        problems.append(f"{manifest.name}: is not a flash manifest")
        return
    if named != board.name:
        problems.append(f"{manifest.name}: is for board {named!r}; expected {board.name!r}")
    elif digest != _hash_file(image):
        problems.append(f"image does not match the sha256 in {manifest.name}")


def _measure(board: Board, images: Mapping[str, Path]) -> dict[str, Content]:
    problems: list[str] = []
    contents: dict[str, Content] = {}
    generated = {slot.manifest.name for slot in board.flash.slots}
    allowed = [p.name for p in board.flash.partitions if p.name not in generated]
    for name, path in images.items():
        if name not in allowed:
            problems.append(f"{name}: no such partition to fill; there are {', '.join(allowed)}")
            continue
        partition = board.flash.partition(name)
        try:
            size, digest = path.stat().st_size, _hash_file(path)
        except OSError as error:
            problems.append(f"{name}: {path} cannot be read: {error.strerror}")
            continue
        if size > partition.size:
            problems.append(
                f"{name}: {path} is {size - partition.size} bytes over the {partition.size} that fit"
            )
        contents[name] = Content(size, digest)
    for slot in board.flash.slots:
        given = [partition.name for partition in (slot.fit, slot.rofs) if partition.name in images]
        if len(given) == 1:
            problems.append(
                f"slot {slot.name}: only {given[0]} is given; "
                f"a slot needs {slot.fit.name} and {slot.rofs.name}"
            )
    if problems:
        raise FlashError(f"flash image of {board.name}", problems)
    return contents


def _slot_manifest(board: Board, slot: Slot, release: Release, contents: Mapping[str, Content]) -> bytes:
    parts = {"fit": contents[slot.fit.name], "rofs": contents[slot.rofs.name]}
    return encode_manifest(SlotManifest(board.name, release, parts))


def _describe(
    board: Board,
    release: Release,
    contents: Mapping[str, Content],
    manifests: Mapping[str, bytes],
    digest: str,
) -> dict[str, object]:
    made = {name: Content(len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in manifests.items()}
    partitions = []
    for partition in board.flash.partitions:
        content = contents.get(partition.name) or made.get(partition.name)
        image = None if content is None else {"size": content.size, "sha256": content.sha256}
        partitions.append(
            {"name": partition.name, "offset": partition.offset, "size": partition.size, "image": image}
        )
    return {
        "schema": SCHEMA,
        "board": board.name,
        "version": release.version,
        "timestamp": release.timestamp,
        "flash": {"size": board.flash.size, "erase_block": board.flash.erase_block, "sha256": digest},
        "slots": [slot for slot in SLOT_NAMES if f"manifest-{slot}" in manifests],
        "partitions": partitions,
    }


def _copy(source: Path, flash: BinaryIO, partition: Partition, content: Content) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            flash.write(chunk)
    if digest.hexdigest() != content.sha256:
        raise FlashError(source, [f"changed while {partition.name} was being written"])


def _pad(flash: BinaryIO, end: int) -> None:
    missing = end - flash.tell()
    while missing > 0:
        missing -= flash.write(FILL * min(missing, CHUNK))


def _hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hash_range(stream: BinaryIO, offset: int, size: int) -> str:
    digest = hashlib.sha256()
    stream.seek(offset)
    while size > 0 and (chunk := stream.read(min(size, CHUNK))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _canonical(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
