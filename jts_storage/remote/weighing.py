"""How large an Arrow stream becomes, told from its headers: a few bytes can unpack to any size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from jts_storage.errors import InvalidData

_MARK: Final = b"\xff\xff\xff\xff"
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3  # fields of `Message`
_BUFFERS, _COMPRESSION = 2, 3  # of `RecordBatch`
_DATA: Final = 1  # of `DictionaryBatch`
_OF_DICTIONARY, _OF_ROWS = 2, 3  # header types
_PAIR: Final = 16


def unpacked_bytes(data: bytes) -> int:
    """The bytes of all buffers of an Arrow stream, as its reader will allocate them.

    :raises InvalidData: it is none.
    """
    try:
        return sum(_sizes(data))
    except (struct.error, IndexError) as exc:
        raise InvalidData("is no Arrow stream", field="chunk") from exc


def _sizes(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        if data[at : at + 4] == _MARK:
            at += 4
        (length,) = struct.unpack_from("<i", data, at)
        at += 4
        if length == 0:  # the end
            return
        if length < 0 or at + length > len(data):
            raise IndexError(length)
        header = data[at : at + length]
        at += length
        message = _Table(header, _offset(header, 0))
        body_length = message.long(_BODY_LENGTH)
        if not 0 <= body_length <= len(data) - at:
            raise IndexError(body_length)
        yield from _buffers(message, data[at : at + body_length])
        at += body_length


def _buffers(message: _Table, body: bytes) -> Iterator[int]:
    kind, found = message.byte(_HEADER_TYPE), message.table(_HEADER)
    if kind == _OF_DICTIONARY and found is not None:
        found = found.table(_DATA)
    elif kind != _OF_ROWS:
        return
    if found is None:
        return
    is_packed = found.field(_COMPRESSION) is not None
    for start, size in found.pairs(_BUFFERS):
        if start < 0 or size < 0 or start + size > len(body):
            raise IndexError(start)
        unpacked = -1
        if is_packed and size >= 8:
            (unpacked,) = struct.unpack_from("<q", body, start)
        if unpacked < -1:
            raise IndexError(unpacked)
        yield size if unpacked == -1 else unpacked


class _Table:
    """A table of the FlatBuffers in which Arrow writes its headers."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        (back,) = struct.unpack_from("<i", data, _place(data, at))
        self._fields = _place(data, at - back)
        (self._size,) = struct.unpack_from("<H", data, self._fields)

    def field(self, number: int) -> int | None:
        """Where a field is; None if it has its default."""
        place = 4 + 2 * number
        if place + 2 > self._size:
            return None
        (offset,) = struct.unpack_from("<H", self._data, self._fields + place)
        return _place(self._data, self._at + offset) if offset else None

    def byte(self, number: int) -> int:
        at = self.field(number)
        return 0 if at is None else self._data[at]

    def long(self, number: int) -> int:
        at = self.field(number)
        found: int = 0 if at is None else struct.unpack_from("<q", self._data, at)[0]
        return found

    def table(self, number: int) -> _Table | None:
        at = self.field(number)
        return None if at is None else _Table(self._data, _offset(self._data, at))

    def pairs(self, number: int) -> Iterator[tuple[int, int]]:
        """A vector of pairs of whole numbers."""
        at = self.field(number)
        if at is None:
            return
        at = _offset(self._data, at)
        (count,) = struct.unpack_from("<I", self._data, at)
        if count * _PAIR > len(self._data):
            raise IndexError(count)
        for n in range(count):
            yield struct.unpack_from("<qq", self._data, at + 4 + n * _PAIR)


def _offset(data: bytes, at: int) -> int:
    """Where an offset at a place leads to."""
    (offset,) = struct.unpack_from("<I", data, at)
    return _place(data, at + offset)


def _place(data: bytes, at: int) -> int:
    if not 0 <= at < len(data):
        raise IndexError(at)
    return at
