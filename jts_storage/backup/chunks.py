"""How an object lies in a repository: frames of at most a megabyte, compressed where that pays.

An object begins with a mark, the version of the format, and whether it is encrypted. Each frame has
its length as it was and as it is stored, and what was done to it. The last one is empty: an object
that ends earlier was cut off. Memory is a few frames, whatever the size of an object.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import pyarrow as pa

from jts_storage.backup.encryption import Cipher
from jts_storage.backup.errors import DamagedBackup
from jts_storage.errors import InvalidConfiguration

FRAME_BYTES: Final = 1 << 20
_MARK: Final = b"JTSB"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sBB2x")
_FRAME: Final = struct.Struct("<IIB3x")
_PLACE: Final = struct.Struct("<QB")
_PLAIN, _ZSTD, _LAST = 0, 1, 255
_WORTH: Final = 0.95
"""A frame that zstd does not bring below that is stored as it is."""

_ZSTD_LEVEL: Final = 1


@dataclass(frozen=True, slots=True)
class Written:
    """What became of an object.

    :param object: SHA-256 of it as it is stored, its name in the repository.
    :param stored: its bytes there.
    :param raw: its bytes before.
    :param content: SHA-256 of these.
    """

    object: str
    stored: int
    raw: int
    content: str


def write(
    source: Iterable[bytes | memoryview], target: IO[bytes], cipher: Cipher | None
) -> Written:
    """Write an object."""
    stored, content = hashlib.sha256(), hashlib.sha256()
    sizes = [0, 0]

    def put(data: bytes) -> None:
        stored.update(data)
        sizes[0] += len(data)
        target.write(data)

    put(_HEAD.pack(_MARK, _VERSION, cipher is not None))
    codec = pa.Codec("zstd", compression_level=_ZSTD_LEVEL)
    number = 0
    for frame in _frames(source):
        content.update(frame)
        sizes[1] += len(frame)
        put(_stored_frame(number, frame, codec, cipher))
        number += 1
    put(_encoded(number, b"", 0, _LAST, cipher))
    return Written(stored.hexdigest(), sizes[0], sizes[1], content.hexdigest())


def read(source: IO[bytes], cipher: Cipher | None) -> Iterator[bytes]:
    """The frames of an object, as they were before.

    :raises DamagedBackup: it is not as it was written.
    :raises InvalidConfiguration: it is encrypted, and no key is given.
    """
    _check_head(source, cipher)
    codec = pa.Codec("zstd")
    number = 0
    while True:
        raw, length, kind = _unpacked(_FRAME, source.read(_FRAME.size))
        # A damaged length must not fill the memory.
        if raw > FRAME_BYTES or length > 2 * FRAME_BYTES:
            raise DamagedBackup("a frame of it has an impossible length")
        data = source.read(length)
        if len(data) != length:
            raise DamagedBackup("it is cut off")
        if cipher is not None:
            data = cipher.decrypted(data, _PLACE.pack(number, kind))
        if kind == _LAST:
            break
        yield _raw_frame(data, raw, kind, codec)
        number += 1
    if source.read(1):
        raise DamagedBackup("something follows behind its end")


def _frames(source: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    waiting = bytearray()
    for each in source:
        waiting += each
        while len(waiting) >= FRAME_BYTES:
            yield bytes(waiting[:FRAME_BYTES])
            del waiting[:FRAME_BYTES]
    if waiting:
        yield bytes(waiting)


def _stored_frame(number: int, frame: bytes, codec: pa.Codec, cipher: Cipher | None) -> bytes:
    packed: bytes = codec.compress(frame, asbytes=True)
    if len(packed) < _WORTH * len(frame):
        return _encoded(number, packed, len(frame), _ZSTD, cipher)
    return _encoded(number, frame, len(frame), _PLAIN, cipher)


def _encoded(number: int, data: bytes, raw: int, kind: int, cipher: Cipher | None) -> bytes:
    if cipher is not None:
        data = cipher.encrypted(data, _PLACE.pack(number, kind))
    return _FRAME.pack(raw, len(data), kind) + data


def _raw_frame(data: bytes, raw: int, kind: int, codec: pa.Codec) -> bytes:
    if kind == _ZSTD:
        try:
            data = codec.decompress(data, decompressed_size=raw, asbytes=True)
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise DamagedBackup("a frame of it cannot be decompressed") from exc
    elif kind != _PLAIN:
        raise DamagedBackup("a frame of it is of no known kind")
    if len(data) != raw:
        raise DamagedBackup("a frame of it has another length")
    return data


def _check_head(source: IO[bytes], cipher: Cipher | None) -> None:
    mark, version, is_encrypted = _unpacked(_HEAD, source.read(_HEAD.size))
    if mark != _MARK or version < 1 or is_encrypted not in (0, 1):
        raise DamagedBackup("it does not begin as an object does")
    if version > _VERSION:
        raise InvalidConfiguration(
            f"an object of this repository has format {version}",
            remedy="A later release of jts_storage wrote it: use that.",
        )
    if is_encrypted and cipher is None:
        raise InvalidConfiguration(
            "this repository of backups is encrypted, and no key is given",
            remedy="Set JTS_BACKUP_KEY to its key.",
        )
    if cipher is not None and not is_encrypted:
        raise DamagedBackup("it is not encrypted, in a repository that is")


def _unpacked(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    if len(data) != layout.size:
        raise DamagedBackup("it is cut off")
    return layout.unpack(data)
