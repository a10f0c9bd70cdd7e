# SPDX-License-Identifier: Apache-2.0
"""Flash images: what goes in comes out, and nothing damaged passes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fleetboard
from fleetboard import flash
from fleetboard.model import Board, Flash, Partition

X1 = fleetboard.load(Path(__file__).parents[2] / "meta-fleet/bsp/boards/fleet-x1.toml")
RELEASE = flash.Release("1.2.3+g0123abc", 1_700_000_000)

# The regions of a real board on a flash small enough for many examples. Deliberately not in order of offset.
BLOCK = 4096
MAP = {
    "u-boot": (0, 1),
    "u-boot-env": (1, 2),
    "rwfs": (15, 1),
    **{"fit-a": (3, 2), "manifest-a": (5, 1), "rofs-a": (6, 3)},
    **{"fit-b": (9, 2), "manifest-b": (11, 1), "rofs-b": (12, 3)},
}
SMALL = dataclasses.replace(
    X1,
    flash=Flash(
        size=16 * BLOCK,
        erase_block=BLOCK,
        mapped_at=0,
        partitions=tuple(
            Partition(name, start * BLOCK, count * BLOCK, index)
            for index, (name, (start, count)) in enumerate(MAP.items())
        ),
    ),
)
SLOT_PARTS = {slot.name: (slot.fit, slot.rofs) for slot in SMALL.flash.slots}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def files(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    paths = {}
    for name, data in contents.items():
        paths[name] = folder / f"in-{name}"
        paths[name].write_bytes(data)
    return paths


def full() -> dict[str, bytes]:
    return {name: name.encode() * 100 for name in ("u-boot", "fit-a", "rofs-a", "fit-b", "rofs-b")}


def build(folder: Path, contents: dict[str, bytes], board: Board = SMALL) -> Path:
    out = folder / "flash.img"
    flash.assemble(board, files(folder, contents), out, RELEASE, folder / "flash-manifest.json")
    return out


def problems(board: Board, image: Path, manifest: Path | None = None) -> str:
    with pytest.raises(flash.FlashError) as caught:
        flash.verify(board, image, manifest)
    return str(caught.value)


@st.composite
def contents(draw: st.DrawFn) -> dict[str, bytes]:
    """Any choice of partitions with any contents that fit; slots whole or not at all."""
    names = [name for name in ("u-boot", "u-boot-env", "rwfs") if draw(st.booleans())]
    for slot in draw(st.sets(st.sampled_from("ab"), min_size=1)):
        names += [f"fit-{slot}", f"rofs-{slot}"]
    # seeds, not bytes: hypothesis need not invent every byte
    return {
        name: hashlib.shake_128(draw(st.binary(max_size=4))).digest(
            draw(st.integers(0, MAP[name][1] * BLOCK) | st.just(MAP[name][1] * BLOCK))
        )
        for name in names
    }


@settings(deadline=None)
@given(contents())
def test_everything_is_in_its_place_and_the_rest_is_erased(data: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        image = build(Path(name), data).read_bytes()
        slots = flash.verify(SMALL, Path(name) / "flash.img", Path(name) / "flash-manifest.json")
    assert len(image) == SMALL.flash.size
    for partition in SMALL.flash.partitions:
        region = image[partition.offset : partition.end]
        if partition.name.startswith("manifest-"):
            continue
        held = data.get(partition.name, b"")
        assert region == held.ljust(partition.size, b"\xff")
    for slot, parts in SLOT_PARTS.items():
        manifest = slots[slot]
        assert (manifest is not None) == (f"fit-{slot}" in data)
        if manifest is not None:
            assert manifest.board == SMALL.name
            assert manifest.release == RELEASE
            for part, partition in zip(flash.SLOT_PARTS, parts, strict=True):
                held = data[partition.name]
                assert manifest.parts[part] == flash.Content(len(held), hashlib.sha256(held).hexdigest())


@pytest.fixture(scope="module")
def sound() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as name:
        yield build(Path(name), full()).read_bytes()


def covered() -> list[int]:
    """Return the offsets that a slot's manifest answers for: its parts, and the manifest but its padding."""
    found: list[int] = []
    for fit, rofs in SLOT_PARTS.values():
        for partition in (fit, rofs):
            found += range(partition.offset, partition.offset + len(full()[partition.name]))
    for slot in SMALL.flash.slots:
        content = flash.Content(len(full()[slot.fit.name]), "0" * 64)
        manifest = flash.SlotManifest(SMALL.name, RELEASE, {"fit": content, "rofs": content})
        found += range(slot.manifest.offset, slot.manifest.offset + len(flash.encode_manifest(manifest)))
    return found


