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
COMPRESSION = ["-comp", "zstd", "-Xcompression-level", "19"]


def make(sysroot: Path, work: Path, epoch: int) -> None:
    """Make ``work/rofs.img`` and ``work/verity.json`` from ``work/rootfs.tar``.

    The salt is the digest of the data: fixed for the same bytes, different for others. ``epoch`` (s) is the
    time in the file system's header. Raises BuildError when a tool fails.
    """
    image = work / "rofs.img"
    image.unlink(missing_ok=True)
    options = ["-noappend", "-no-progress", "-b", str(SQUASHFS_BLOCK), "-root-mode", "0755", *COMPRESSION]
    # From an archive, mksquashfs 4.5 gives the top folder its own user and the present time, whatever the options
    # say: so it runs as root of its namespace, and SOURCE_DATE_EPOCH, which also dates the header, holds the time.
    script = f"mksquashfs - rofs.img -tar {' '.join(options)} < rootfs.tar"
    dated = {"SOURCE_DATE_EPOCH": str(epoch)}
    sandbox.run(sysroot, work, ["sh", "-ec", script], environment=dated, root=True)
    size = image.stat().st_size
    blocks = -(-size // BLOCK)
    with image.open("r+b") as stream:
        salt = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.truncate(blocks * BLOCK)
    output = sandbox.run(
        sysroot,
        work,
        [
            *(
                "veritysetup",
                "format",
                "rofs.img",
                "rofs.img",
                "--no-superblock",
                "--hash=sha256",
                f"--salt={salt}",
            ),
            *(f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}"),
            *(f"--data-blocks={blocks}", f"--hash-offset={blocks * BLOCK}"),
        ],
    )
    match = re.search(r"^Root hash:\s*([0-9a-f]{64})$", output, re.M)
    if match is None:
        raise BuildError(f"veritysetup gave no root hash:\n{output}")
    record = {"root_hash": match.group(1), "salt": salt, "data_blocks": blocks, "hash_start_block": blocks}
    (work / "verity.json").write_text(json.dumps(record, indent=1) + "\n")
