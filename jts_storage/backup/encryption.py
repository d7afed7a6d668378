"""Encryption of what a repository holds, by AES-256-GCM of `cryptography`."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Final

from jts_storage.backup.errors import DamagedBackup
from jts_storage.errors import InvalidConfiguration

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


def new_key() -> str:
    """Return a random key as text, for ``JTS_BACKUP_KEY``."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


class Cipher:
    """Encrypts and decrypts pieces with one key.

    :param key: as `new_key` made it.
    :raises InvalidConfiguration: it is no such key, or `cryptography` is not installed.
    """

    def __init__(self, key: str) -> None:
        try:
            secret = base64.urlsafe_b64decode(key.encode())
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != _KEY_BYTES:
            raise InvalidConfiguration(
                f"the key of a backup repository must be {_KEY_BYTES} bytes in base64",
                remedy="Make one by `jts-storage backup key`; keep it apart from the backups.",
            )
        self._aes = _aes(secret)

    def encrypted(self, data: bytes, about: bytes) -> bytes:
        """:param about: what the piece is, without which it cannot be decrypted."""
        # Random nonces of 96 bits: after 2**32 pieces of a key (4 PB) a new one is due.
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, data, about)

    def decrypted(self, data: bytes, about: bytes) -> bytes:
        """:raises DamagedBackup: it is not what was encrypted, or not by this key."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aes.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], about)
        except (InvalidTag, ValueError) as exc:
            raise DamagedBackup("it cannot be decrypted with this key") from exc


def _aes(secret: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as exc:
        raise InvalidConfiguration(
            "JTS_BACKUP_KEY is set, but cryptography is not installed",
            remedy='Install it with: pip install "jts-storage[backup]"',
        ) from exc
    return AESGCM(secret)
