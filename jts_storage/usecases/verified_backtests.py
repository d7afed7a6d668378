"""Backtest results that can be verified: readers of results know no candles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from jts_storage._runtime.reads_only import ReadsOnly
from jts_storage.domain.backtest import BacktestResult, BacktestSummary, Trade
from jts_storage.domain.data_sets import Verification
from jts_storage.domain.enums import Metric
from jts_storage.errors import InvalidData, NotFound
from jts_storage.ports.backtests import BacktestReader
from jts_storage.ports.data_sets import DataSetReader
from jts_storage.usecases.data_sets import DataSets


class VerifiedBacktests(ReadsOnly):
    """A `BacktestStore` over a reader of results and one of data sets."""

    place = "backtests"

    def __init__(self, results: BacktestReader, data_sets: DataSetReader) -> None:
        self._results, self._data_sets = results, data_sets

    async def get_by_id(self, result_id: str) -> BacktestResult | None:
        return await self._results.get_by_id(result_id)

    async def get_many(self, result_ids: Iterable[str]) -> Sequence[BacktestResult]:
        return await self._results.get_many(result_ids)

    async def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestSummary]:
        return await self._results.get_by_strategy(strategy_id, limit=limit, after=after)

    async def latest(self, strategy_id: str) -> BacktestResult | None:
        return await self._results.latest(strategy_id)

    async def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestSummary]:
        return await self._results.best(metric, limit=limit, strategy_id=strategy_id)

    def trades(self, result_id: str) -> AsyncIterator[Trade]:
        return self._results.trades(result_id)

    async def verify(self, result_id: str) -> Verification:
        result = await self._results.get_by_id(result_id)
        if result is None:
            raise NotFound(
                f"There is no backtest result {result_id!r}.",
                remedy="backtests.list() has their ids.",
            )
        try:
            return await DataSets(self._data_sets).verify(result.config)
        except InvalidData as exc:
            message = f"backtest result {result_id} cannot be verified: {exc.args[0]}"
            error = InvalidData(message, remedy=exc.remedy)
            error.field, error.value = exc.field, exc.value
            raise error from exc

    async def list(
        self, *, limit: int = 100, after: str | None = None, strict: bool = False
    ) -> Sequence[BacktestSummary]:
        return await self._results.list(limit=limit, after=after, strict=strict)
