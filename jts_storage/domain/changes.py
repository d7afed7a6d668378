"""What a unit of work asks of the stores: the net effect of all it has written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Literal

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.calendar import DAY_MS
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.columns import AnyArray, Columns
from jts_storage.domain.resampling import utc_offsets, zone
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import Conflict

SERIES: Final = "candles "
"""What names of series begin with, where a commit says what it changes."""


@dataclass(frozen=True, slots=True)
class AggregateChange:
    """What an aggregate is to become, if its stored version still is `base` (0: none stored).

    :param created_at: of the stored one; another of the same version is another aggregate.
    """

    symbol: str
    trading_day: date
    base: int
    becomes: SymbolBars | None
    created_at: datetime | None = None

    def still_holds(self, stored: SymbolBars | None) -> bool:
        if stored is None:
            return self.base == 0
        return stored.version == self.base and self.created_at in (None, stored.created_at)

    def conflict(self) -> Conflict:
        return Conflict(
            f"the bars of {self.symbol} on {self.trading_day} were changed by somebody else before "
            "this commit.",
            remedy="Read them again and repeat.",
        )


@dataclass(frozen=True, slots=True)
class CheckpointChange:
    """What a checkpoint is to become, if its stored data still is `base` (None: none stored).

    :param base: a text where another program stored what cannot be read.
    :param knows_base: False in journal entries of releases that did not note it.
    """

    name: str
    becomes: Mapping[str, Any] | None
    base: Mapping[str, Any] | str | None
    knows_base: bool = True

    def still_holds(self, stored: Mapping[str, Any] | str | None) -> bool:
        """Return whether what was read is what is stored; to Python 1 would equal true."""
        return not self.knows_base or _as_text(stored) == _as_text(self.base)

    def conflict(self) -> Conflict:
        return Conflict(
            f"checkpoint {self.name!r} was changed by somebody else before this commit.",
            remedy="Read it again and repeat.",
        )


@dataclass(frozen=True, slots=True)
class TableChange:
    """What a declared table is to become.

    :param name: of the table, and of its model.
    :param rows: an Arrow table: what is appended, or what each key becomes.
    :param keys: of the rows that are replaced or deleted.
    """

    name: str
    store: Literal["clickhouse", "database"]
    mode: Literal["append", "upsert", "record"]
    rows: Any
    keys: Sequence[tuple[Any, ...]] = ()


@dataclass(slots=True)
class CommitChanges:
    """The net effect of a unit of work outside of MongoDB.

    :param symbols: an Arrow table of what each is to become; None where no symbol changes.
    :param symbols_version: the version of the symbols, known once the commit has its place.
    """

    candles: CandleChanges = field(default_factory=CandleChanges)
    symbols: Any = None
    aggregates: list[AggregateChange] = field(default_factory=list)
    checkpoints: list[CheckpointChange] = field(default_factory=list)
    bars: CandleChanges = field(default_factory=CandleChanges)
    tables: list[TableChange] = field(default_factory=list)
    symbols_version: int | None = None

    @property
    def are_candles_to_save(self) -> bool:
        """Whether that is all they are, beside documents and events."""
        others = self.symbols or self.tables or self.touches_database
        return bool(self.candles) and not (others or self.candles.deletions)

    @property
    def touches_clickhouse(self) -> bool:
        return bool(self.candles or self.symbols or self.tables_in("clickhouse"))

    @property
    def touches_database(self) -> bool:
        return bool(self.aggregates or self.checkpoints or self.bars or self.tables_in("database"))

    def tables_in(self, store: str) -> list[TableChange]:
        return [change for change in self.tables if change.store == store]

    @property
    def bookkeeping_names(self) -> set[str]:
        """Names of what it changes in the bookkeeping."""
        return {
            *(f"aggregate {change.symbol} {change.trading_day}" for change in self.aggregates),
            *(f"checkpoint {change.name}" for change in self.checkpoints),
            *(f"bars {key}" for key in self.bars.keys),
            *(
                f"record {change.name} {key}"
                for change in self.tables_in("database")
                for key in change.keys
            ),
        }

    @property
    def series_names(self) -> set[str]:
        """Names of the series of candles that it changes."""
        return set(map(series_name, self.candles.keys))

    def few_series_names(self, most: int) -> set[str] | None:
        """As `series_names`, but None if there are more: to name thousands takes long."""
        keys = self.candles.few_keys(most)
        return None if keys is None else set(map(series_name, keys))

    @property
    def shortened_series(self) -> set[str]:
        """Names of the series of which it deletes candles."""
        return {series_name(key) for key, _, _ in self.candles.deletions}


def series_name(key: SeriesKey) -> str:
    return f"{SERIES}{key}"


def same_aggregate(stored: SymbolBars, read: SymbolBars) -> bool:
    """False if what was read was deleted since, and another made under its name and version."""
    return read.created_at is None or read.created_at == stored.created_at


def stamp(symbol: Symbol) -> Symbol:
    """Return the symbol with `updated_at` set to now, which only informs: it orders no writes."""
    checks.instance(symbol, Symbol, "symbol")
    return Symbol(
        symbol.code, symbol.name, symbol.market, symbol.sector, symbol.is_active, checks.now()
    )


def stamp_all(symbols: Iterable[Symbol]) -> list[Symbol]:
    """:raises InvalidData: something among them is no symbol."""
    return [stamp(symbol) for symbol in checks.several(symbols, Symbol, "symbols")]


def compare(stored: CandleSeries, series: CandleSeries) -> dict[str, int]:
    """Count the rows of `series` that are new to `stored`, replace a row, or change nothing."""
    known, same = matched(series.columns, stored.columns)
    unchanged = int(same.sum())
    return {
        "inserted": int((~known).sum()),
        "replaced": int(known.sum()) - unchanged,
        "unchanged": unchanged,
    }


def matched(rows: Columns, stored: Columns) -> tuple[AnyArray, AnyArray]:
    """Find the rows whose timestamp is stored, and those of them that are stored unchanged."""
    known: AnyArray = np.zeros(rows.rows, np.bool_)
    if not stored.rows:
        return known, known
    # A timestamp after the last one stored is compared with the last, and differs from it.
    at = np.minimum(np.searchsorted(stored.timestamp, rows.timestamp), stored.rows - 1)
    known = stored.timestamp[at] == rows.timestamp
    same = known.copy()
    for ours, theirs in zip(rows[1:], stored[1:], strict=True):
        same &= ours == theirs[at]
    return known, same


def rows_by_day(series: CandleSeries, timezone: str) -> dict[date, int]:
    """Count the rows of each local day."""
    stamps = series.columns.timestamp
    local = stamps + utc_offsets(stamps, zone(timezone))
    days, counts = np.unique(local // DAY_MS, return_counts=True)
    return dict(zip(days.view("M8[D]").tolist(), counts.tolist(), strict=True))


def pieces(series: CandleSeries, rows: int) -> Iterable[CandleSeries]:
    return (series[start : start + rows] for start in range(0, len(series), rows))


def _as_text(data: Mapping[str, Any] | str | None) -> str:
    return json.dumps(data, sort_keys=True)
