"""What a client staged, put together again from the pieces in which it came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import CommitChanges, TableChange
from jts_storage.domain.checks import FIRST_MS, LAST_MS, text, whole
from jts_storage.domain.columns import checked
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.events import DomainEvent, ForeignEvent
from jts_storage.domain.rows import SeriesRows
from jts_storage.errors import InvalidData, StorageError
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote.weighing import unpacked_bytes
from jts_storage.unit_of_work.journal_format import (
    are_rows,
    decode,
    decode_table,
    open_rows,
    rows_of_batch,
)
from jts_storage.unit_of_work.staged import event_of

_ROWS: Final = frozenset({"candles", "bars", "table"})
_WRONG: Final = (
    *(pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(OSError, EOFError, StopIteration, RecursionError, MemoryError),
)
"""What reading a chunk of a stranger may fail with."""


class StagedElsewhere:
    """The chunks of one unit of work, each checked as it comes.

    :param most_bytes: of all rows together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes, self._count = most_bytes, 0, 0
        self._described: list[bytes] = []
        self._known: CommitChanges | None = None
        self._tables: dict[str, list[pa.Table]] = {}
        self.events: list[pb.Event] = []
        """Those that are more than fit the request to commit, which has the last ones."""

    @property
    def is_empty(self) -> bool:
        """Whether no chunk has come."""
        return not self._count

    def add(self, chunk: pb.Chunk) -> None:
        """
        :raises InvalidData: it is none, or its rows are no candles.
        :raises StorageError: together they are too large.
        """
        self._count += 1
        if chunk.kind == "work" and self._known is None:
            self._described.append(chunk.data)
            self._weigh(len(chunk.data))
        elif chunk.kind in _ROWS:
            self._add_rows(chunk)
        elif chunk.kind == "events":
            self._weigh(len(chunk.data))
            self._add_events(chunk.data)
        else:
            raise InvalidData("is no chunk that is known here", field="chunk", value=chunk.kind)

    def changes(self, chunks: int) -> CommitChanges:
        """All of them as one.

        :param chunks: how many the client sent.
        :raises InvalidData: one is missing, or they do not go together.
        """
        if chunks != self._count:
            raise InvalidData("are not all here", field="chunks", value=self._count)
        changes = self._changes()
        if set(self._tables) - {change.name for change in changes.tables}:
            raise InvalidData("has rows of a table that it does not name", field="chunk")
        changes.tables = [self._with_rows(change) for change in changes.tables]
        return changes

    def _changes(self) -> CommitChanges:
        """All that is not rows, which came first."""
        if self._known is None:
            try:
                known = decode(b"".join(self._described))
                _check_described(known)
            except _WRONG as exc:
                raise _refused(exc) from exc
            self._known = known
        return self._known

    def _add_rows(self, chunk: pb.Chunk) -> None:
        # Before anything is unpacked: what is small on the way may be larger than the memory.
        self._weigh(unpacked_bytes(chunk.data))
        try:
            if chunk.kind == "table":
                table = decode_table(chunk.data)
                table.validate(full=True)
                self._tables.setdefault(chunk.table, []).append(table)
                return
            key = _key(chunk)
            rows = rows_of_batch(key, _batch(chunk.data, of_several=key is None))
        except _WRONG as exc:
            raise _refused(exc) from exc
        _check(rows)
        changes = self._changes()
        (changes.candles if chunk.kind == "candles" else changes.bars).save(rows)

    def _add_events(self, data: bytes) -> None:
        try:
            self.events += pb.Commit.FromString(data).events
        except DecodeError as exc:
            raise _refused(exc) from exc

    def _with_rows(self, change: TableChange) -> TableChange:
        found = self._tables.get(change.name)
        if not found:
            raise InvalidData(f"has no rows of {change.name}", field="chunk")
        return TableChange(change.name, change.store, change.mode, pa.concat_tables(found))

    def _weigh(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._most:
            raise StorageError(
                f"A unit of work stages more than {self._most:,} bytes.",
                remedy="Commit more often, or let the gateway take more (--staged-mb).",
            )


def events_of(messages: Sequence[pb.Event]) -> list[DomainEvent]:
    """The events of a client: of their classes where they are known here.

    :raises InvalidData: one is none.
    """
    found = []
    for message in messages:
        try:
            data = json.loads(message.data)
            known = event_of(message.class_name, data)
        except (ValueError, RecursionError) as exc:
            raise InvalidData(f"is no event of its class: {exc}", field="event") from exc
        found.append(known or _foreign(message, data))
    return found


def _foreign(message: pb.Event, data: Any) -> ForeignEvent:
    return ForeignEvent(
        id=message.id,
        type=message.type,
        class_name=message.class_name,
        of=message.key,
        data=data,
    )


def _check_described(changes: CommitChanges) -> None:
    """Check what JSON may have of any type; entities check themselves.

    :raises InvalidData: something is not as the repositories of a client stage it.
    """
    text(changes.candles.source, "source")
    for each in (changes.candles, changes.bars):
        for _, first, last in each.deletions:
            for moment in (first, last):
                whole(moment, "deleted", least=FIRST_MS, below=LAST_MS + 1)
            if first > last:
                raise InvalidData("is out of range", field="deleted", value=[first, last])
    for aggregate in changes.aggregates:
        text(aggregate.symbol, "symbol")
        whole(aggregate.base, "base")
        if not isinstance(aggregate.becomes, SymbolBars | None):
            raise InvalidData("are none", field="aggregates", value=aggregate.becomes)
    for checkpoint in changes.checkpoints:
        text(checkpoint.name, "name")
        for data in (checkpoint.becomes, checkpoint.base):
            if not isinstance(data, dict | str | None):
                raise InvalidData("is no checkpoint", field="checkpoints", value=data)
        if isinstance(checkpoint.becomes, str):
            raise InvalidData("is no checkpoint", field="checkpoints", value=checkpoint.becomes)


def _batch(data: bytes, *, of_several: bool) -> pa.RecordBatch:
    """:raises InvalidData: its columns are not those of candles, or their buffers are too short."""
    with open_rows(data) as stream:
        if not are_rows(stream.schema, of_several=of_several):
            raise InvalidData("has other columns than candles", field="chunk")
        batch = stream.read_next_batch()
    batch.validate(full=True)
    if any(column.null_count for column in batch.columns):
        raise InvalidData("has values that are null", field="chunk")
    return batch


def _check(rows: SeriesRows) -> None:
    """:raises InvalidData: a row is no candle, or a series does not ascend."""
    if len(set(rows.keys)) < len(rows.keys):
        raise InvalidData("names a series twice", field="chunk")
    checked(rows.columns)
    steps = np.diff(rows.columns.timestamp) > 0
    begins = np.zeros(len(steps) + 1, np.bool_)
    begins[rows.offsets[:-1][rows.offsets[:-1] < len(begins)]] = True
    if not (steps | begins[1:]).all():
        raise InvalidData("must ascend", field="timestamp")


def _key(chunk: pb.Chunk) -> SeriesKey | None:
    if not chunk.HasField("key"):
        return None
    timeframe = member(Timeframe, chunk.key.timeframe, "timeframe")
    return SeriesKey(chunk.key.symbol, timeframe, chunk.key.exchange)


def _refused(cause: Exception) -> InvalidData:
    if isinstance(cause, InvalidData):
        return cause
    return InvalidData(f"is no chunk of a unit of work: {cause}", field="chunk")
