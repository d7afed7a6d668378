"""Data sets of what is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns, empty
from jts_storage.domain.data_sets import (
    DataSet,
    Figures,
    SeriesDifference,
    differences,
    figures_of,
)
from jts_storage.domain.enums import Market
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.series import CandleSeries
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.moments import version_of
from jts_storage.memory.tables import MemoryDatabase


class InMemoryDataSets:
    """A `DataSetReader` over columns by key."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def commit(self, as_of: AsOf | None) -> Commit:
        with self._database.lock:
            moment = Commit(self._database.version) if as_of is None else as_of
            return Commit(version_of(self._database, moment))

    async def symbols_of(self, market: Market) -> frozenset[str]:
        return await InMemoryCandleRepository(self._database).symbols_of(market)

    async def rows(self, asked: PanelQuery, commit: Commit) -> Mapping[SeriesKey, int]:
        found = {key: then.rows for key, then, _ in self._states(asked, commit) if then.rows}
        self._database.beginnings.check(commit, asked.is_of)
        return found

    async def figures(self, data_set: DataSet) -> Mapping[SeriesKey, Figures]:
        states = self._states(data_set.asked, data_set.commit)
        found = {key: figures_of(then) for key, then, _ in states}
        self._database.beginnings.check(data_set.commit, data_set.asked.is_of)
        return found

    async def differing(self, data_set: DataSet) -> Sequence[SeriesDifference]:
        states = self._states(data_set.asked, data_set.commit)
        found = [differences(*state) for state in states]
        self._database.beginnings.check(data_set.commit, data_set.asked.is_of)
        return [each for each in found if each.rows]

    def _states(
        self, asked: PanelQuery, commit: Commit
    ) -> Iterator[tuple[SeriesKey, Columns, Columns]]:
        """The candles of each series as they were then, and as they are."""
        with self._database.lock:
            keys = sorted(filter(asked.is_of, self._database.past), key=lambda key: key.sort_key)
            present = {key: self._database.candles.get(key, empty()) for key in keys}
            then = {
                key: self._database.past[key].as_of(present[key], commit.version) for key in keys
            }
        for key in keys:
            yield key, _within(asked, key, then[key]), _within(asked, key, present[key])


def _within(asked: PanelQuery, key: SeriesKey, columns: Columns) -> Columns:
    return CandleSeries.trusted(key, columns).slice_ms(asked.first, asked.last).columns
