"""`Part` messages to and from bytes, with batches of columns copied no more than they must be.

What is made is what protobuf would make of the message, but for the padding. A batch then lies at a
multiple of eight bytes, so that its columns can be used where they arrived.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from jts_storage.proto.jts.storage.v1 import values_pb2 as pb

_BATCH_TAG: Final = pb.Part.BATCH_FIELD_NUMBER << 3 | 2
_PADDING_TAG: Final = pb.Part.PADDING_FIELD_NUMBER << 3 | 2
_ALIGNMENT: Final = 8


class Batch(NamedTuple):
    """The data of a batch, in place of a `Part` that holds them."""

    data: memoryview | bytes


def serialized(part: pb.Part | Batch) -> bytes:
    if not isinstance(part, Batch):
        return part.SerializeToString()
    size = _varint(len(part.data))
    missing = -(2 + 1 + len(size)) % _ALIGNMENT
    head = bytes((_PADDING_TAG, missing)) + bytes(missing) + bytes((_BATCH_TAG,)) + size
    return b"".join((head, part.data))


def deserialized(data: bytes) -> pb.Part | Batch:
    """:raises DecodeError: it is no part."""
    at = 0
    if len(data) > 2 and data[0] == _PADDING_TAG and data[1] < _ALIGNMENT:
        at = 2 + data[1]
    if len(data) > at and data[at] == _BATCH_TAG:
        size, begin = _read_varint(data, at + 1)
        if begin + size == len(data):
            return Batch(memoryview(data)[begin:])
    return pb.Part.FromString(data)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and where what follows begins; a number that fits nothing if it does not end."""
    number = shift = 0
    for place in range(at, min(at + 5, len(data))):
        number |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return number, place + 1
        shift += 7
    return len(data), len(data)
