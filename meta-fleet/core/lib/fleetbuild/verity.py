# SPDX-License-Identifier: Apache-2.0
"""The read-only root partition: squashfs, then its dm-verity hash tree in the same file."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from fleetbuild import BuildError, sandbox

BLOCK = 4096
# Reading is on demand over slow flash: bigger blocks pack better, smaller ones start services sooner.
SQUASHFS_BLOCK = 128 * 1024
COMPRESSION = ("-comp", "zstd", "-Xcompression-level", "19")


def make(sysroot: Path, work: Path, epoch: int) -> None:
    """Make ``work/rofs.img`` and ``work/verity.json`` from ``work/rootfs.tar``.

    The salt is the digest of the data: fixed for the same bytes, different for others. ``epoch`` (s) is the
    time of the file system and of all its files. Raises BuildError when a tool fails.
    """
    image, verity = work / "rofs.img", work / "verity.json"
    for path in (image, verity):
        path.unlink(missing_ok=True)
    _squashfs(sysroot, work, image.name, epoch)
    blocks = -(-image.stat().st_size // BLOCK)
    with image.open("r+b") as stream:
        salt = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.truncate(blocks * BLOCK)
    record = {
        "root_hash": _hash_tree(sysroot, work, image.name, salt, blocks),
        "salt": salt,
        "data_blocks": blocks,
        "hash_start_block": blocks,
    }
    verity.write_text(json.dumps(record, indent=1) + "\n")


def _squashfs(sysroot: Path, work: Path, image: str, epoch: int) -> None:
    words = ["mksquashfs", "-", image, "-tar", "-noappend", "-no-progress", "-quiet"]
    words += ["-b", str(SQUASHFS_BLOCK), "-mkfs-time", str(epoch), *COMPRESSION]
    # What the archive says of the top folder is not used, nor are -root-uid and -root-time with -tar (4.5.1):
    # its owner is the caller, hence root=True, and its time is now, unless -all-time names one.
    words += ["-root-mode", "0755", "-all-time", str(epoch)]
    sandbox.run(sysroot, work, ["sh", "-ec", f"{' '.join(words)} < rootfs.tar"], root=True)


def _hash_tree(sysroot: Path, work: Path, image: str, salt: str, blocks: int) -> str:
    """Append the hash tree to the data and return its root hash."""
    words = ["veritysetup", "format", image, image, "--no-superblock", "--hash=sha256", f"--salt={salt}"]
    words += [f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}"]
    words += [f"--data-blocks={blocks}", f"--hash-offset={blocks * BLOCK}"]
    output = sandbox.run(sysroot, work, words)
    match = re.search(r"^Root hash:\s*([0-9a-f]{64})$", output, re.M)
    if match is None:
        raise BuildError(f"veritysetup gave no root hash:\n{output}")
    return match.group(1)
