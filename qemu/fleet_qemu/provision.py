# SPDX-License-Identifier: Apache-2.0
"""Give a board its first credentials, as a factory line would.

The image holds no password and no key, so nobody can log in. Into the writable partition (rwfs, JFFS2, seen
as /var) of one board's flash copy go a one-time SSH key, a one-time root password and the board's own host
key; what the user needs of them goes into the board's folder, readable by its owner only. A file that the
accounts service consumes at its first start makes root one of its users, with the same password.

Formats come from the tools that own them: mkfs.jffs2 (mtd-utils), ssh-keygen, dropbearkey (dropbear-bin; the
BMC's SSH server reads no OpenSSH key), openssl passwd (Python's crypt module is gone in 3.13).
"""

import json
import os
import secrets
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fleet_qemu.errors import QemuError
from fleetboard import Board

USER = "root"
PARTITION = "rwfs"
GROUPS = ["ipmi", "redfish", "ssh", "web"]


@dataclass(frozen=True)
class Credentials:
    """Files that open one board, in a folder that only its owner can read."""

    folder: Path

    @property
    def key(self) -> Path:
        """Private SSH key."""
        return self.folder / "id_ed25519"

    @property
    def password_file(self) -> Path:
        """The root password, one line."""
        return self.folder / "password"

    @property
    def known_hosts(self) -> Path:
        """The board's host key, under the board's alias instead of address and port."""
        return self.folder / "known_hosts"

    @property
    def password(self) -> str:
        """The root password."""
        return self.password_file.read_text().strip()

    def exist(self) -> bool:
        """Whether the board has been provisioned."""
        return self.key.is_file() and self.known_hosts.is_file()

    def ssh_command(self, port: int, alias: str) -> list[str]:
        """Command that logs in at 127.0.0.1:`port`, asks nothing, and accepts this board's host key only."""
        options = {
            "UserKnownHostsFile": f'"{self.known_hosts}"',
            "HostKeyAlias": alias,
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": "20",
        }
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        # -F none: the user's own configuration has no say
        return ["ssh", "-F", "none", "-i", str(self.key), *flags, "-p", str(port), f"{USER}@127.0.0.1"]


def provision(board: Board, flash: Path, folder: Path, alias: str) -> Credentials:
    """Make new credentials in `folder` and write them into the rwfs partition of the file `flash`.

    What the partition held is gone. `alias` is the name under which the host key is known.
    """
    credentials = _new_credentials(folder)
    with tempfile.TemporaryDirectory(prefix="fleet-rwfs-") as work:
        tree = Path(work) / "tree"
        host_key = _fill(tree, credentials)
        credentials.known_hosts.write_text(f"{alias} {host_key}\n")
        image = Path(work) / "rwfs.jffs2"
        make_jffs2(board, tree, image)
        _write_partition(board, flash, image)
    return credentials


def make_jffs2(board: Board, tree: Path, image: Path) -> None:
    """Pack `tree`, all of it owned by root, into a file system that fills the rwfs partition.

    Every erase block gets a clean marker (mkfs.jffs2 does so when it pads), or the first mount erases them
    all.
    """
    size = board.flash.partition(PARTITION).size
    _run(
        "mkfs.jffs2",
        "--little-endian",
        "--faketime",
        "--squash-uids",
        "--compression-mode=none",  # a few hundred bytes, not worth the BMC's time
        f"--eraseblock={board.flash.erase_block}",
        f"--pad={size}",
        f"--root={tree}",
        f"--output={image}",
        package="mtd-utils",
    )
    if image.stat().st_size != size:
        raise QemuError(f"the first contents of {PARTITION} do not fit into its {size} bytes")


def _new_credentials(folder: Path) -> Credentials:
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    credentials = Credentials(folder)
    for file in folder.iterdir():
        file.unlink()
    _run(
        "ssh-keygen",
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-C",
        "one-time key",
        "-f",
        str(credentials.key),
        package="openssh-client",
    )
    _write_private(credentials.password_file, secrets.token_urlsafe(15) + "\n")
    return credentials


def _fill(tree: Path, credentials: Credentials) -> str:
    """Lay out rwfs under `tree`; the board's public host key."""
    home_ssh = tree / "root" / ".ssh"
    dropbear = tree / "etc" / "dropbear"
    accounts = tree / "lib" / "accounts"
    for folder, mode in (
        (tree, 0o755),
        (tree / "root", 0o700),
        (home_ssh, 0o700),
        (tree / "etc", 0o755),
        (dropbear, 0o700),
        (accounts.parent, 0o755),
        (accounts, 0o700),
    ):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    _write_private(home_ssh / "authorized_keys", credentials.key.with_suffix(".pub").read_text())
    hashed = _run("openssl", "passwd", "-6", "-stdin", stdin=credentials.password, package="openssl").strip()
    days = int(time.time() // 86400)
    _write_private(tree / "etc" / "shadow", f"{USER}:{hashed}:{days}:0:99999:7:::\n")
    _write_private(accounts / "provision.json", _first_user(hashed, credentials.password))
    key = dropbear / "dropbear_ed25519_host_key"
    output = _run("dropbearkey", "-t", "ed25519", "-f", str(key), package="dropbear-bin")
    return next(" ".join(line.split()[:2]) for line in output.splitlines() if line.startswith("ssh-ed25519 "))


def _first_user(hashed: str, password: str) -> str:
    """Return what the accounts service makes its first user of (fleet_accounts/provision.py).

    IPMI computes with the password itself; the board seals it with a key that nobody else has. Root owns the
    file here, and systemd hands the service's folder over with all that is in it (systemd.exec(5),
    StateDirectory=).
    """
    user = {"privilege": "priv-admin", "enabled": True, "groups": GROUPS, "password": hashed}
    return json.dumps({"format": 1, "users": {USER: {**user, "ipmi_password": password}}}) + "\n"


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _write_partition(board: Board, flash: Path, image: Path) -> None:
    partition = board.flash.partition(PARTITION)
    with flash.open("r+b") as file:
        file.seek(partition.offset)
        file.write(image.read_bytes())


def _run(*argv: str, package: str, stdin: str = "") -> str:
    # mkfs.jffs2 is in /usr/sbin, which is not on every user's PATH
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env=env)
    except FileNotFoundError:
        raise QemuError(
            f"{argv[0]} is not installed", f"run './fleet setup', or install Debian's package {package}"
        ) from None
    if done.returncode != 0:
        raise QemuError(f"{argv[0]} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
