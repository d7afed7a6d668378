"""Data sets with proof: name what a backtest sees, and tell later whether it is still that."""

from __future__ import annotations

from dataclasses import replace

from jts_storage.domain.backtest import BacktestConfig
from jts_storage.domain.data_sets import (
    DataSet,
    DataSetQuery,
    Verification,
    checked_fingerprint,
    fingerprint_of,
)
from jts_storage.domain.enums import Market, member
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.errors import InvalidData
from jts_storage.ports.data_sets import DataSetReader


class DataSets:
    """Names candles and proves them, by what the stores tell of them."""

    def __init__(self, reader: DataSetReader) -> None:
        self._reader = reader

    async def of(self, asked: DataSetQuery) -> DataSet:
        start, end, market = asked.start, asked.end, asked.market
        wanted = PanelQuery.of(asked.timeframe, start, end, asked.keys, asked.exchange)
        if market is not None:
            symbols = await self._reader.symbols_of(member(Market, market, "market"))
            wanted = replace(wanted, symbols=symbols)
        commit = await self._reader.commit(asked.as_of)
        found = tuple(await self._reader.rows(wanted, commit))
        return DataSet(wanted.timeframe, start, end, found, commit)

    async def fingerprint(self, data_set: DataSet) -> str:
        commit = await self._reader.commit(data_set.commit)
        asked = replace(data_set, commit=commit)
        return fingerprint_of(asked, await self._reader.figures(asked))

    async def verify(self, config: BacktestConfig) -> Verification:
        data_set = config.data_set
        if data_set is None:
            raise InvalidData(
                "is not stored with this result, so nobody knows what it saw",
                field="data_set",
                remedy="Give BacktestConfig what `await storage.data_set(...)` returned.",
            )
        expected = checked_fingerprint(config.data_fingerprint)
        fingerprint = await self.fingerprint(data_set)
        return Verification(
            data_set=data_set,
            fingerprint=fingerprint,
            is_reproducible=fingerprint == expected,
            differing=tuple(await self._reader.differing(data_set)),
        )
