"""What a source yields, and how it becomes columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage.domain import interchange
from jts_storage.domain.columns import (
    AnyArray,
    Columns,
    Int64Array,
    concatenate,
    empty,
)
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.adjusting import Adjusted
from jts_storage.readers.epochs import Epochs
from jts_storage.readers.owners import Labels, Owners
from jts_storage.readers.owners import joined as labels_joined
from jts_storage.readers.timestamps import TimestampReader, joined
from jts_storage.readers.values import ValueReader, remedy_for

NOTHING_ADJUSTED = Adjusted()


class Source(Protocol):
    """Rows from somewhere, as Arrow tables whose columns are named by their target.

    A table has ``timestamp`` or ``date`` (and ``time``), the prices, ``volume``, and ``symbol``,
    ``exchange``, ``timeframe``, ``market`` and ``deleted`` where the source tells them; values are
    text or as the source types them.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> Mapping[str, Any] | None:
        """What identifies the content of the source; None if a change could not be noticed."""
        ...

    @property
    def commas_separate(self) -> bool:
        """Whether commas separate fields, so that one within a number is quoted."""
        ...

    def tables(self, broken: list[BrokenRow] | None = None) -> Iterator[Any]:
        """Yield the rows.

        :param broken: takes the rows that cannot be read, in their order, each before the table
            that follows it; without it the first is refused.
        """
        ...

    def location(self, row: int, target: str) -> str:
        """Describe where the value is: ``prices.csv, line 7, column '종가'``."""
        ...

    def progress(self) -> float | None:
        """Return how much of the source has been read, from 0 to 1; None if unknown."""
        ...


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read.

    :param before: how many rows that can be read stand before it.
    :param line: where it stands in the file.
    """

    before: int
    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a source; none, if those that are left cannot be read.

    :param stop_row: the number of the row after them.
    :param columns: their values; rows with something missing hold zeros.
    :param rows: the number of each row in its source.
    :param labels: which series the rows belong to.
    :param missing: where a price or the volume is missing.
    :param table: the rows as they came.
    :param broken: rows among them that cannot be read.
    :param adjusted: which of the values were rounded, because the caller asked for it.
    """

    stop_row: int
    columns: Columns
    rows: Int64Array
    labels: Labels
    missing: AnyArray
    table: Any
    adjusted: Adjusted = NOTHING_ADJUSTED
    broken: tuple[BrokenRow, ...] = ()

    @property
    def first_row(self) -> int:
        return int(self.rows[0])


