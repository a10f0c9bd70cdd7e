# SPDX-License-Identifier: Apache-2.0
"""Passwords, hashed and sealed."""

import random
import subprocess
import sys

import pytest

from accounts_fakes import FlakyFolder, PowerCut
from fleet_accounts import secret, users
from fleet_accounts.secret import KEY_FILE, SecretError, Vault, hash_password, is_password

PASSWORD = "one-time password 20"


@pytest.fixture
def folder() -> FlakyFolder:
    return FlakyFolder()


@pytest.fixture
def vault(folder: FlakyFolder) -> Vault:
    return Vault(folder)


# --- Sealed ---


@pytest.mark.parametrize("password", [PASSWORD, "12345678", "ä" * 10])
def test_what_is_sealed_is_opened(vault: Vault, password: str) -> None:
    sealed = vault.seal("root", password)
    assert users.check_sealed(sealed) == sealed
    assert vault.open("root", sealed) == password.encode()
    assert password.encode().hex() not in sealed


def test_no_seal_is_like_another(vault: Vault) -> None:
    assert len({vault.seal("root", PASSWORD) for _ in range(20)}) == 20
    assert len({len(vault.seal("root", "x" * length)) for length in range(8, 21)}) == 1


def test_the_key_is_made_once_and_stays(folder: FlakyFolder, vault: Vault) -> None:
    assert folder.files == {}
    sealed = vault.seal("root", PASSWORD)
    key = folder.files[KEY_FILE]
    assert len(key) == 32
    assert Vault(folder).open("root", sealed) == PASSWORD.encode()
    vault.seal("root", PASSWORD)
    assert folder.files == {KEY_FILE: key}
    other = FlakyFolder()
    Vault(other).seal("root", PASSWORD)
    assert other.files[KEY_FILE] != key


def test_a_secret_is_one_users(vault: Vault) -> None:
    sealed = vault.seal("root", PASSWORD)
    with pytest.raises(SecretError, match="the secret of guest is not from this board's key"):
        vault.open("guest", sealed)


def test_each_byte_counts(vault: Vault) -> None:
    sealed = bytes.fromhex(vault.seal("root", PASSWORD))
    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        with pytest.raises(SecretError, match="set the password again"):
            vault.open("root", damaged.hex())


def test_a_user_without_secret(vault: Vault) -> None:
    with pytest.raises(SecretError, match="root has no password for IPMI; set it"):
        vault.open("root", "")


def test_a_key_that_is_gone(folder: FlakyFolder, vault: Vault) -> None:
    sealed = vault.seal("root", PASSWORD)
    del folder.files[KEY_FILE]
    with pytest.raises(SecretError, match="key of this board is gone; set the password of root again"):
        vault.open("root", sealed)
    assert folder.files == {}


def test_a_damaged_key_makes_room_for_a_new_one(
    folder: FlakyFolder, vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed = vault.seal("root", PASSWORD)
    folder.files[KEY_FILE] = b"short"
    with pytest.raises(SecretError, match="key of this board is damaged"):
        vault.open("root", sealed)
    again = vault.seal("root", PASSWORD)
    assert vault.open("root", again) == PASSWORD.encode()
    assert folder.files["key.damaged"] == b"short"
    assert "key has not 32 bytes; it is now key.damaged; set all passwords again" in capsys.readouterr().err
    with pytest.raises(SecretError, match="not from this board's key"):
        vault.open("root", sealed)


def test_flash_that_refuses(folder: FlakyFolder, vault: Vault) -> None:
    folder.is_full = True
    with pytest.raises(SecretError, match="cannot be written: No space left on device"):
        vault.seal("root", PASSWORD)


def test_a_key_is_whole_after_a_power_cut() -> None:
    for seed in range(100):
        folder = FlakyFolder(random.Random(seed))
        folder.cut_at = seed % 2 + 1
        with pytest.raises(PowerCut):
            Vault(folder).seal("root", PASSWORD)
        assert len(folder.files.get(KEY_FILE, bytes(32))) == 32
        vault = Vault(folder)
        assert vault.open("root", vault.seal("root", PASSWORD)) == PASSWORD.encode()
        assert set(folder.files) == {KEY_FILE}


# --- Hashed ---


def test_hash() -> None:
    hashed = hash_password(PASSWORD)
    assert users.check_hash(hashed) == hashed
    assert hash_password(PASSWORD) != hashed
    assert is_password(PASSWORD, hashed)
    for wrong in ("", PASSWORD + "x", PASSWORD[:-1], PASSWORD.upper()):
        assert not is_password(wrong, hashed)


def test_the_hash_is_that_of_other_programs() -> None:
    argv = ["openssl", "passwd", "-6", "-salt", "saltsalt", PASSWORD]
    hashed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    assert users.check_hash(hashed) == hashed
    assert is_password(PASSWORD, hashed)


def test_no_hash_is_nobodys() -> None:
    for password in ("", PASSWORD):
        assert not is_password(password, "")


def test_without_pythons_module(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = hash_password(PASSWORD)
    monkeypatch.setitem(sys.modules, "crypt", None)  # Python 3.13 has none
    assert is_password(PASSWORD, hashed)
    assert not is_password(PASSWORD + "x", hashed)


def test_libraries_wait_until_they_are_needed() -> None:
    program = "import sys, fleet_accounts.__main__; print(*sys.modules)"
    path = {"PYTHONPATH": ":".join(sys.path)}
    argv = [sys.executable, "-c", program]
    loaded = subprocess.run(argv, env=path, capture_output=True, text=True, check=True).stdout.split()
    assert secret.__name__ in loaded
    assert not {"cryptography", "crypt", "hmac", "ctypes.util"} & set(loaded)
