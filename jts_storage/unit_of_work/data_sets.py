"""Data sets over the real stores: moments by the commit clock, figures by ClickHouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jts_storage.clickhouse.data_sets import ClickHouseDataSets
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import DataSet, Figures, SeriesDifference
from jts_storage.domain.enums import Market
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.unit_of_work.moments import Moments
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.purges import StoredPurges


class StoredDataSets:
    """A `DataSetReader` over the stores of one storage."""

    def __init__(self, stores: Stores) -> None:
        self._stores, self._purges = stores, StoredPurges(stores)
        self._candles: ClickHouseDataSets = stores.candles.data_sets()

    async def commit(self, as_of: AsOf | None) -> Commit:
        if as_of is None:
            as_of = Commit(await self._stores.clock.latest())
        return Commit(await Moments(self._stores).version(as_of))

    async def symbols_of(self, market: Market) -> frozenset[str]:
        return await self._stores.candles.symbols_of(market)

    async def rows(self, asked: PanelQuery, commit: Commit) -> Mapping[SeriesKey, int]:
        read = self._candles.rows
        found = await self._stores.clickhouse.run_read(read, asked, commit.version)
        await self._purges.check(commit, asked.is_of)
        return found

    async def figures(self, data_set: DataSet) -> Mapping[SeriesKey, Figures]:
        found = await self._stores.clickhouse.run_read(self._candles.figures, data_set)
        await self._purges.check(data_set.commit, data_set.asked.is_of)
        return found

    async def differing(self, data_set: DataSet) -> Sequence[SeriesDifference]:
        found = await self._stores.clickhouse.run_read(self._candles.differing, data_set)
        await self._purges.check(data_set.commit, data_set.asked.is_of)
        return found
