"""The contract of `StrategyRepository`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from jts_storage.domain.strategy import RiskConfig, StopLossRule, Strategy
from jts_storage.errors import Conflict, InvalidData
from jts_storage.ports.strategies import StrategyRepository
from jts_storage.testing.factories import make_formula, make_strategy

FORMULA = "d" * 24


def names(strategies: object) -> list[str]:
    return [strategy.name for strategy in strategies]  # type: ignore[attr-defined]


@pytest.mark.asyncio
class StrategyRepositoryContract:
    """Give it a fixture `strategy_repository`: a `StrategyRepository` of an empty store."""

    async def test_what_is_no_strategy_is_refused(
        self, strategy_repository: StrategyRepository
    ) -> None:
        repository: Any = strategy_repository
        for refused in (repository.save(make_formula()), repository.save_many([make_formula()])):
            with pytest.raises(InvalidData):
                await refused
        assert await repository.get_by_id(None) is None

    @pytest.mark.parametrize(
        "strategy",
        [
            make_strategy(),
            make_strategy(
                entry_formula_id=None, exit_formula_id=None, stop_loss_rule=None, description=None
            ),
            make_strategy(stop_loss_rule=StopLossRule(formula_id=FORMULA)),
            make_strategy(
                stop_loss_rule=StopLossRule(percentage=Decimal("0.12345678901234")),
                risk_config=RiskConfig(
                    position_size_pct=Decimal("33.3333333333333"),
                    max_positions=7,
                    take_profit_pct=Decimal("250.1"),
                    max_daily_loss_pct=Decimal("0.1"),
                ),
            ),
        ],
        ids=["usual", "bare", "stopped by a formula", "awkward percentages"],
    )
    async def test_what_was_saved_is_read(
        self, strategy_repository: StrategyRepository, strategy: Strategy
    ) -> None:
        saved = await strategy_repository.save(strategy)
        assert saved.id is not None
        assert saved.version == 1
        assert replace(saved, id=None, created_at=None, updated_at=None) == strategy
        assert await strategy_repository.get_by_id(saved.id) == saved

    @pytest.mark.parametrize("unknown", ["", "nothing", "f" * 24, '{"$gt": ""}'])
    async def test_an_unknown_id_is_not_found(
        self, strategy_repository: StrategyRepository, unknown: str
    ) -> None:
        await strategy_repository.save(make_strategy())
        assert await strategy_repository.get_by_id(unknown) is None
        assert list(await strategy_repository.get_by_formula(unknown)) == []
        assert await strategy_repository.delete(unknown) is False

    async def test_an_update_counts_up_and_a_stale_version_is_a_conflict(
        self, strategy_repository: StrategyRepository
    ) -> None:
        first = await strategy_repository.save(make_strategy())
        second = await strategy_repository.save(replace(first, stop_loss_rule=None))
        assert (second.version, second.created_at) == (2, first.created_at)
        with pytest.raises(Conflict):
            await strategy_repository.save(first)
        assert await strategy_repository.get_by_id(first.id or "") == second

    async def test_saving_what_was_deleted_does_not_bring_it_back(
        self, strategy_repository: StrategyRepository
    ) -> None:
        saved = await strategy_repository.save(make_strategy())
        assert await strategy_repository.delete(saved.id or "") is True
        assert await strategy_repository.delete(saved.id or "") is False
        with pytest.raises(Conflict):
            await strategy_repository.save(saved)

    async def test_an_id_in_capital_letters_is_the_same_id(
        self, strategy_repository: StrategyRepository
    ) -> None:
        saved = await strategy_repository.save(make_strategy())
        while not set(saved.id or "") & set("abcdef"):
            saved = await strategy_repository.save(make_strategy())
        capitals = (saved.id or "").upper()
        assert await strategy_repository.get_by_id(capitals) == saved
        assert saved not in await strategy_repository.list(after=capitals)
        changed = await strategy_repository.save(replace(saved, id=capitals, name="changed"))
        [changed] = await strategy_repository.save_many([replace(changed, id=capitals)])
        assert await strategy_repository.get_by_id(saved.id or "") == changed
        assert await strategy_repository.delete(capitals)
        assert await strategy_repository.get_by_id(saved.id or "") is None

    async def test_all_users_of_a_formula_are_found(
        self, strategy_repository: StrategyRepository
    ) -> None:
        users = {
            "enters": make_strategy("enters", entry_formula_id=FORMULA),
            "leaves": make_strategy("leaves", exit_formula_id=FORMULA),
            "stops": make_strategy("stops", stop_loss_rule=StopLossRule(formula_id=FORMULA)),
        }
        await strategy_repository.save_many([*users.values(), make_strategy("does not")])
        found = await strategy_repository.get_by_formula(FORMULA)
        assert sorted(names(found)) == sorted(users)
        assert list(found) == sorted(found, key=lambda strategy: strategy.id or "")
        page = await strategy_repository.get_by_formula(FORMULA, limit=1, after=found[0].id)
        assert list(page) == [found[1]]

    async def test_lists_come_in_pages_by_id(self, strategy_repository: StrategyRepository) -> None:
        saved = sorted(
            await strategy_repository.save_many([make_strategy(f"s{n}") for n in range(5)]),
            key=lambda strategy: strategy.id or "",
        )
        assert list(await strategy_repository.list(limit=2)) == saved[:2]
        assert list(await strategy_repository.list(after=saved[1].id)) == saved[2:]

    async def test_a_save_over_other_times_than_were_read_is_a_conflict(
        self, strategy_repository: StrategyRepository
    ) -> None:
        saved = await strategy_repository.save(make_strategy())
        assert saved.created_at is not None
        assert saved.updated_at is not None
        for name in ("created_at", "updated_at"):
            earlier = getattr(saved, name) - timedelta(milliseconds=1)
            with pytest.raises(Conflict, match="was changed by somebody else"):
                await strategy_repository.save(replace(saved, **{name: earlier}))
        changed = await strategy_repository.save(replace(saved, created_at=None, updated_at=None))
        assert await strategy_repository.get_by_id(saved.id or "") == changed

    async def test_a_strict_list_is_the_same_where_all_can_be_read(
        self, strategy_repository: StrategyRepository
    ) -> None:
        saved = await strategy_repository.save(make_strategy())
        assert list(await strategy_repository.list(strict=True)) == [saved]

    async def test_the_largest_strategy_can_be_updated(
        self, strategy_repository: StrategyRepository
    ) -> None:
        name, description = "𝒙" * 100_000, "𝒙" * 1_000_000
        saved = await strategy_repository.save(make_strategy(name, description=description))
        saved = await strategy_repository.save(replace(saved, description=description[::-1]))
        assert await strategy_repository.get_by_id(saved.id or "") == saved
