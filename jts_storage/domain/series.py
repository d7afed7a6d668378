"""A series of candles as six immutable columns."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import repeat
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from jts_storage.domain import arrays, checks, interchange
from jts_storage.domain.calendar import TradingCalendar, resolve
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.columns import (
    NAMES,
    PRICES,
    Columns,
    checked,
    concatenate,
    empty,
    in_order,
)
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.gaps import Gap, find_gaps
from jts_storage.domain.interchange import Floats, PandasPrices
from jts_storage.domain.resampling import resample, zone
from jts_storage.domain.sparkline import sparkline
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd

    from jts_storage.domain.plot import PlotColors

RowSlice = slice  # within the class, `slice` is the method

_ITERATION_ROWS = 4_096
_SHOWN_ROWS = 3
_UNIT = Decimal(1).scaleb(-checks.PRICE_DECIMALS)


class CandleSeries(Sequence[Candle]):
    """The candles of one key, ascending by timestamp, each timestamp once.

    A `Candle` is made when one is asked for; whole columns are shared, never copied. The object
    and its columns do not change. Ends of ranges are included, except where a method says so.

    Every constructor sorts, keeps the last of equal timestamps, and raises `InvalidData` with the
    row and field of the first value that no store may hold.
    """

    __slots__ = ("_columns", "_fingerprint", "_key")

    _key: SeriesKey
    _columns: Columns
    _fingerprint: str | None

    def __init__(self, key: SeriesKey, candles: Iterable[Candle] = ()) -> None:
        self._set(key, _sorted(arrays.from_candles(candles)))

    @classmethod
    def from_candles(cls, key: SeriesKey, candles: Iterable[Candle]) -> Self:
        return cls(key, candles)

    @classmethod
    def from_columns(cls, key: SeriesKey, columns: Mapping[str, Any]) -> Self:
        """From the series' own columns: int64 milliseconds, int64 prices times 10**4, volume.

        A price column of Decimals is taken too: each is the price itself. Whole numbers in a list
        are refused, since they could be either. Arrays are copied.
        """
        return cls._built(key, arrays.from_mapping(columns))

    @classmethod
    def from_arrow(cls, key: SeriesKey, table: Any, *, floats: Floats = "refuse") -> Self:
        """From an Arrow table or record batch. Integer prices are whole; floats are refused.

        :param floats: ``"exact"`` takes a float that is the nearest to a price of four decimals.
        """
        return cls._built(key, interchange.from_arrow(table, floats))

    @classmethod
    def from_pandas(cls, key: SeriesKey, frame: pd.DataFrame, *, floats: Floats = "refuse") -> Self:
        """From a DataFrame, its timestamps in a column or the index; otherwise as `from_arrow`."""
        return cls._built(key, interchange.from_pandas(frame, floats))

    @classmethod
    def from_polars(cls, key: SeriesKey, frame: Any, *, floats: Floats = "refuse") -> Self:
        """From a polars DataFrame; otherwise as `from_arrow`."""
        return cls._built(key, interchange.from_polars(frame, floats))

    @classmethod
    def empty(cls, key: SeriesKey) -> Self:
        return cls.trusted(key, empty())

    @classmethod
    def trusted(cls, key: SeriesKey, columns: Columns) -> Self:
        """From columns that are valid, sorted and not shared, without a check: for stores."""
        series = cls.__new__(cls)
        series._set(key, columns)  # noqa: SLF001 - its own class
        return series

    @classmethod
    def _built(cls, key: SeriesKey, columns: Columns) -> Self:
        return cls.trusted(key, _sorted(columns))

    def _set(self, key: SeriesKey, columns: Columns) -> None:
        if not isinstance(key, SeriesKey):
            raise InvalidData("must be a SeriesKey", field="key", value=key)
        self._key = key
        self._columns = columns.frozen()
        self._fingerprint = None

    @property
    def key(self) -> SeriesKey:
        return self._key

    @property
    def columns(self) -> Columns:
        """The six read-only columns."""
        return self._columns

    @property
    def start(self) -> datetime | None:
        return checks.from_ms(int(self._columns.timestamp[0])) if len(self) else None

    @property
    def end(self) -> datetime | None:
        return checks.from_ms(int(self._columns.timestamp[-1])) if len(self) else None

    def to_columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """The columns by name: milliseconds, prices times 10**4, volume; read-only, not copied."""
        return dict(zip(NAMES, self._columns, strict=True))

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """What DuckDB, PyArrow and narwhals take a frame from; for polars see `to_polars`."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> Any:
        """An Arrow table: timestamp[ms, UTC], decimal128(18, 4), uint64."""
        return interchange.to_arrow(self._columns)

    def to_pandas(self, *, prices: PandasPrices = "decimal") -> pd.DataFrame:
        """A frame indexed by timestamp; prices as exact Arrow decimals or, to calculate, floats."""
        return interchange.to_pandas(self._columns, prices)

    def to_polars(self) -> Any:
        """A polars frame with exact Decimal(18, 4) prices.

        ``pl.DataFrame(series)`` gives none: polars takes a `Sequence` for rows before it looks for
        an Arrow stream.
        """
        return interchange.to_polars(self._columns)

    def plot(self, *, ax: Any = None, colors: PlotColors = "market") -> Any:
        """Draw candlesticks with matplotlib, and return the axes; times are UTC.

        :param ax: axes to draw into, such as a part of a larger figure; a new figure if not given.
        :param colors: those of the market (in Korea up is red and down is blue, elsewhere up is
            green and down is red), ``"korea"``, ``"west"``, or ``"colorblind"``.
        :raises InvalidConfiguration: matplotlib is not installed: it comes with the extra `plot`.
        :raises InvalidData: there are no such colours.
        """
        from jts_storage.domain.plot import candlesticks

        return candlesticks(self, ax, colors)

    def __len__(self) -> int:
        return self._columns.rows

    @overload
    def __getitem__(self, index: int) -> Candle: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Candle | Self:
        if isinstance(index, slice):
            if index.step not in (None, 1):
                raise InvalidData("must be 1: a series ascends", field="step", value=index.step)
            return self._part(index)
        row = self._row(index)
        return _candles(self._columns.take(slice(row, row + 1)))[0]

    def _row(self, index: int) -> int:
        try:
            return range(len(self))[index]
        except IndexError:
            raise IndexError(f"{self.key} has {len(self)} candles, and none at {index}") from None
        except TypeError:
            raise TypeError(
                f"{index!r} is neither the number of a candle nor a slice; a column is"
                ' to_columns()["close"], and a frame has them all'
            ) from None

    def __iter__(self) -> Iterator[Candle]:
        for start in range(0, len(self), _ITERATION_ROWS):
            yield from _candles(self._columns.take(slice(start, start + _ITERATION_ROWS)))

    def __reversed__(self) -> Iterator[Candle]:
        for stop in range(len(self), 0, -_ITERATION_ROWS):
            rows = slice(max(stop - _ITERATION_ROWS, 0), stop)
            yield from reversed(_candles(self._columns.take(rows)))

    def __contains__(self, candle: object) -> bool:
        if not isinstance(candle, Candle):
            return False
        row = int(np.searchsorted(self._columns.timestamp, checks.to_ms(candle.timestamp)))
        return row < len(self) and self[row] == candle

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        rows = range(len(self))[slice(start, stop)]
        if isinstance(value, Candle):
            row = int(np.searchsorted(self._columns.timestamp, checks.to_ms(value.timestamp)))
            if row in rows and self[row] == value:
                return row
        raise ValueError(f"{value!r} is not in the series")

    def count(self, value: Any) -> int:
        return int(value in self)

    def slice(self, start: datetime, end: datetime) -> Self:
        """The candles from `start` to `end`, both included."""
        return self.slice_ms(*checks.range_ms(start, end))

    def slice_ms(self, first: int, last: int) -> Self:
        """As `slice`, by milliseconds since 1970."""
        return self._between_ms(first, last + 1)

    def between(self, start: datetime | None = None, end: datetime | None = None) -> Self:
        """The candles from `start` on and before `end`: half-open, so that ranges tile."""
        first = None if start is None else checks.to_ms(checks.utc(start, "start"))
        stop = None if end is None else checks.to_ms(checks.utc(end, "end"))
        return self._between_ms(first, stop)

    def head(self, rows: int = 5) -> Self:
        return self._part(slice(0, checks.whole(rows, "rows")))

    def tail(self, rows: int = 5) -> Self:
        return self._part(slice(max(len(self) - checks.whole(rows, "rows"), 0), None))

    def merge(self, later: CandleSeries) -> Self:
        """Both series as one; where a timestamp is in both, that of `later` wins.

        :raises InvalidData: the keys differ.
        """
        if later.key != self._key:
            raise InvalidData(f"must be {self._key}", field="key", value=str(later.key))
        if not len(later):
            return self
        return self.trusted(self._key, in_order(concatenate([self._columns, later.columns]))[0])

    def resample(
        self,
        timeframe: Timeframe,
        *,
        calendar: TradingCalendar | str | None = None,
        timezone: tzinfo | str = UTC,
    ) -> Self:
        """Coarser candles. Days are sessions of `calendar`, or local days of `timezone`.

        Bars of a day and longer are stamped with their date at 00:00 UTC, weeks with their Monday.

        :raises InvalidData: candles of this timeframe do not make up whole ones of the other.
        """
        target = member(Timeframe, timeframe, "timeframe")
        key = SeriesKey(self._key.symbol, target, self._key.exchange)
        columns = resample(
            self._columns, self._key.timeframe, target, resolve(calendar), zone(timezone)
        )
        return self.trusted(key, columns)

    def gaps(self, calendar: TradingCalendar | str | None = None) -> list[Gap]:
        """Candles missing between the first and the last, by a calendar (XKRX, ...) or 24/7."""
        return find_gaps(self._columns.timestamp, self._key.timeframe, resolve(calendar))

    def fingerprint(self) -> str:
        """A hash of key and content, the same on every machine and in every version of the kit."""
        if self._fingerprint is None:
            key = (self._key.symbol, self._key.timeframe.value, self._key.exchange)
            digest = hashlib.sha256("\x1f".join(key).encode())
            for column in self._columns:
                # The same bytes on a machine of the other byte order.
                little_endian = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
                digest.update(little_endian.view(np.uint8).data)
            self._fingerprint = f"jts1:{digest.hexdigest()}"
        return self._fingerprint

    def same_rows(self, other: CandleSeries) -> bool:
        """Return whether both hold the same candles, whatever their keys."""
        return len(self) == len(other) and all(map(np.array_equal, self._columns, other.columns))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CandleSeries):
            return NotImplemented
        return self is other or (self._key == other.key and self.same_rows(other))

    def __hash__(self) -> int:
        # Of the ends only: equal series have equal ends, and a hash must be quick.
        ends = [column[[0, -1]].tobytes() for column in self._columns] if len(self) else []
        return hash((self._key, len(self), *ends))

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            CandleSeries.trusted,
            (self._key, self._columns.each(np.ascontiguousarray)),
        )

    def __repr__(self) -> str:
        if not len(self):
            return f"<CandleSeries {self._key} empty>"
        return f"<CandleSeries {self._key} {len(self)} candles {self.start} .. {self.end}>"

    def _repr_html_(self) -> str:
        cells = "".join(f"<th>{name}</th>" for name in NAMES)
        lines = [_html_row(candle) for candle in self.head(_SHOWN_ROWS)]
        if len(self) > 2 * _SHOWN_ROWS:
            lines.append(f"<tr><td colspan='{len(NAMES)}'>…</td></tr>")
        lines += [_html_row(candle) for candle in self[_SHOWN_ROWS:].tail(_SHOWN_ROWS)]
        caption = f"{self._key}, {len(self)} candles".replace("&", "&amp;").replace("<", "&lt;")
        caption += f"<br>{sparkline(self._columns.close.tolist())}" if len(self) else ""
        return f"<table><caption>{caption}</caption><tr>{cells}</tr>{''.join(lines)}</table>"

    def _between_ms(self, first: int | None, stop: int | None) -> Self:
        stamps = self._columns.timestamp
        begin = 0 if first is None else int(np.searchsorted(stamps, first))
        end = None if stop is None else max(int(np.searchsorted(stamps, stop)), begin)
        return self._part(slice(begin, end))

    def _part(self, rows: RowSlice) -> Self:
        return self.trusted(self._key, self._columns.take(rows))


