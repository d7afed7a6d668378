"""What a source yields, and how it becomes columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage.domain import checks, interchange
from jts_storage.domain.arrow import decimals_of
from jts_storage.domain.columns import (
    NAMES,
    PRICES,
    AnyArray,
    Columns,
    Int64Array,
    concatenate,
)
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.epochs import Epochs
from jts_storage.readers.marks import Marks, search_source
from jts_storage.readers.numbers import NumberStyle, is_plain, plain_numbers, plain_prices
from jts_storage.readers.owners import Labels, Owners
from jts_storage.readers.owners import joined as labels_joined
from jts_storage.readers.timestamps import TimestampReader, joined

Floats = Literal["refuse", "exact", "round"]


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

    def tables(self) -> Iterator[Any]: ...

    def location(self, row: int, target: str) -> str:
        """Describe where the value is: ``prices.csv, line 7, column '종가'``."""
        ...

    def progress(self) -> float | None:
        """Return how much of the source has been read, from 0 to 1; None if unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a source.

    :param columns: their values; rows with something missing hold zeros.
    :param rows: the number of each row in its source.
    :param labels: which series the rows belong to.
    :param missing: where a price or the volume is missing.
    :param table: the rows as they came.
    """

    columns: Columns
    rows: Int64Array
    labels: Labels
    missing: AnyArray
    table: Any

    @property
    def first_row(self) -> int:
        return int(self.rows[0])

    @property
    def stop_row(self) -> int:
        return int(self.rows[-1]) + 1


@dataclass(slots=True)
class Reader:
    """Turns tables of one source into blocks.

    :param style: how numbers are written, once that is known.
    :param epochs: for each timeframe, the unit found so far of timestamps that are numbers.
    :param thousands: the mark between thousands, where only that is known.
    :param owners: finds the series of each row; None if that is not needed.
    """

    timestamps: TimestampReader
    style: NumberStyle | None = None
    floats: Floats = "refuse"
    epochs: dict[Timeframe, Epochs] = field(default_factory=dict)
    thousands: str | None = None
    owners: Owners | None = None

    def blocks(self, source: Source, rows: int, skip: int = 0) -> Iterator[Block]:
        """Blocks of exactly `rows`, but for the last, after the first `skip` rows.

        Where blocks begin depends on nothing but the two numbers.
        """
        first = skip
        read: list[Block] = []
        for piece in _pieces(source.tables(), rows, skip):
            # Converted at once, so that the text of a block need not be kept until it is full.
            read.append(self._read(piece, first, source))
            first += piece.num_rows
            if first - read[0].first_row == rows:
                yield _together(read)
                read = []
        if read:
            yield _together(read)

    def _read(self, table: Any, first: int, source: Source) -> Block:
        try:
            return self._parsed(table, first, source)
        except InvalidData as exc:
            if exc.row is None or exc.field is None:
                raise
            where = source.location(first + exc.row, exc.field)
            # Without the row and field of the block: the location names those of the source.
            rule = str(exc.args[0]).partition(": ")[2]
            error = InvalidData(f"{where}: {rule}", remedy=exc.remedy)
            error.row, error.field, error.value = first + exc.row, exc.field, exc.value
            raise error from exc

    def _parsed(self, table: Any, first: int, source: Source) -> Block:
        columns = {name: _whole(table.column(name)) for name in table.column_names}
        labels = self.owners.labels(columns, table.num_rows) if self.owners else Labels()
        stamps = self._stamps(columns, labels)
        plain = self._plain_prices(columns)
        if self.style is None:
            self._find_style(columns, plain, source)
        if self.style is not None and self.style.decimal != ".":
            plain = {}  # a point groups thousands here
        missing = np.zeros(table.num_rows, np.bool_)
        # Prices that are read already are put in afterwards: here they stand as zeros.
        nothing = pa.array(np.zeros(table.num_rows, np.int64))
        arrays = {"timestamp": pa.array(stamps)} | dict.fromkeys(plain, nothing)
        for name in (name for name in NAMES[1:] if name not in plain):
            filled, gone = _filled(columns[name])
            arrays[name] = self._number(filled, name)
            missing |= gone
        prices: dict[str, Any] = {name: values for name, (values, _) in plain.items()}
        parsed = interchange.from_arrow(
            pa.table(arrays), "exact" if self.floats != "refuse" else "refuse"
        )._replace(**prices)
        rows = np.arange(first, first + table.num_rows, dtype=np.int64)
        return Block(parsed, rows, labels, missing, table)

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

    def _plain_prices(self, columns: Mapping[str, Any]) -> dict[str, tuple[Int64Array, int]]:
        if self.style is not None and self.style.decimal != ".":
            return {}
        found = {name: plain_prices(columns[name]) for name in PRICES if _is_text(columns[name])}
        return {name: plain for name, plain in found.items() if plain is not None}

    def _find_style(
        self,
        columns: Mapping[str, Any],
        plain: Mapping[str, tuple[Int64Array, int]],
        source: Source,
    ) -> None:
        marks = Marks(self.thousands)
        for values, decimals in plain.values():
            marks.look_at_prices(values, decimals)
        for name in NAMES[1:]:
            if name not in plain and _is_text(columns[name]):
                marks.look_at(columns[name])
        by_custom = source.commas_separate
        # A quoted comma usually separates thousands, unless a later number shows that it cannot.
        self.style = marks.style(comma_separates_fields=by_custom and marks.doubtful_comma is None)
        if self.style is None and marks.is_doubtful:
            # Read once more, from its beginning: a later number may show what these do not.
            self.style = search_source(source.tables(), marks) or marks.style(
                comma_separates_fields=by_custom
            )
            if self.style is None:
                raise marks.refused(source.name)

    def _number(self, column: Any, name: str) -> Any:
        if _is_text(column):
            column = plain_numbers(column, self.style or NumberStyle(".", self.thousands))
            return _volume(column) if name == "volume" else column
        if pa.types.is_floating(column.type) and name != "volume" and self.floats == "round":
            return _rounded(column, name)
        if pa.types.is_floating(column.type) and column.type.bit_width < 64:
            return column.cast(pa.float64())
        return column


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
        concatenate([piece.columns for piece in pieces]),
        np.concatenate([piece.rows for piece in pieces]),
        labels_joined([piece.labels for piece in pieces], [len(piece.rows) for piece in pieces]),
        np.concatenate([piece.missing for piece in pieces]),
        pa.concat_tables([piece.table for piece in pieces]),
    )


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


def _filled(column: Any) -> tuple[Any, AnyArray]:
    """The column with zeros where a value is missing, and where that is."""
    # Digits and points only: nothing is missing, and no pattern need be tried.
    if _is_text(column) and is_plain(column):
        return column, np.zeros(len(column), np.bool_)
    gone = pc.is_null(column, nan_is_null=True)
    if _is_text(column):
        empty = pc.match_substring_regex(column, r"^\s*(-|nan|null|n/a)?\s*$", ignore_case=True)
        gone = pc.or_(gone, pc.fill_null(empty, False))
    if not pc.any(gone).as_py():
        return column, np.zeros(len(column), np.bool_)
    zero = pa.scalar("0") if _is_text(column) else pa.scalar(0).cast(column.type)
    return pc.if_else(gone, zero.cast(column.type), column), np.asarray(gone)


def _is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type))


def _volume(column: Any) -> Any:
    """Text of whole numbers, some perhaps written ``1200.0`` or ``1.2e6``."""
    for kind in (pa.uint64(), pa.decimal128(38, 4)):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    for row, text in enumerate(column.to_pylist()):
        try:
            pa.scalar(text).cast(pa.decimal128(38, 4))
        except pa.ArrowInvalid as exc:
            raise InvalidData(
                "must be a whole number", field="volume", value=text, row=row
            ) from exc
    raise InvalidData("must be whole numbers", field="volume")


def _rounded(column: Any, name: str) -> Any:
    """Round float prices to four decimals, because the caller asked for it."""
    values = np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    # Negated, so that NaN is refused too: it compares with nothing.
    at_fault = np.flatnonzero(~(np.abs(values) < 2**51 / checks.PRICE_SCALE))
    if len(at_fault):
        row = int(at_fault[0])
        raise InvalidData("is too large for a float", field=name, value=float(values[row]), row=row)
    scaled: Int64Array = np.rint(values * checks.PRICE_SCALE).astype(np.int64)
    return decimals_of(scaled)


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
