"""Which candles something was made from, a text that proves them, and what became of them since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns, UInt64Array
from jts_storage.domain.enums import Market, Timeframe, member
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.errors import InvalidData

PREFIX: Final = "jts1d:"
"""What the fingerprint of a data set begins with."""

WRAP: Final = 2**64
"""What hashes of rows are added modulo."""


@dataclass(frozen=True, slots=True)
class DataSetQuery:
    """Which candles are to be named, as `Storage.data_set` is asked for them."""

    timeframe: Timeframe
    start: datetime
    end: datetime
    keys: Iterable[SeriesKey] | None = None
    market: Market | None = None
    exchange: str | None = None
    as_of: AsOf | None = None


@dataclass(frozen=True, slots=True)
class DataSet:
    """Candles of some series in one range, as they were when a commit was the latest.

    Read it with ``get_panel(timeframe, start, end, keys=keys, as_of=commit)``: it never changes.

    :param keys: of the series, each once; kept in order.
    """

    timeframe: Timeframe
    start: datetime
    end: datetime
    keys: tuple[SeriesKey, ...]
    commit: Commit

    def __post_init__(self) -> None:
        store = object.__setattr__
        asked = PanelQuery.of(self.timeframe, self.start, self.end, self.keys, None)
        store(self, "timeframe", member(Timeframe, self.timeframe, "timeframe"))
        store(self, "start", checks.utc(self.start, "start"))
        store(self, "end", checks.utc(self.end, "end"))
        store(self, "keys", tuple(sorted(asked.keys or (), key=lambda key: key.sort_key)))
        checks.whole(checks.instance(self.commit, Commit, "commit").version, "commit")

    @property
    def asked(self) -> PanelQuery:
        """Its candles, as stores ask for them."""
        return PanelQuery.of(self.timeframe, self.start, self.end, self.keys, None)


class Figures(NamedTuple):
    """What is known of the candles of a series without having them.

    :param total: the hashes of its rows added, modulo `WRAP`.
    :param mixed: the hashes of its rows, joined by exclusive or.
    """

    rows: int
    total: int
    mixed: int

    def joined(self, other: Figures) -> Figures:
        """The figures of the rows of both."""
        total = (self.total + other.total) % WRAP
        return Figures(self.rows + other.rows, total, self.mixed ^ other.mixed)


NOTHING: Final = Figures(0, 0, 0)


@dataclass(frozen=True, slots=True)
class SeriesDifference:
    """In how many candles a series is another than it was.

    :param added: timestamps that had no candle.
    :param corrected: timestamps whose candle has other values.
    :param deleted: timestamps that have no candle any more.
    """

    key: SeriesKey
    added: int = 0
    corrected: int = 0
    deleted: int = 0

    @property
    def rows(self) -> int:
        return self.added + self.corrected + self.deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Whether what a backtest saw is still what is stored.

    :param fingerprint: of the data set as of its commit, computed again.
    :param is_reproducible: whether that is the fingerprint that the backtest stored: reading as of
        the commit then gives what the backtest saw. If not, the history is damaged.
    :param differing: the series that are stored otherwise now, in order.
    """

    data_set: DataSet
    fingerprint: str
    is_reproducible: bool
    differing: tuple[SeriesDifference, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether the same backtest, run on what is stored now, sees the same candles."""
        return self.is_reproducible and not self.differing

    def __str__(self) -> str:
        if not self.is_reproducible:
            return f"the history is damaged: candles as of {self.data_set.commit.moment} are others"
        if not self.differing:
            return "the same"
        rows = sum(each.rows for each in self.differing)
        if rows == 1:
            return "1 candle of 1 series differs"
        return f"{rows} candles of {len(self.differing)} series differ"


def fingerprint_of(data_set: DataSet, figures: Mapping[SeriesKey, Figures]) -> str:
    """The same text for the same candles, wherever their figures were computed."""
    first, last = checks.range_ms(data_set.start, data_set.end)
    series = [
        [key.symbol, key.exchange, *figures.get(key, NOTHING)]  # nothing stored is a figure, too
        for key in data_set.keys
    ]
    text = json.dumps([data_set.timeframe.value, first, last, series], ensure_ascii=True)
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()


def checked_fingerprint(fingerprint: str | None) -> str:
    """:raises InvalidData: it is none of a data set."""
    if fingerprint is None or not fingerprint.startswith(PREFIX):
        raise InvalidData(
            "is not the fingerprint of a data set",
            field="data_fingerprint",
            value=fingerprint,
            remedy="Store what `await storage.fingerprint(data_set)` returned beside the data set.",
        )
    return fingerprint


def figures_of(columns: Columns) -> Figures:
    """The figures of candles that are here: what ClickHouse says of the same candles."""
    hashes = _hashes(columns)
    mixed = np.bitwise_xor.reduce(hashes) if len(hashes) else 0
    return Figures(columns.rows, int(hashes.sum(dtype=np.uint64)), int(mixed))


def _hashes(columns: Columns) -> UInt64Array:
    """One hash for each row: of its time, then of that and the first price, and so on."""
    chain = np.zeros(columns.rows, np.uint64)
    for column in columns:
        chain = _int_hash(chain ^ column.view(np.uint64))
    return chain


def _int_hash(numbers: UInt64Array) -> UInt64Array:
    """As ClickHouse's ``intHash64``."""
    mixed = numbers ^ np.uint64(0x4CF2D2BAAE6DA887)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def differences(key: SeriesKey, before: Columns, now: Columns) -> SeriesDifference:
    """Compare two states of a series, value by value."""
    at = np.searchsorted(now.timestamp, before.timestamp)
    at = np.minimum(at, max(now.rows - 1, 0))
    stays = now.timestamp[at] == before.timestamp if now.rows else np.zeros(before.rows, np.bool_)
    kept = np.flatnonzero(stays)
    same = np.ones(len(kept), np.bool_)
    for old, new in zip(before, now, strict=True):
        same &= old[kept] == new[at[kept]]
    return SeriesDifference(
        key,
        added=now.rows - len(kept),
        corrected=int(len(kept) - same.sum()),
        deleted=before.rows - len(kept),
    )
