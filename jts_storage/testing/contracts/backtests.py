"""The contract of `BacktestRepository`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from jts_storage.domain.backtest import BacktestMetrics, BacktestResult, BacktestSummary
from jts_storage.domain.enums import Metric, TradeSide
from jts_storage.errors import Conflict, InvalidData
from jts_storage.ports.backtests import BacktestRepository
from jts_storage.testing.factories import START, make_backtest, make_trade

ONE, OTHER = "1" * 24, "2" * 24


def run(day: int, strategy_id: str = ONE, **fields: Any) -> BacktestResult:
    return make_backtest(strategy_id, run_at=START + timedelta(days=day), **fields)


async def in_full(
    repository: BacktestRepository, listed: Sequence[BacktestSummary]
) -> list[BacktestResult]:
    """The results that were listed, of which each is shown without its trades."""
    results = list(await repository.get_many(str(each.id) for each in listed))
    assert list(listed) == [result.summary() for result in results]
    return results


@pytest.mark.asyncio
class BacktestRepositoryContract:
    """Give it a fixture `backtest_repository`: a `BacktestRepository` of an empty store."""

    async def test_what_is_no_result_is_refused(
        self, backtest_repository: BacktestRepository
    ) -> None:
        repository: Any = backtest_repository
        with pytest.raises(InvalidData):
            await repository.save("x")
        assert await repository.get_by_id(None) is None

    async def test_what_was_saved_is_read_exactly(
        self, backtest_repository: BacktestRepository
    ) -> None:
        trades = (
            make_trade(pnl=Decimal("-1.234567890123456789012345678901234")),
            make_trade(side=TradeSide.SHORT, exit_time=None, exit_price=None, pnl=None),
            make_trade(quantity=Decimal("0.00000123"), exit_reason=None),
        )
        metrics = BacktestMetrics(total_return_pct=-0.1, sharpe_ratio=None, total_trades=3)
        result = replace(make_backtest(), trades=trades, metrics=metrics)
        saved = await backtest_repository.save(result)
        assert saved.id is not None
        assert replace(saved, id=None) == result
        assert await backtest_repository.get_by_id(saved.id) == saved

    async def test_an_id_in_capital_letters_is_the_same_id(
        self, backtest_repository: BacktestRepository
    ) -> None:
        strategy, identity = "abcdef" * 4, "fedcba" * 4
        saved = await backtest_repository.save(
            replace(run(1, strategy.upper()), id=identity.upper())
        )
        assert (saved.id, saved.strategy_id) == (identity, strategy)
        older = await backtest_repository.save(run(0, strategy))
        capitals = identity.upper()
        assert await backtest_repository.get_by_id(capitals) == saved
        assert await backtest_repository.latest(strategy.upper()) == saved
        by_strategy = backtest_repository.get_by_strategy
        found_ids = [found.id for found in await by_strategy(strategy.upper())]
        assert found_ids == [saved.id, older.id]
        [found_after] = await by_strategy(strategy.upper(), after=capitals)
        assert found_after.id == older.id
        best = await backtest_repository.best(Metric.TOTAL_TRADES, strategy_id=strategy.upper())
        assert len(best) == 2
        assert saved.id not in {each.id for each in await backtest_repository.list(after=capitals)}
        found = [trade async for trade in backtest_repository.trades(capitals)]
        assert found == list(saved.trades)
        assert await backtest_repository.save(replace(saved, id=capitals)) == saved
        assert await backtest_repository.delete(capitals)
        assert await backtest_repository.get_by_id(identity) is None

    async def test_a_result_without_trades(self, backtest_repository: BacktestRepository) -> None:
        saved = await backtest_repository.save(make_backtest(trades=0))
        assert await backtest_repository.get_by_id(saved.id or "") == saved
        assert [trade async for trade in backtest_repository.trades(saved.id or "")] == []

    @pytest.mark.parametrize("unknown", ["", "nothing", "f" * 24, '{"$gt": ""}'])
    async def test_an_unknown_id_is_not_found(
        self, backtest_repository: BacktestRepository, unknown: str
    ) -> None:
        await backtest_repository.save(make_backtest())
        assert await backtest_repository.get_by_id(unknown) is None
        assert await backtest_repository.latest(unknown) is None
        assert list(await backtest_repository.get_by_strategy(unknown)) == []
        assert list(await backtest_repository.get_many([unknown])) == []
        assert [trade async for trade in backtest_repository.trades(unknown)] == []
        assert await backtest_repository.delete(unknown) is False

    async def test_saving_the_same_again_is_harmless_and_a_different_one_a_conflict(
        self, backtest_repository: BacktestRepository
    ) -> None:
        saved = await backtest_repository.save(make_backtest())
        assert await backtest_repository.save(saved) == saved
        with pytest.raises(Conflict):
            await backtest_repository.save(replace(saved, trades=()))
        assert await backtest_repository.get_by_id(saved.id or "") == saved
        assert len(await backtest_repository.list()) == 1

    async def test_trades_are_streamed_in_their_order(
        self, backtest_repository: BacktestRepository
    ) -> None:
        saved = await backtest_repository.save(make_backtest(trades=2_500))
        streamed = [trade async for trade in backtest_repository.trades(saved.id or "")]
        assert tuple(streamed) == saved.trades

    async def test_results_of_a_strategy_come_newest_first_in_pages(
        self, backtest_repository: BacktestRepository
    ) -> None:
        saved = [await backtest_repository.save(run(day)) for day in (2, 5, 1, 4, 3)]
        await backtest_repository.save(run(9, OTHER))
        newest_first = sorted(saved, key=lambda result: result.run_at, reverse=True)
        listed = await backtest_repository.get_by_strategy(ONE)
        assert await in_full(backtest_repository, listed) == newest_first
        assert await backtest_repository.latest(ONE) == newest_first[0]
        page = await backtest_repository.get_by_strategy(ONE, limit=2, after=newest_first[1].id)
        assert await in_full(backtest_repository, page) == newest_first[2:4]

    async def test_of_equal_times_the_greater_id_is_the_newer(
        self, backtest_repository: BacktestRepository
    ) -> None:
        saved = [await backtest_repository.save(run(0)) for _ in range(4)]
        newest_first = sorted(saved, key=lambda result: result.id or "", reverse=True)
        listed = await backtest_repository.get_by_strategy(ONE)
        assert await in_full(backtest_repository, listed) == newest_first
        page = await backtest_repository.get_by_strategy(ONE, after=newest_first[0].id)
        assert await in_full(backtest_repository, page) == newest_first[1:]

    async def test_the_best_are_ranked_by_the_metric(
        self, backtest_repository: BacktestRepository
    ) -> None:
        figures = {"low": 1.0, "high": 3.0, "middle": 2.0}
        saved = {
            name: await backtest_repository.save(
                run(0, metrics=BacktestMetrics(sharpe_ratio=value, max_drawdown_pct=value))
            )
            for name, value in figures.items()
        }
        without = await backtest_repository.save(run(0, OTHER, metrics=BacktestMetrics()))
        best = await backtest_repository.best(Metric.SHARPE_RATIO)
        assert await in_full(backtest_repository, best) == [
            saved["high"],
            saved["middle"],
            saved["low"],
        ]
        least = await backtest_repository.best(Metric.MAX_DRAWDOWN_PCT, limit=1)
        assert await in_full(backtest_repository, least) == [saved["low"]]
        assert without.summary() not in best
        assert list(await backtest_repository.best(Metric.SHARPE_RATIO, strategy_id=OTHER)) == []

    async def test_equal_figures_rank_newest_first(
        self, backtest_repository: BacktestRepository
    ) -> None:
        saved = [await backtest_repository.save(run(day)) for day in (1, 3, 2)]
        best = await backtest_repository.best(Metric.WIN_RATE)
        assert await in_full(backtest_repository, best) == [saved[1], saved[2], saved[0]]

    async def test_lists_come_in_pages_by_id(self, backtest_repository: BacktestRepository) -> None:
        saved = sorted(
            [await backtest_repository.save(run(day)) for day in range(4)],
            key=lambda result: result.id or "",
        )
        page = await backtest_repository.list(limit=3)
        assert await in_full(backtest_repository, page) == saved[:3]
        page = await backtest_repository.list(after=saved[2].id)
        assert await in_full(backtest_repository, page) == saved[3:]

    async def test_several_are_read_in_the_order_asked_for(
        self, backtest_repository: BacktestRepository
    ) -> None:
        saved = [await backtest_repository.save(run(day)) for day in range(3)]
        ids = [str(saved[place].id) for place in (2, 0, 1)]
        asked = [ids[0], "f" * 24, ids[1].upper(), "no id", ids[2], ids[0]]
        found = await backtest_repository.get_many(asked)
        assert list(found) == [saved[2], saved[0], saved[1], saved[2]]
        assert list(await backtest_repository.get_many([])) == []
        repository: Any = backtest_repository
        for bad in (None, 5, [5]):
            with pytest.raises(InvalidData):
                await repository.get_many(bad)

    async def test_delete_removes_result_and_trades(
        self, backtest_repository: BacktestRepository
    ) -> None:
        saved = await backtest_repository.save(make_backtest())
        assert await backtest_repository.delete(saved.id or "") is True
        assert await backtest_repository.delete(saved.id or "") is False
        assert await backtest_repository.get_by_id(saved.id or "") is None
        assert [trade async for trade in backtest_repository.trades(saved.id or "")] == []

    async def test_a_strict_list_is_the_same_where_all_can_be_read(
        self, backtest_repository: BacktestRepository
    ) -> None:
        saved = await backtest_repository.save(make_backtest())
        listed = await backtest_repository.list(strict=True)
        assert await in_full(backtest_repository, listed) == [saved]

    async def test_a_result_too_large_without_its_trades_is_refused(
        self, backtest_repository: BacktestRepository
    ) -> None:
        result = make_backtest()
        symbols = tuple(f"{number:0250}" for number in range(40_000))
        large = replace(result, config=replace(result.config, symbols=symbols))
        with pytest.raises(InvalidData, match="bytes"):
            await backtest_repository.save(large)
        assert list(await backtest_repository.list()) == []
