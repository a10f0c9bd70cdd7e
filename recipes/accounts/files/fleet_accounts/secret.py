# SPDX-License-Identifier: Apache-2.0
"""Passwords: hashed for those that ask for the password itself, sealed for IPMI, which computes with it.

RAKP (IPMI 2.0, 13.31) is an HMAC under the password, so the BMC must know it. It is sealed by AES-256-GCM
under a key of this board, `key`, 32 random bytes that are made when they are first needed; the user's name is
authenticated with it, so that nobody's password can be made another's. The key is in the same flash: this
keeps passwords out of copies of the users' file, not from who has the whole flash.

What computes is imported when it is needed and not before: it takes long on the board, and memory.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from fleet_accounts.storage import Storage, replace, set_aside
from fleet_accounts.users import IPMI_PASSWORD_BYTES
from fleet_bmc_common import log

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_FILE = "key"
KEY_BYTES = 32
_NONCE_BYTES = 12
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # crypt(5)
_SALT_CHARACTERS = 16
_NOBODY = "$6$" + "." * _SALT_CHARACTERS + "$" + "." * 86


class SecretError(Exception):
    """A secret cannot be sealed or opened; one line."""


class Vault:
    """Seals and opens secrets with the key of this board."""

    def __init__(self, storage: Storage, random: Callable[[int], bytes] = os.urandom) -> None:
        self._storage = storage
        self._random = random

    def seal(self, user: str, password: str) -> str:
        """Return a password of at most 20 bytes sealed for this user, in hex.

        SecretError when flash refuses.
        """
        try:
            key = self._key()
            if len(key) != KEY_BYTES:
                key = self._make_key(damaged=key != b"")
        except OSError as error:
            raise SecretError(f"the key of this board cannot be written: {error.strerror}") from None
        nonce = self._random(_NONCE_BYTES)
        # zeros behind it are no part of the password (IPMI 2.0, 22.30), and its length is nobody's business
        plain = password.encode().ljust(IPMI_PASSWORD_BYTES, b"\0")
        return (nonce + _cipher(key).encrypt(nonce, plain, user.encode())).hex()

    def open(self, user: str, sealed: str) -> bytes:
        """Return the password that was sealed for this user; SecretError when there is none to be had."""
        data = bytes.fromhex(sealed)
        if not data:
            raise SecretError(f"{user} has no password for IPMI; set it")
        try:
            key = self._key()
        except OSError as error:
            raise SecretError(f"the key of this board cannot be read: {error.strerror}") from None
        if len(key) != KEY_BYTES:
            state = "damaged" if key else "gone"
            raise SecretError(f"the key of this board is {state}; set the password of {user} again")
        cipher = _cipher(key)
        from cryptography.exceptions import InvalidTag

        try:
            plain = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], user.encode())
        except InvalidTag:
            raise SecretError(
                f"the secret of {user} is not from this board's key; set the password again"
            ) from None
        return bytes(plain).rstrip(b"\0")

    def _key(self) -> bytes:
        """What is in the key's file; nothing when there is none."""
        try:
            return self._storage.read(KEY_FILE)
        except FileNotFoundError:
            return b""

    def _make_key(self, *, damaged: bool) -> bytes:
        if damaged:
            done = set_aside(self._storage, KEY_FILE)
            log.error(
                f"{KEY_FILE} has not {KEY_BYTES} bytes; {done}; set all passwords again that IPMI needs"
            )
        key = self._random(KEY_BYTES)
        replace(self._storage, KEY_FILE, key)
        return key


def hash_password(password: str) -> str:
    """Return a new hash of the kind `$6$`, with a random salt and the usual 5000 rounds."""
    salt = "".join(_ALPHABET[byte & 63] for byte in os.urandom(_SALT_CHARACTERS))
    return _crypt(password, f"$6${salt}$")


def is_password(password: str, hashed: str) -> bool:
    """Whether `hashed` is of this password. It takes as long for an empty hash, and the answer is no."""
    from hmac import compare_digest

    return compare_digest(_crypt(password, hashed or _NOBODY), hashed or _NOBODY) and hashed != ""


def _crypt(password: str, setting: str) -> str:
    """crypt(3) of libcrypt. Python has a module for it before 3.13."""
    try:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import crypt
    except ModuleNotFoundError:
        return _crypt_of_library(password, setting)
    return crypt.crypt(password, setting)


def _crypt_of_library(password: str, setting: str) -> str:
    import ctypes
    import ctypes.util

    function = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1").crypt
    function.argtypes, function.restype = [ctypes.c_char_p, ctypes.c_char_p], ctypes.c_char_p
    return str((function(password.encode(), setting.encode()) or b"*").decode())


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
