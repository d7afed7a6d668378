"""What a source yields, and how it becomes columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

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
from jts_storage.readers.moments import Plans, at_fault, settled, whole
from jts_storage.readers.owners import MARKETS, Labels, Owners
from jts_storage.readers.owners import joined as labels_joined
from jts_storage.readers.rows import (
    BrokenRow,
    RowLine,
    Rows,
    kept_text,
    may_stand_aside,
    placed,
    remedy_of_broken,
    unreadable,
)
from jts_storage.readers.timestamps import TimestampReader
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

    def columns(self, targets: Collection[str]) -> Iterator[Any]:
        """Yield tables of those of its columns only, without the rows that cannot be read."""
        ...

    def location(self, row: int, target: str) -> str:
        """Describe where the value is: ``prices.csv, line 7, column '종가'``."""
        ...

    def lines_of(self, rows: Sequence[int]) -> list[RowLine]:
        """Return where rows stand: their lines, or their numbers from 1 where it has no lines.

        :param rows: ascending.
        """
        ...

    def progress(self) -> float | None:
        """Return how much of the source has been read, from 0 to 1; None if unknown."""
        ...


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

    def places(self, rows: AnyArray) -> AnyArray:
        """Where rows of the source, given by their numbers, stand in the table."""
        return np.searchsorted(self.rows, rows)


@dataclass(slots=True)
class Reader:
    """Turns tables of one source into blocks.

    What moments and numbers mean is settled by the whole source, so that each row is read in the
    same way wherever a block begins.

    :param owners: finds the series of each row; None if that is not needed.
    :param keeps_broken: whether rows that cannot be read are kept aside; otherwise the first one is
        refused.
    """

    timestamps: TimestampReader
    values: ValueReader = field(default_factory=ValueReader)
    owners: Owners | None = None
    keeps_broken: bool = False
    _plans: Plans = field(default_factory=Plans, init=False)

    def blocks(self, source: Source, rows: int, skip: int = 0) -> Iterator[Block]:
        """Blocks of exactly `rows`, but for the last, after the first `skip` rows.

        Where blocks begin depends on nothing but the two numbers.
        """
        self.settle(source)
        first = begun = skip
        read: list[Block] = []
        broken: list[BrokenRow] = []
        tables = source.tables(broken if self.keeps_broken else None)
        for piece in _pieces(tables, rows, skip):
            # Converted at once, so that the text of a block need not be kept until it is full.
            read += self._read(piece, first, source, broken)
            first += piece.num_rows
            if first - begun == rows:
                yield _with_broken(_together(read, first), broken, skip)
                read, begun = [], first
        if first > begun:
            yield _with_broken(_together(read, first), broken, skip)
        if any(row.before >= skip for row in broken):
            yield _with_broken(_nothing(first), broken, skip, is_end=True)

    def settle(self, source: Source) -> None:
        """Find out what moments and labels mean, by the whole source."""
        of_several = self.owners is not None and self.owners.wanted.timeframe is None
        try:
            if self.owners is not None:
                self.owners.look(source)
            self._plans = settled(
                source,
                has_format=self.timestamps.format is not None,
                has_unit=self.timestamps.unit is not None,
                by_timeframe=of_several,
            )
            if self.owners is not None:
                self._look_at_markets(source, self.owners)
        except InvalidData as exc:
            if exc.row is None:
                raise
            raise _placed(exc, exc.row, source) from exc

    def _look_at_markets(self, source: Source, owners: Owners) -> None:
        try:
            owners.look_at_markets(_numbered(source.columns(MARKETS)))
        except InvalidData as exc:
            if not self.keeps_broken or exc.row is None:
                raise
            # A row that cannot be read says nothing of the others, so they are looked at alone.
            owners.look_at_markets(self._all_readable(source))

    def _all_readable(self, source: Source) -> Iterator[tuple[Int64Array, Any]]:
        broken: list[BrokenRow] = []
        for numbers, table in _numbered(source.tables(broken)):
            if len(numbers):
                for block in self._read(table, int(numbers[0]), source, broken):
                    yield block.rows, block.table
            broken.clear()

    def _read(self, table: Any, first: int, source: Source, broken: list[BrokenRow]) -> list[Block]:
        """Read the rows; those with a value that cannot be read go to `broken`, if they may."""
        columns = {name: whole(table.column(name)) for name in table.column_names}
        try:
            labels = self.owners.labels(columns, table.num_rows) if self.owners else Labels()
        except InvalidData as exc:
            if exc.row is None or exc.field is None:
                raise
            # A row before it may have something else that is refused.
            if exc.row:
                self._read(table.slice(0, exc.row), first, source, broken)
            raise _placed(exc, first + exc.row, source) from exc
        numbers = np.arange(first, first + table.num_rows, dtype=np.int64)
        rows = Rows(columns, labels, numbers, table)
        try:
            return [self._parsed(rows, source)]
        except InvalidData as exc:
            if exc.row is None or exc.field is None:
                raise
        aside: list[BrokenRow] = []
        blocks = self._readable(rows, source, aside)
        lines = source.lines_of([row.before for row in aside])
        found = [placed(row, line) for row, line in zip(aside, lines, strict=True)]
        # Rows that are not counted stand before the one that comes next.
        broken[:] = sorted([*broken, *found], key=lambda row: (row.before, row.line))
        return blocks

    def _readable(self, rows: Rows, source: Source, aside: list[BrokenRow]) -> list[Block]:
        """Read what can be read of rows of which some cannot."""
        blocks: list[Block] = []
        if not self.keeps_broken:
            self._split(rows, source, blocks, aside)
            return blocks
        # One by one where a value seems to be no number; the search for others takes longer.
        for row in np.flatnonzero(rows.seem_wrong()).tolist():
            one = rows.slice(row, 1)
            try:
                self._parsed(one, source)
            except InvalidData as exc:
                if may_stand_aside(exc):
                    aside.append(unreadable(one, exc))
        gone = np.isin(rows.numbers, [row.before for row in aside])
        # All others in their order, so that the first that must not stand aside is the one told.
        self._split(rows.take(np.flatnonzero(~gone)), source, blocks, aside)
        aside.sort(key=lambda row: row.before)
        return blocks

    def _split(
        self, rows: Rows, source: Source, blocks: list[Block], aside: list[BrokenRow]
    ) -> None:
        """Read rows, each half for itself where some of them cannot be read."""
        count = len(rows.numbers)
        if not count:
            return
        try:
            blocks.append(self._parsed(rows, source))
        except InvalidData as exc:
            if exc.row is None or exc.field is None:
                raise
            if count > 1:
                self._split(rows.slice(0, count // 2), source, blocks, aside)
                self._split(rows.slice(count // 2, count), source, blocks, aside)
            elif self.keeps_broken and may_stand_aside(exc):
                aside.append(unreadable(rows, exc))
            else:
                raise _row_refused(exc, rows, source) from exc

    def _parsed(self, rows: Rows, source: Source) -> Block:
        stamps = self.stamps(rows.columns, rows.labels)
        parsed, values = self.values.parsed(rows.columns, stamps, source)
        return Block(
            int(rows.numbers[-1]) + 1 if len(rows.numbers) else 0,
            parsed,
            rows.numbers,
            rows.labels,
            values.missing,
            rows.table,
            values.adjusted,
        )

    def stamps(self, columns: Mapping[str, Any], labels: Labels) -> Int64Array:
        """The timestamps of rows, of a source that is settled."""
        moments = self._plans.moments(columns)
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
        reader = replace(self.timestamps, timeframe=timeframe)
        return reader.read(moments, self._plans.of(timeframe))


def _numbered(tables: Iterable[Any]) -> Iterator[tuple[Int64Array, Any]]:
    """The tables, and the number of each of their rows in the source."""
    first = 0
    for table in tables:
        yield np.arange(first, first + table.num_rows, dtype=np.int64), table
        first += table.num_rows


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


def _placed(error: InvalidData, row: int, source: Source, target: str | None = None) -> InvalidData:
    """The error with the place in the source, instead of row and field of the block."""
    where = source.location(row, target or error.field or "")
    rule = str(error.args[0]).partition(": ")[2]
    placed = InvalidData(f"{where}: {rule}", remedy=remedy_for(error))
    placed.row, placed.field, placed.value = row, error.field, error.value
    return placed


def _row_refused(error: InvalidData, row: Rows, source: Source) -> InvalidData:
    target = at_fault(row.columns, 0) if error.field == "timestamp" else error.field
    placed = _placed(error, int(row.numbers[0]), source, target)
    if may_stand_aside(error):
        placed.remedy = placed.remedy or remedy_of_broken()
    return placed


def _together(pieces: list[Block], stop: int) -> Block:
    """One block of several pieces, up to that row; what is missing of them was set aside."""
    if not pieces:
        return _nothing(stop)
    labels = labels_joined(
        [piece.labels for piece in pieces], [len(piece.rows) for piece in pieces]
    )
    if len(pieces) == 1:
        return replace(pieces[0], stop_row=stop, labels=labels)
    return Block(
        stop,
        concatenate([piece.columns for piece in pieces]),
        np.concatenate([piece.rows for piece in pieces]),
        labels,
        np.concatenate([piece.missing for piece in pieces]),
        # Numbers of many decimals have a kind of their own.
        pa.concat_tables([piece.table for piece in pieces], promote_options="permissive"),
        sum((piece.adjusted for piece in pieces), NOTHING_ADJUSTED),
    )


def _nothing(row: int) -> Block:
    """A block without rows, before that row."""
    return Block(row, empty(), np.empty(0, np.int64), Labels(), np.empty(0, np.bool_), None)


def _with_broken(
    block: Block, broken: list[BrokenRow], skip: int, *, is_end: bool = False
) -> Block:
    """The block with the broken rows before its end, which are taken out of the list.

    :param skip: rows before that one, and broken ones among them, were handled by an earlier run.
    :param is_end: whether no row follows, only broken ones.
    """
    count = sum(row.before < block.stop_row or is_end for row in broken)
    taken = tuple(row for row in broken[:count] if row.before >= skip)
    del broken[:count]
    return replace(block, broken=taken)


def as_json_rows(table: Any, rows: AnyArray) -> list[dict[str, Any]]:
    """Some rows as JSON values that every store holds, for people to look at."""
    taken = table.take(pa.array(rows, pa.int64()))
    return [{name: _as_json(value) for name, value in r.items()} for r in taken.to_pylist()]


def _as_json(value: object) -> int | str | None:
    if value is None or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    return kept_text(str(value))
