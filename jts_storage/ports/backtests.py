"""The contract of a store of backtest results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from jts_storage.domain.backtest import BacktestResult, Trade
from jts_storage.domain.enums import Metric


class BacktestReader(Protocol):
    """Reads backtest results; of equal `run_at` the greater id counts as the newer.

    What is stored and cannot be read is left out of lists, with a line in the log.
    """

    async def get_by_id(self, result_id: str) -> BacktestResult | None:
        """The result of that id with all its trades, None if there is none."""
        ...

    async def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestResult]:
        """The results of a strategy, newest first.

        :param after: the id of the last result of the page before.
        """
        ...

    async def latest(self, strategy_id: str) -> BacktestResult | None:
        """The newest result of a strategy."""
        ...

    async def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestResult]:
        """Results ranked by a metric, of one strategy or of all; equal ones newest first.

        Where less is better (the drawdown) the least comes first. Results without the metric are
        left out.
        """
        ...

    async def list(
        self, *, limit: int = 100, after: str | None = None, strict: bool = False
    ) -> Sequence[BacktestResult]:
        """All results by id.

        :param strict: raise `InvalidData` for one that cannot be read, in place of leaving it out.
        """
        ...

    def trades(self, result_id: str) -> AsyncIterator[Trade]:
        """The trades of a result in their order, in constant memory; none if there is no result."""
        ...


class BacktestRepository(BacktestReader, Protocol):
    """Reads and writes backtest results. A result is written once."""

    async def save(self, result: BacktestResult) -> BacktestResult:
        """Store a result of any number of trades; what returns carries its id.

        :raises Conflict: a different result is stored under that id.
        """
        ...

    async def delete(self, result_id: str) -> bool:
        """Remove a result and its trades; whether there was one."""
        ...