@dataclass(slots=True)
class Reader:
    """Turns tables of one source into blocks.

    :param epochs: for each timeframe, the unit found so far of timestamps that are numbers.
    :param keeps_broken: whether rows that cannot be read are kept aside; otherwise the first one is
        refused.
    :param owners: finds the series of each row; None if that is not needed.
    """

    timestamps: TimestampReader
    values: ValueReader = field(default_factory=ValueReader)
    epochs: dict[Timeframe, Epochs] = field(default_factory=dict)
    owners: Owners | None = None
    keeps_broken: bool = False

    def blocks(self, source: Source, rows: int, skip: int = 0) -> Iterator[Block]:
        """Blocks of exactly `rows`, but for the last, after the first `skip` rows.

        Where blocks begin depends on nothing but the two numbers.
        """
        first = skip
        read: list[Block] = []
        broken: list[BrokenRow] = []
        tables = source.tables(broken if self.keeps_broken else None)
        for piece in _pieces(tables, rows, skip):
            # Converted at once, so that the text of a block need not be kept until it is full.
            read.append(self._read(piece, first, source))
            first += piece.num_rows
            if first - read[0].first_row == rows:
                yield _with_broken(_together(read), broken, skip)
                read = []
        if read:
            yield _with_broken(_together(read), broken, skip)
        if any(row.before >= skip for row in broken):
            yield _with_broken(_nothing(first), broken, skip)

    def _read(self, table: Any, first: int, source: Source) -> Block:
        try:
            return self._parsed(table, first, source)
        except InvalidData as exc:
            if exc.row is None or exc.field is None:
                raise
            where = source.location(first + exc.row, exc.field)
            # Without the row and field of the block: the location names those of the source.
            rule = str(exc.args[0]).partition(": ")[2]
            error = InvalidData(f"{where}: {rule}", remedy=remedy_for(exc))
            error.row, error.field, error.value = first + exc.row, exc.field, exc.value
            raise error from exc

    def _parsed(self, table: Any, first: int, source: Source) -> Block:
        columns = {name: _whole(table.column(name)) for name in table.column_names}
        labels = self.owners.labels(columns, table.num_rows) if self.owners else Labels()
        stamps = self._stamps(columns, labels)
        values = self.values.read(columns, source)
        # Prices that are read already are put in afterwards: here they stand as zeros.
        nothing = pa.array(np.zeros(table.num_rows, np.int64))
        arrays = {"timestamp": pa.array(stamps)} | dict.fromkeys(values.ready, nothing)
        ready: dict[str, Any] = dict(values.ready)
        parsed = interchange.from_arrow(pa.table(arrays | values.others), "exact")
        rows = np.arange(first, first + table.num_rows, dtype=np.int64)
        return Block(
            first + table.num_rows,
            parsed._replace(**ready),
            rows,
            labels,
            values.missing,
            table,
            values.adjusted,
        )

    def _stamps(self, columns: Mapping[str, Any], labels: Labels) -> Int64Array:
        moments = _moments(columns)
        timeframes = [key.timeframe for key in labels.keys] or [self.timestamps.timeframe]
        if len(set(timeframes)) == 1:
            return self._stamps_of(timeframes[0], moments)
        assert labels.which is not None
        stamps = np.empty(len(moments), np.int64)
        for timeframe in dict.fromkeys(timeframes):
            its = [number for number, other in enumerate(timeframes) if other is timeframe]
            rows = np.flatnonzero(np.isin(labels.which, its))
            try:
                stamps[rows] = self._stamps_of(timeframe, moments.take(pa.array(rows)))
            except InvalidData as exc:
                if exc.row is not None:
                    exc.row = int(rows[exc.row])
                raise
        return stamps

    def _stamps_of(self, timeframe: Timeframe, moments: Any) -> Int64Array:
        seen = self.epochs.setdefault(timeframe, Epochs())
        return replace(self.timestamps, timeframe=timeframe).read(moments, seen)


def _pieces(tables: Iterable[Any], rows: int, skip: int) -> Iterator[Any]:
    """The tables after the first `skip` rows, cut wherever `rows` are full."""
    room = rows
    for table in tables:
        done = min(skip, table.num_rows)
        skip -= done
        while done < table.num_rows:
            piece = table.slice(done, room)
            done += piece.num_rows
            room = room - piece.num_rows or rows
            yield piece


def _together(pieces: list[Block]) -> Block:
    if len(pieces) == 1:
        return pieces[0]
    return Block(
        pieces[-1].stop_row,
        concatenate([piece.columns for piece in pieces]),
        np.concatenate([piece.rows for piece in pieces]),
        labels_joined([piece.labels for piece in pieces], [len(piece.rows) for piece in pieces]),
        np.concatenate([piece.missing for piece in pieces]),
        pa.concat_tables([piece.table for piece in pieces]),
        sum((piece.adjusted for piece in pieces), NOTHING_ADJUSTED),
    )


def _nothing(row: int) -> Block:
    """A block without rows, before that row."""
    return Block(row, empty(), np.empty(0, np.int64), Labels(), np.empty(0, np.bool_), None)


def _with_broken(block: Block, broken: list[BrokenRow], skip: int) -> Block:
    """The block with the broken rows before its end, which are taken out of the list.

    :param skip: rows before that one, and broken ones among them, were handled by an earlier run.
    """
    count = sum(row.before < block.stop_row or not len(block.rows) for row in broken)
    taken = tuple(row for row in broken[:count] if row.before >= skip)
    del broken[:count]
    return replace(block, broken=taken)


def _whole(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = (
            pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], column.type)
        )
    if pa.types.is_null(combined.type):
        return pc.cast(combined, pa.string())
    return combined


def _moments(columns: Mapping[str, Any]) -> Any:
    if "timestamp" in columns:
        return columns["timestamp"]
    if "time" in columns:
        return joined(columns["date"], columns["time"])
    return columns["date"]


def as_json_rows(table: Any, rows: AnyArray) -> list[dict[str, Any]]:
    """Some rows as JSON values, for people to look at."""
    taken = table.take(pa.array(rows, pa.int64()))
    return [
        {
            name: value if isinstance(value, int | str | None) else str(value)
            for name, value in r.items()
        }
        for r in taken.to_pylist()
    ]
