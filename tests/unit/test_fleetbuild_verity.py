# SPDX-License-Identifier: Apache-2.0
"""The root partition, made by real tools (its sysroot is this machine's root) and read back by others."""

import hashlib
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from fleetbuild import BuildError, sandbox, verity
from fleetbuild.rootfs import capability
from fleetbuild.tree import Tree

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bwrap", "mksquashfs", "unsquashfs", "veritysetup")))
    or not sandbox.isolation_works(),
    reason="needs bubblewrap, user namespaces, squashfs-tools and cryptsetup-bin",
)
EPOCH = 1700000000
HOST = Path("/")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder with a small root file system in it."""
    top = tmp_path / "tree"
    (top / "usr/bin").mkdir(parents=True)
    (top / "etc").mkdir()
    (top / "usr/bin/tool").write_bytes(b"#!/bin/sh\n" * 1000)
    (top / "usr/bin/tool").chmod(0o755)
    (top / "usr/bin/link").symlink_to("./tool")
    (top / "etc/shadow").write_text("root:!:\n")
    tree = Tree(top)
    tree.set("etc/shadow", gid=42, mode=0o640)
    tree.set(
        "usr/bin/tool", xattrs={"security.capability": capability(["cap_net_raw"]), "user.any": b"\xff\0\n"}
    )
    tree.set("etc", uid=7, gid=8, mode=0o2775)
    work = tmp_path / "work"
    work.mkdir()
    with (work / "rootfs.tar").open("wb") as stream:
        tree.write_tar(stream, EPOCH)
    return work


def record(work: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads((work / "verity.json").read_text())
    return read


def test_owners_modes_links_and_times_are_in_the_image(work: Path) -> None:
    verity.make(HOST, work, EPOCH)
    words = ["unsquashfs", "-UTC", "-lln", str(work / "rofs.img")]
    listing = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    lines = [re.sub(" +", " ", line) for line in listing.splitlines() if "squashfs-root" in line]
    day = "2023-11-14 22:13"
    # The size of a folder is no matter of ours.
    assert [re.sub(r"^(d\S+ \S+) \d+", r"\1 -", line) for line in lines] == [
        f"drwxr-xr-x 0/0 - {day} squashfs-root",
        f"drwxrwsr-x 7/8 - {day} squashfs-root/etc",
        f"-rw-r----- 0/42 8 {day} squashfs-root/etc/shadow",
        f"drwxr-xr-x 0/0 - {day} squashfs-root/usr",
        f"drwxr-xr-x 0/0 - {day} squashfs-root/usr/bin",
        f"lrwxrwxrwx 0/0 6 {day} squashfs-root/usr/bin/link -> ./tool",
        f"-rwxr-xr-x 0/0 10000 {day} squashfs-root/usr/bin/tool",
    ]


def in_namespace(script: str, *arguments: object) -> str:
    """Run a shell script as root of a user namespace, who may set capabilities of files of his own."""
    words = ["unshare", "--user", "--map-root-user", "sh", "-ec", script, "sh", *map(str, arguments)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not shutil.which("getcap"), reason="needs the package libcap2-bin")
def test_capabilities_read_back_as_the_kernel_understands_them(work: Path) -> None:
    verity.make(HOST, work, EPOCH)
    script = (
        'unsquashfs -q -n -d "$1/out" "$1/rofs.img" usr/bin/tool > /dev/null; getcap "$1/out/usr/bin/tool"'
    )
    assert in_namespace(script, work) == f"{work}/out/usr/bin/tool cap_net_raw=ep\n"


def test_the_same_contents_give_the_same_bytes_at_any_time(work: Path) -> None:
    verity.make(HOST, work, EPOCH)
    first = ((work / "rofs.img").read_bytes(), record(work))
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.02)
    verity.make(HOST, work, EPOCH)
    assert ((work / "rofs.img").read_bytes(), record(work)) == first


def test_other_contents_have_another_salt_and_hash(work: Path) -> None:
    verity.make(HOST, work, EPOCH)
    first = record(work)
    verity.make(HOST, work, EPOCH + 1)
    assert record(work)["salt"] != first["salt"]
    assert record(work)["root_hash"] != first["root_hash"]


def test_the_hash_tree_covers_all_data(work: Path) -> None:
    verity.make(HOST, work, EPOCH)
    made = record(work)
    blocks = made["data_blocks"]
    assert isinstance(blocks, int)
    assert made["hash_start_block"] == blocks
    image = work / "rofs.img"
    data = image.read_bytes()
    assert len(data) % verity.BLOCK == 0
    assert hashlib.sha256(data[: blocks * verity.BLOCK]).hexdigest() == made["salt"]

    def verifies() -> bool:
        words = ["veritysetup", "verify", image, image, made["root_hash"], "--no-superblock", "--hash=sha256"]
        words += [
            f"--salt={made['salt']}",
            f"--data-block-size={verity.BLOCK}",
            f"--hash-block-size={verity.BLOCK}",
        ]
        words += [f"--data-blocks={blocks}", f"--hash-offset={blocks * verity.BLOCK}"]
        result = subprocess.run([str(word) for word in words], capture_output=True, check=False)
        return result.returncode == 0

    assert verifies()
    for place in (0, (blocks - 1) * verity.BLOCK, len(data) - verity.BLOCK):
        spoilt = bytearray(data)
        spoilt[place] ^= 1
        image.write_bytes(spoilt)
        assert not verifies()


def test_without_the_archive_it_is_an_error(work: Path) -> None:
    (work / "verity.json").write_text("of the last build")
    (work / "rootfs.tar").unlink()
    with pytest.raises(BuildError, match=r"mksquashfs(.|\n)*rootfs\.tar"):
        verity.make(HOST, work, EPOCH)
    assert not (work / "verity.json").exists()


def test_an_answer_without_root_hash_is_an_error(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sandbox.run

    def run(*words: object, **options: object) -> str:
        real(*words, **options)  # type: ignore[arg-type]
        return "Root hash: none\n"

    monkeypatch.setattr(sandbox, "run", run)
    with pytest.raises(BuildError, match="veritysetup gave no root hash:\nRoot hash: none"):
        verity.make(HOST, work, EPOCH)
