# SPDX-License-Identifier: Apache-2.0
"""What is saved comes back, or is known to be damaged; never half of it."""

import json
import os
from pathlib import Path

import pytest

from fleet_acpi_state.states import S0, S2
from fleet_acpi_state.store import Store, StoreError
from fleet_acpi_state.tracker import HOST, Known

KNOWN = Known(S0, S0, HOST, 1_790_000_000_000, S2, "0123abcd", 7)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.load() == Known()
    store.save(KNOWN)
    assert Store(str(tmp_path)).load() == KNOWN
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_failed_save_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    store.save(KNOWN)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"state.json cannot be written: No space left on device"):
        store.save(KNOWN._replace(cycle=8))
    assert store.load() == KNOWN
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_data_is_in_flash_before_it_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        calls.append("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def traced_replace(source: str, target: str) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    Store(str(tmp_path)).save(KNOWN)
    assert calls == ["fsync state.json.new", "replace", f"fsync {tmp_path.name}"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"system": "S6"},
        {"system": 5},
        {"cycle": "7"},
        {"cycle": True},
        {"device": None},
    ],
)
def test_damage_is_named(change: dict[str, object], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.save(KNOWN)
    data = json.loads(Path(store.path).read_text())
    Path(store.path).write_text(json.dumps({**data, **change}))
    with pytest.raises(StoreError, match=r"state.json is damaged: "):
        store.load()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\xff"])
def test_what_is_no_state_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=r"state.json is damaged: "):
        Store(str(tmp_path)).load()
