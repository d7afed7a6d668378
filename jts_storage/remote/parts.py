"""Answers that are larger than one message: cut into parts, and put together again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from jts_storage.errors import InvalidData, StorageError
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote import frames, values
from jts_storage.remote.wire import Batch

PIECE_BYTES: Final = 3 * 2**20


def parts_of(given: Any, *, compressed: bool = False) -> Iterator[pb.Part | Batch]:
    """The parts of one value: its message, then the batches of its columns."""
    batches: Iterator[memoryview] = iter(())
    value = pb.Value()
    if frames.are_columns(given):
        message, batches = frames.message_of(given, compressed=compressed)
        value.columns.CopyFrom(message)
    else:
        values.fill(value, given, "result")
    data = value.SerializeToString()
    for start in range(0, len(data), PIECE_BYTES):
        piece = data[start : start + PIECE_BYTES]
        is_last = start + PIECE_BYTES >= len(data)
        yield pb.Part(value=piece) if is_last else pb.Part(more_value=piece)
    for batch in batches:
        yield Batch(batch)


class Assembly:
    """Puts parts together, which come one after the other."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._arriving: frames.Arriving | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no value has begun."""
        return not self._pieces and self._arriving is None

    def add(self, part: pb.Part | Batch) -> list[Any]:
        """The value that this part completes, alone in a list, or nothing yet."""
        if isinstance(part, Batch) and self._arriving is not None:
            self._arriving.add(part.data)
        elif isinstance(part, pb.Part) and self._arriving is None:
            done = self._add_value(part)
            if self._arriving is None:
                return done
        else:
            raise InvalidData("comes out of turn", field="part")
        if not self._arriving.is_complete:
            return []
        arriving, self._arriving = self._arriving, None
        return [arriving.made()]

    def _add_value(self, part: pb.Part) -> list[Any]:
        if part.WhichOneof("piece") == "more_value":
            self._pieces.append(part.more_value)
            return []
        message = pb.Value.FromString(b"".join([*self._pieces, part.value]))
        self._pieces.clear()
        if message.WhichOneof("kind") == "columns":
            self._arriving = frames.Arriving(message.columns)
            return []
        return [values.read(message)]


async def assembled(parts: AsyncIterator[pb.Part | Batch]) -> AsyncIterator[Any]:
    """The values that parts hold.

    :raises StorageError: they end within one.
    """
    assembly = Assembly()
    async for part in parts:
        for value in assembly.add(part):
            yield value
    if not assembly.is_empty:
        raise StorageError("The gateway's answer ended in the middle of a value.")