@pytest.mark.parametrize(("old", "new"), [(b"1.2.3", b"1.2.4"), (b"1700000000", b"1700000001")])
def test_a_manifest_with_another_version_or_time_does_not_match_its_sum(
    folder: Path, sound: bytes, old: bytes, new: bytes
) -> None:
    image = folder / "flash.img"
    image.write_bytes(sound.replace(old, new))
    assert "manifest-b: does not match its own sha256" in problems(SMALL, image)


@settings(deadline=None, max_examples=300)
@given(offset=st.sampled_from(covered()), flip=st.integers(1, 255))
def test_any_changed_byte_of_a_system_is_found(sound: bytes, offset: int, flip: int) -> None:
    damaged = bytearray(sound)
    damaged[offset] ^= flip
    with tempfile.TemporaryDirectory() as name:
        image = Path(name) / "flash.img"
        image.write_bytes(damaged)
        problems(SMALL, image)


@settings(deadline=None)
@given(raw=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_manifest_partition_is_decoded_or_refused(raw: bytes) -> None:
    try:
        manifest = flash.decode_manifest(raw.ljust(BLOCK, b"\xff"))
    except ValueError:
        return
    assert manifest is None
    assert not raw.strip(b"\xff")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = ("schema", "board", "version", "timestamp", "images")


@settings(deadline=None)
@given(key=st.sampled_from(KEYS), value=JSON)
def test_a_manifest_with_a_right_sum_and_wrong_types_is_refused_not_crashed(key: str, value: object) -> None:
    content = flash.Content(1, "0" * 64)
    body = json.loads(
        flash.encode_manifest(flash.SlotManifest("x", RELEASE, {"fit": content, "rofs": content}))
    )
    del body["sha256"]
    body[key] = value
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    body["sha256"] = hashlib.sha256(canonical).hexdigest()
    try:
        found = flash.decode_manifest(json.dumps(body).encode())
    except ValueError:
        return
    assert found is not None
    assert isinstance(value, str | int)


@pytest.mark.parametrize("size", [0, 1, SMALL.flash.size - 1])
def test_a_truncated_image_is_named_so(folder: Path, sound: bytes, size: int) -> None:
    image = folder / "flash.img"
    image.write_bytes(sound[:size])
    assert f"is truncated: {size} bytes; fleet-x1 has {SMALL.flash.size}" in problems(SMALL, image)


def test_a_long_image_is_named_so(folder: Path, sound: bytes) -> None:
    image = folder / "flash.img"
    image.write_bytes(sound + b"\xff")
    assert "is too long" in problems(SMALL, image)


def test_the_image_of_another_board_is_refused(folder: Path) -> None:
    other = dataclasses.replace(SMALL, identity=dataclasses.replace(SMALL.identity, name="fleet-y9"))
    image = build(folder, full(), other)
    text = problems(SMALL, image, folder / "flash-manifest.json")
    assert "manifest-a: is for board 'fleet-y9'; expected 'fleet-x1'" in text
    assert "flash-manifest.json: is for board 'fleet-y9'" in text


def test_an_erased_image_holds_no_system(folder: Path) -> None:
    image = folder / "flash.img"
    image.write_bytes(b"\xff" * SMALL.flash.size)
    assert "holds no system" in problems(SMALL, image)


def test_damage_outside_the_slots_is_found_by_the_flash_manifest(folder: Path) -> None:
    image = build(folder, full())
    data = bytearray(image.read_bytes())
    data[0] ^= 1
    image.write_bytes(data)
    assert flash.verify(SMALL, image)["a"] is not None
    assert "does not match the sha256 in flash-manifest.json" in problems(
        SMALL, image, folder / "flash-manifest.json"
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"board": "fleet-x1", "flash": 3}', "[" * 9999])
def test_a_bad_flash_manifest_is_named(folder: Path, text: str) -> None:
    image = build(folder, full())
    manifest = folder / "flash-manifest.json"
    manifest.write_text(text)
    assert "flash-manifest.json: is not a flash manifest" in problems(SMALL, image, manifest)


def test_missing_files_are_named(folder: Path) -> None:
    assert "cannot be read: No such file" in problems(SMALL, folder / "none.img")
    image = build(folder, full())
    assert "none.json:" in problems(SMALL, image, folder / "none.json")


def test_the_flash_manifest_lists_every_partition(folder: Path) -> None:
    image = build(folder, full())
    described = json.loads((folder / "flash-manifest.json").read_text())
    assert described["board"] == "fleet-x1"
    assert described["version"] == RELEASE.version
    assert described["slots"] == ["a", "b"]
    assert described["flash"]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    by_name = {entry["name"]: entry for entry in described["partitions"]}
    assert list(by_name) == [p.name for p in SMALL.flash.partitions]
    assert by_name["rwfs"]["image"] is None
    for name, data in full().items():
        assert by_name[name]["image"] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_what_is_over_is_counted_and_nothing_is_written(folder: Path) -> None:
    data = {**full(), "fit-b": b"x" * (2 * BLOCK + 7), "u-boot": b"x" * (BLOCK + 1)}
    with pytest.raises(flash.FlashError) as caught:
        build(folder, data)
    text = str(caught.value)
    assert "fit-b: " in text
    assert "is 7 bytes over the 8192 that fit" in text
    assert "is 1 bytes over the 4096" in text
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("in-")) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boot": b"x"}, "boot: no such partition to fill; there are u-boot, u-boot-env, rwfs, fit-a"),
        ({"manifest-a": b"x"}, "manifest-a: no such partition to fill"),
    ],
)
def test_partitions_that_cannot_be_filled_are_named(
    folder: Path, change: dict[str, bytes], words: str
) -> None:
    with pytest.raises(flash.FlashError, match=words):
        build(folder, {**full(), **change})


