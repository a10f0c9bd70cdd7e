# SPDX-License-Identifier: Apache-2.0
"""The first contents of rwfs, read back with jffs2dump and the owners of each format."""

import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import fleetboard
from accounts_fakes import FlakyFolder
from fleet_accounts import users
from fleet_accounts.provision import take
from fleet_accounts.secret import Vault
from fleet_accounts.store import Store
from fleet_qemu.board import DEFAULT_BOARD_FILE
from fleet_qemu.errors import QemuError
from fleet_qemu.provision import PARTITION, Credentials, provision

BOARD = fleetboard.load(DEFAULT_BOARD_FILE)
RWFS = BOARD.flash.partition(PARTITION)


@dataclass(frozen=True)
class Provisioned:
    flash: Path
    rwfs: bytes
    credentials: Credentials


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    folder = tmp_path_factory.mktemp("board")
    flash = folder / "flash.img"
    with flash.open("wb") as file:
        file.write(b"boot loader")
        file.truncate(BOARD.flash.size)
    credentials = provision(BOARD, flash, folder / "credentials", "fleet-x1-0")
    return Provisioned(flash, flash.read_bytes()[RWFS.offset : RWFS.end], credentials)


def run(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_flash_keeps_its_size_and_everything_else(board: Provisioned) -> None:
    data = board.flash.read_bytes()
    assert len(data) == BOARD.flash.size
    assert data[: RWFS.offset].rstrip(b"\0") == b"boot loader"
    assert not data[RWFS.end :].strip(b"\0")


def test_every_erase_block_is_clean_or_in_use(board: Provisioned) -> None:
    """The kernel would erase a block that does not begin with a JFFS2 node: seconds on the first boot."""
    magic = (0x1985).to_bytes(2, "little")
    starts = [board.rwfs[at : at + 2] for at in range(0, RWFS.size, BOARD.flash.erase_block)]
    assert len(starts) == RWFS.size // BOARD.flash.erase_block
    assert set(starts) == {magic}


def test_names_in_the_file_system(board: Provisioned, tmp_path: Path) -> None:
    image = tmp_path / "rwfs"
    image.write_bytes(board.rwfs)
    dump = run("/usr/sbin/jffs2dump", "--littleendian", "--content", image)
    names = set(re.findall(r"Dirent .* name (\S+)", dump))
    assert names == {
        *("root", ".ssh", "authorized_keys"),
        *("etc", "shadow", "dropbear", "dropbear_ed25519_host_key"),
        *("lib", "accounts", "provision.json"),
    }
    assert "Wrong" not in dump  # a checksum


def test_authorized_key_is_the_users_key(board: Provisioned) -> None:
    public = run("ssh-keygen", "-y", "-f", board.credentials.key).split()[:2]
    assert public[0] == "ssh-ed25519"
    assert " ".join(public).encode() in board.rwfs


def test_password_opens_the_hash_in_shadow(board: Provisioned) -> None:
    match = re.search(rb"root:(\$6\$([^$]+)\$[^:]+):\d+:0:99999:7:::\n", board.rwfs)
    assert match
    again = run("openssl", "passwd", "-6", "-salt", match[2].decode(), board.credentials.password)
    assert again.strip() == match[1].decode()
    # in plain text for IPMI, once, in the file that the accounts service consumes
    assert board.rwfs.count(board.credentials.password.encode()) == 1


def test_the_accounts_service_takes_the_first_user(board: Provisioned) -> None:
    start = board.rwfs.index(b'{"format": 1, "users": {"root":')
    folder = FlakyFolder()
    folder.files["provision.json"] = board.rwfs[start : board.rwfs.index(b"\n", start) + 1]
    store, vault = Store(folder), Vault(folder)
    assert take(folder, store, vault) == ["root"]
    assert store.problems == []
    root = store.users["root"]
    assert (root.id, root.privilege, root.enabled, root.groups) == (1, "priv-admin", True, users.GROUPS)
    assert root.password.encode() in board.rwfs[: board.rwfs.index(b":0:99999:7:::")]  # as in shadow
    assert vault.open("root", root.secret) == board.credentials.password.encode()


def test_known_host_is_the_boards_host_key(board: Provisioned, tmp_path: Path) -> None:
    alias, kind, key = board.credentials.known_hosts.read_text().split()
    assert (alias, kind) == ("fleet-x1-0", "ssh-ed25519")
    at = board.rwfs.index(b"\0\0\0\x0bssh-ed25519\0\0\0\x40")  # dropbear's format: type, 64 bytes of key
    host_key = tmp_path / "host_key"
    host_key.write_bytes(board.rwfs[at : at + 83])
    assert key in run("dropbearkey", "-y", "-f", host_key)


def test_files_are_their_owners_only(board: Provisioned) -> None:
    assert stat.S_IMODE(board.credentials.folder.stat().st_mode) == 0o700
    for file in (board.credentials.key, board.credentials.password_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_board_gets_its_own(board: Provisioned, tmp_path: Path) -> None:
    flash = tmp_path / "flash.img"
    with flash.open("wb") as file:
        file.truncate(BOARD.flash.size)
    first = provision(BOARD, flash, tmp_path / "credentials", "a")
    password, key, host = first.password, first.key.read_text(), first.known_hosts.read_text()
    assert password != board.credentials.password
    again = provision(BOARD, flash, tmp_path / "credentials", "a")  # a second time over the first
    assert again.password != password
    assert again.key.read_text() != key
    assert again.known_hosts.read_text() != host


def test_missing_tool_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QemuError, match="ssh-keygen is not installed") as caught:
        provision(BOARD, tmp_path / "flash.img", tmp_path / "credentials", "a")
    assert "openssh-client" in caught.value.remedy


def test_ssh_command_trusts_this_board_only(tmp_path: Path) -> None:
    argv = Credentials(tmp_path / "with space").ssh_command(2222, "fleet-x1-7")
    assert argv[0] == "ssh"
    assert argv[-3:] == ["-p", "2222", "root@127.0.0.1"]
    settings = run(*argv[:1], "-G", *argv[1:]).splitlines()  # ssh's own understanding of it
    assert "stricthostkeychecking true" in settings
    assert "hostkeyalias fleet-x1-7" in settings
    assert f"userknownhostsfile {tmp_path}/with space/known_hosts" in settings
    assert "batchmode yes" in settings