def series_of(key: SeriesKey, candles: object) -> tuple[CandleSeries, int]:
    """Return what `save_many` was given as a series of `key`, and how many duplicates gave way.

    :raises InvalidData: it is a series of another key, or nothing that holds candles.
    """
    if isinstance(candles, CandleSeries):
        if candles.key != checks.instance(key, SeriesKey, "key"):
            raise InvalidData(f"the series must be of {key}", field="key", value=str(candles.key))
        return candles, 0
    columns = checked(_columns_of(candles))
    ordered, duplicates = in_order(columns)
    return CandleSeries.trusted(key, ordered), duplicates


def _columns_of(candles: object) -> Columns:
    library = type(candles).__module__.partition(".")[0]
    if library == "pyarrow":
        return interchange.from_arrow(candles)
    if library == "pandas":
        return interchange.from_pandas(candles)  # type: ignore[arg-type]
    if library == "polars":
        return interchange.from_polars(candles)
    if isinstance(candles, Mapping):
        if isinstance(next(iter(candles), None), SeriesKey):  # a panel
            raise InvalidData(
                "are those of several series", field="candles", remedy="save_panel stores a panel."
            )
        return arrays.from_mapping(candles)
    if isinstance(candles, Iterable):
        return arrays.from_candles(candles)
    remedy = "Give it a list of candles: [candle]." if isinstance(candles, Candle) else None
    raise InvalidData("cannot be read as candles", field="candles", value=candles, remedy=remedy)


def _sorted(columns: Columns) -> Columns:
    return in_order(checked(columns))[0]


_slots = vars(Candle)
_set_timestamp, _set_volume = _slots["timestamp"].__set__, _slots["volume"].__set__
_set_price = {name: _slots[name].__set__ for name in PRICES}


def _candles(columns: Columns) -> list[Candle]:
    """Candles of rows that are known to be valid: filled a column at a time, unchecked."""
    candles = list(map(object.__new__, repeat(Candle, columns.rows)))
    elapsed: list[timedelta] = columns.timestamp.view("m8[ms]").tolist()
    _fill(_set_timestamp, candles, map(checks.EPOCH.__add__, elapsed))
    for name in PRICES:
        scaled = getattr(columns, name).tolist()
        _fill(_set_price[name], candles, map(checks.EXACT.multiply, scaled, repeat(_UNIT)))
    _fill(_set_volume, candles, columns.volume.tolist())
    return candles


def _fill(setter: Any, candles: list[Candle], values: Iterable[Any]) -> None:
    deque(map(setter, candles, values), maxlen=0)


def _html_row(candle: Candle) -> str:
    cells = (candle.timestamp.isoformat(sep=" "), *(getattr(candle, name) for name in NAMES[1:]))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
