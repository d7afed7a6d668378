"""The contract of a store of backtest results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from jts_storage.domain.backtest import BacktestResult, BacktestSummary, Trade
from jts_storage.domain.data_sets import Verification
from jts_storage.domain.enums import Metric


class BacktestReader(Protocol):
    """Reads backtest results; of equal `run_at` the greater id counts as the newer.

    Lists give summaries: the trades of a result are read only when they are asked for. A summary
    that cannot be read is left out of lists, with a line in the log.
    """

    async def get_by_id(self, result_id: str) -> BacktestResult | None:
        """The result of that id with all its trades, None if there is none.

        :raises InvalidData: the result, or one of its trades, cannot be read.
        """
        ...

    async def get_many(self, result_ids: Iterable[str]) -> Sequence[BacktestResult]:
        """The results of those ids with all their trades, in the order given.

        An id of which nothing is stored is left out.

        :raises InvalidData: a result, or one of its trades, cannot be read.
        """
        ...

    async def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestSummary]:
        """The results of a strategy without their trades, newest first.

        :param after: the id of the last result of the page before.
        """
        ...

    async def latest(self, strategy_id: str) -> BacktestResult | None:
        """The newest result of a strategy, with all its trades."""
        ...

    async def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestSummary]:
        """Results ranked by a metric, of one strategy or of all; equal ones newest first.

        They come without their trades. Where less is better (the drawdown) the least comes first.
        Results without the metric are left out.
        """
        ...

    async def list(
        self, *, limit: int = 100, after: str | None = None, strict: bool = False
    ) -> Sequence[BacktestSummary]:
        """All results without their trades, by id.

        :param strict: raise `InvalidData` for one that cannot be read, in place of leaving it out.
        """
        ...

    def trades(self, result_id: str) -> AsyncIterator[Trade]:
        """The trades of a result in their order, in constant memory; none if there is no result."""
        ...


class BacktestStore(BacktestReader, Protocol):
    """Reads backtest results, and compares what they saw with what is stored."""

    async def verify(self, result_id: str) -> Verification:
        """Compare the candles that a backtest saw with those that are stored now.

        They are compared where they are stored. The fingerprint is computed again as of the commit
        of the data set, so that a damaged history is noticed.

        :raises NotFound: there is no such result.
        :raises InvalidData: the result names no data set or no fingerprint of one, or the history
            no longer reaches back to its commit.
        """
        ...


class BacktestRepository(BacktestReader, Protocol):
    """Reads and writes backtest results. A result is written once."""

    async def save(self, result: BacktestResult) -> BacktestResult:
        """Store a result of any number of trades; what returns carries its id.

        In a unit of work, a result that names no versions gets those of its strategy and of the
        formulas that it uses, as they are stored. Saved once more, it keeps them.

        :raises Conflict: a different result is stored under that id.
        """
        ...

    async def delete(self, result_id: str) -> bool:
        """Remove a result and its trades; whether there was one."""
        ...
