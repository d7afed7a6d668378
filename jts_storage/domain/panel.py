"""Many series of one timeframe in the same columns: a whole market at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from jts_storage.domain import checks, interchange, panel_frames
from jts_storage.domain.calendar import TradingCalendar, resolve
from jts_storage.domain.candle import SeriesKey, series_key
from jts_storage.domain.columns import (
    FIELDS,
    AnyArray,
    Columns,
    Int64Array,
    checked,
    concatenate,
    empty,
    grouped,
    sealed,
    series_of_rows,
)
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.gaps import expected_timestamps
from jts_storage.domain.interchange import Floats, PandasPrices
from jts_storage.domain.matrix import PanelMatrix
from jts_storage.domain.resampling import resample_each, zone
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd


class CandlePanel(Mapping[SeriesKey, CandleSeries]):
    """The candles of many symbols, one series after the other, in the order of their keys.

    ``panel[key]`` is a `CandleSeries` on the same memory. Series without candles are left out. The
    object and its columns do not change. A panel that was read with some fields only has no series:
    `column`, `matrix` and frames give what it has.
    """

    def __init__(self, timeframe: Timeframe, series: Iterable[CandleSeries] = ()) -> None:
        """:raises InvalidData: a series is of another timeframe, or two are of one key."""
        wanted = member(Timeframe, timeframe, "timeframe")
        ordered = sorted((each for each in series if len(each)), key=lambda s: s.key.sort_key)
        for each in ordered:
            if each.key.timeframe is not wanted:
                raise InvalidData(f"must be of {wanted.value}", field="key", value=str(each.key))
        keys = tuple(each.key for each in ordered)
        if len(set(keys)) < len(keys):
            raise InvalidData("must name each series once", field="series")
        offsets = np.cumsum([0, *map(len, ordered)], dtype=np.int64)
        self._set(wanted, keys, offsets, concatenate([each.columns for each in ordered]))

    @classmethod
    def trusted(
        cls,
        timeframe: Timeframe,
        keys: Iterable[SeriesKey],
        offsets: Int64Array,
        columns: Columns,
        fields: tuple[str, ...] = FIELDS,
    ) -> Self:
        """From columns that are valid, in the order of keys and not shared: for stores.

        :param fields: those that were read, in the order of a candle.
        """
        panel = cls.__new__(cls)
        panel._set(timeframe, tuple(keys), offsets, columns, fields)  # noqa: SLF001 - its own class
        return panel

    @classmethod
    def from_arrow(cls, timeframe: Timeframe, table: Any, *, floats: Floats = "refuse") -> Self:
        """From an Arrow table with a column `symbol`, and perhaps `exchange`, in any order.

        Of equal timestamps of a series the last counts.

        :param floats: see `CandleSeries.from_arrow`.
        """
        columns = checked(interchange.from_arrow(table, floats))
        wanted = member(Timeframe, timeframe, "timeframe")
        names, number = panel_frames.names_of_series(table)
        offsets, ordered = grouped(number, len(names), columns)
        keys = [series_key(symbol, wanted, exchange) for symbol, exchange in names]
        return cls.trusted(wanted, keys, offsets, ordered)

    @classmethod
    def from_pandas(
        cls, timeframe: Timeframe, frame: pd.DataFrame, *, floats: Floats = "refuse"
    ) -> Self:
        """From a DataFrame, its names in columns or the index; otherwise as `from_arrow`."""
        import pyarrow as pa

        flat = frame.reset_index() if frame.index.names != [None] else frame
        return cls.from_arrow(
            timeframe, pa.Table.from_pandas(flat, preserve_index=False), floats=floats
        )

    @classmethod
    def from_polars(cls, timeframe: Timeframe, frame: Any, *, floats: Floats = "refuse") -> Self:
        if not isinstance(frame, interchange.library("polars").DataFrame):
            raise InvalidData("must be a polars DataFrame", field="frame", value=frame)
        return cls.from_arrow(timeframe, frame.to_arrow(), floats=floats)

    @classmethod
    def empty(cls, timeframe: Timeframe) -> Self:
        wanted = member(Timeframe, timeframe, "timeframe")
        return cls.trusted(wanted, (), np.zeros(1, np.int64), empty())

    def _set(
        self,
        timeframe: Timeframe,
        keys: tuple[SeriesKey, ...],
        offsets: Int64Array,
        columns: Columns,
        fields: tuple[str, ...] = FIELDS,
    ) -> None:
        self._timeframe = timeframe
        self._keys = keys
        self._offsets = sealed(offsets)
        self._columns = columns.only(fields).frozen()
        self._fields = fields

    @property
    def timeframe(self) -> Timeframe:
        return self._timeframe

    @property
    def fields(self) -> tuple[str, ...]:
        """What it has beside timestamps: ``"open"`` to ``"volume"``, if not read with fewer."""
        return self._fields

    @property
    def columns(self) -> Columns:
        """The six read-only columns of all rows.

        :raises InvalidData: it was read with some fields only, see `column`.
        """
        self._check_complete()
        return self._columns

    def column(self, name: str) -> AnyArray:
        """One read-only column of all rows: ``"timestamp"`` or one of `fields`.

        :raises InvalidData: it has no such field.
        """
        if name not in ("timestamp", *self._fields):
            raise InvalidData(
                f"is not in this panel, which was read with {', '.join(self._fields)}",
                field="field",
                value=name,
            )
        found: AnyArray = getattr(self._columns, name)
        return found

    def only(self, *fields: str) -> Self:
        """The same candles with these fields only."""
        for name in fields:
            self.column(name)
        kept = tuple(name for name in self._fields if name in fields)
        return self.trusted(self._timeframe, self._keys, self._offsets, self._columns, kept)

    @property
    def offsets(self) -> Int64Array:
        """Where each series begins, and behind the last where it ends."""
        return self._offsets

    @property
    def rows(self) -> int:
        return self._columns.rows

    def __getitem__(self, key: SeriesKey) -> CandleSeries:
        place = self._places.get(key)
        if place is not None:
            return self._series(place)
        given: object = key  # whatever the types say
        what = "has no rows in this panel" if isinstance(given, SeriesKey) else "is no SeriesKey"
        known = f"its keys are such as {self._keys[0]!r}" if self._keys else "the panel is empty"
        raise KeyError(f"{given!r} {what}; {known}")

    def __iter__(self) -> Iterator[SeriesKey]:
        return iter(self._keys)

    def __len__(self) -> int:
        """How many series there are; `rows` says how many candles."""
        return len(self._keys)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CandlePanel):
            return NotImplemented
        return (
            self._timeframe is other.timeframe
            and self._keys == tuple(other)
            and self._fields == other.fields
            and np.array_equal(self._offsets, other.offsets)
            and all(map(np.array_equal, self._columns, other._columns))
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        columns = self._columns.each(np.ascontiguousarray)
        made = (self._timeframe, self._keys, self._offsets, columns, self._fields)
        return (CandlePanel.trusted, made)

    def __repr__(self) -> str:
        fields = "" if self._fields == FIELDS else f", {' and '.join(self._fields)} only"
        return (
            f"<CandlePanel {self._timeframe.value} {len(self)} series, {self.rows} candles{fields}>"
        )

    def select(self, keys: Iterable[SeriesKey]) -> Self:
        """Some of the series, in the order of their keys; those that are not here are left out."""
        places = self._places
        wanted = sorted(places[key] for key in dict.fromkeys(keys) if key in places)
        return self._of_places(wanted, self._offsets[:-1], self._offsets[1:])

    def tail(self, rows: int) -> Self:
        """The last candles of each series."""
        stops = self._offsets[1:]
        starts = np.maximum(self._offsets[:-1], stops - checks.whole(rows, "rows", least=1))
        return self._of_places(range(len(self)), starts, stops)

    def pieces(self, rows: int) -> Iterator[Self]:
        """Panels of at most so many rows: whole series, or a part of a longer one alone."""
        checks.whole(rows, "rows", least=1)
        for part in SeriesRows(self._keys, self._offsets, self._columns).pieces(rows):
            yield self.trusted(self._timeframe, part.keys, part.offsets, part.columns, self._fields)

    def matrix(
        self,
        field: str,
        *,
        floats: bool = False,
        fill: bool = False,
        times: Any = None,
        calendar: TradingCalendar | str | None = None,
    ) -> PanelMatrix:
        """One field as times x series, for formulas over whole arrays.

        :param field: a price, or ``"volume"``.
        :param floats: the nearest floats, NaN where a series has no candle, in place of exact
            integers (prices times 10**4) with a mask.
        :param fill: repeat the last value where a series has no candle, once it has had one: the
            last before the time, whether or not that was at one of `times` itself.
        :param times: datetimes or milliseconds, ascending; all that any series has if None.
        :param calendar: in place of times, each time from the first to the last at which a candle
            is expected by this calendar.
        """
        if calendar is not None and times is not None:
            raise InvalidData("must not be given together with times", field="calendar")
        expected = self._expected(calendar) if calendar is not None else times
        return PanelMatrix.of(self, field, floats=floats, fill=fill, times=expected)

    def resample(
        self,
        timeframe: Timeframe,
        *,
        calendar: TradingCalendar | str | None = None,
        timezone: tzinfo | str = UTC,
    ) -> CandlePanel:
        """Each series as `CandleSeries.resample` makes it, all in one pass."""
        target = member(Timeframe, timeframe, "timeframe")
        columns, offsets = resample_each(
            self.columns, self._offsets, self._timeframe, target, resolve(calendar), zone(timezone)
        )
        keys = (SeriesKey(key.symbol, target, key.exchange) for key in self._keys)
        return CandlePanel.trusted(target, keys, offsets, columns)

    def to_arrow(self) -> Any:
        """An Arrow table: symbol and exchange as dictionaries, then as a series has it."""
        return panel_frames.panel_to_arrow(self._keys, self._offsets, self._columns, self._fields)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_pandas(self, *, prices: PandasPrices = "decimal") -> pd.DataFrame:
        """A frame indexed by symbol, exchange and timestamp; see `CandleSeries.to_pandas`."""
        return panel_frames.panel_to_pandas(
            self._keys, self._offsets, self._columns, self._fields, prices
        )

    def to_polars(self) -> Any:
        """A polars frame with exact Decimal(18, 4) prices and categorical names.

        ``pl.DataFrame(panel)`` gives none: polars takes a `Mapping` for columns before it looks for
        Arrow's stream, as it takes a series for rows.
        """
        return interchange.library("polars").from_arrow(self.to_arrow())

    def fingerprint(self) -> str:
        """A hash of keys and content, the same on every machine and in every version of the kit."""
        digest = hashlib.sha256()
        for series in self.values():
            digest.update(series.fingerprint().encode())
        return f"jts1p:{self._timeframe.value}:{digest.hexdigest()}"

    @cached_property
    def _places(self) -> dict[SeriesKey, int]:
        return {key: place for place, key in enumerate(self._keys)}

    def _series(self, place: int) -> CandleSeries:
        self._check_complete()
        rows = slice(int(self._offsets[place]), int(self._offsets[place + 1]))
        return CandleSeries.trusted(self._keys[place], self._columns.take(rows))

    def _of_places(self, places: Iterable[int], starts: Int64Array, stops: Int64Array) -> Self:
        at = np.fromiter(places, np.int64)
        counts = stops[at] - starts[at]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        # Of each row: how far its series has moved.
        rows = np.arange(offsets[-1]) + (starts[at] - offsets[:-1])[series_of_rows(offsets)]
        keys = (self._keys[place] for place in at.tolist())
        columns = self._columns.take(rows)
        return self.trusted(self._timeframe, keys, offsets, columns, self._fields)

    def _expected(self, calendar: TradingCalendar | str) -> Int64Array:
        if not self.rows:
            return np.empty(0, np.int64)
        stamps = self._columns.timestamp
        ends = int(stamps.min()), int(stamps.max())
        return expected_timestamps(*ends, self._timeframe, resolve(calendar))

    def _check_complete(self) -> None:
        if self._fields != FIELDS:
            raise InvalidData(
                f"was read with {', '.join(self._fields)} only, so its rows are no candles",
                field="panel",
                remedy="Read it without `fields`, or use `column`, `matrix` or a frame.",
            )


def panel_of(timeframe: Timeframe | None, given: Any) -> tuple[CandlePanel, int]:
    """What `save_panel` was given as a panel, and how many of its rows a later one replaced.

    :param timeframe: of a frame, which does not say.
    :raises InvalidData: it is nothing that holds candles of several symbols.
    """
    if isinstance(given, CandlePanel):
        given._check_complete()  # noqa: SLF001 - its own module
        if timeframe not in (None, given.timeframe):
            raise InvalidData(
                f"is not that of the panel, which is {given.timeframe.value}",
                field="timeframe",
                value=timeframe,
                remedy="Leave it out, or resample the panel first.",
            )
        return given, 0
    if isinstance(given, (CandleSeries, list, tuple)):
        raise InvalidData(
            "must be a panel or a frame",
            field="panel",
            value=given,
            remedy="save_many stores a series; CandlePanel(timeframe, [series]) holds several.",
        )
    library = type(given).__module__.partition(".")[0]
    if timeframe is None:
        raise InvalidData("must be given with a frame", field="timeframe", value=None)
    if library == "pandas":
        panel = CandlePanel.from_pandas(timeframe, given)
    elif library == "polars":
        panel = CandlePanel.from_polars(timeframe, given)
    else:
        panel = CandlePanel.from_arrow(timeframe, given)
    return panel, len(given) - panel.rows