def test_half_a_slot_is_refused(folder: Path) -> None:
    data = full()
    del data["rofs-b"]
    with pytest.raises(flash.FlashError, match="slot b: only fit-b is given; a slot needs fit-b and rofs-b"):
        build(folder, data)


def test_an_unreadable_part_is_named(folder: Path) -> None:
    images = {**files(folder, full()), "rwfs": folder / "none.jffs2"}
    with pytest.raises(flash.FlashError, match=r"rwfs: .*none.jffs2 cannot be read"):
        flash.assemble(SMALL, images, folder / "flash.img", RELEASE)


def test_two_builds_give_the_same_bytes(folder: Path) -> None:
    first = build(folder, full()).read_bytes(), (folder / "flash-manifest.json").read_bytes()
    second = build(folder, full()).read_bytes(), (folder / "flash-manifest.json").read_bytes()
    assert first == second


@pytest.mark.parametrize("version", ["", "a b", "x" * 65, '"', "-1"])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        flash.Release(version, 0)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="timestamp"):
        flash.Release("1", -1)


def test_a_manifest_that_promises_more_than_fits_is_refused(folder: Path, sound: bytes) -> None:
    content = flash.Content(1 << 30, "0" * 64)
    manifest = flash.SlotManifest("fleet-x1", RELEASE, {"fit": content, "rofs": content})
    data = bytearray(sound)
    offset = SMALL.flash.slot("a").manifest.offset
    data[offset : offset + BLOCK] = flash.encode_manifest(manifest).ljust(BLOCK, b"\xff")
    image = folder / "flash.img"
    image.write_bytes(data)
    assert "rofs-a: manifest says 1073741824 bytes; 12288 fit" in problems(SMALL, image)


def test_a_real_board_is_assembled_to_its_full_size(folder: Path) -> None:
    image = build(folder, full(), X1)
    assert image.stat().st_size == 128 << 20
    assert set(flash.verify(X1, image, folder / "flash-manifest.json")) == {"a", "b"}
