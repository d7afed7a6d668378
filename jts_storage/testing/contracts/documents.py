"""The contract of documents in units of work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from jts_storage.domain.formula import Formula
from jts_storage.domain.strategy import StopLossRule
from jts_storage.errors import Conflict, InUse, StorageError
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.factories import make_backtest, make_formula, make_strategy


async def stored_formulas(storage: Storage, *names: str) -> Sequence[Formula]:
    async with storage.unit_of_work() as uow:
        saved = await uow.formulas.save_many([make_formula(name) for name in names])
        await uow.commit()
    return saved


@pytest.mark.asyncio
class DocumentsInUnitsOfWorkContract:
    """Give it a fixture `storage`: an open `Storage` of which nothing is stored."""

    async def test_what_is_used_while_its_commit_runs_is_over(self, storage: Storage) -> None:
        refused = 0
        async with storage.unit_of_work() as uow:
            formulas, strategies, backtests = uow.formulas, uow.strategies, uow.backtests
            await formulas.save(make_formula("in time"))
            committing = asyncio.create_task(uow.commit())
            await asyncio.sleep(0)
            while not committing.done() or not refused:
                for late in (
                    formulas.save(make_formula("late")),
                    formulas.save_many([make_formula("late")]),
                    formulas.list(),
                    formulas.search("late"),
                    formulas.delete("f" * 24),
                    strategies.save(make_strategy("late")),
                    strategies.get_by_formula("f" * 24),
                    strategies.delete("f" * 24),
                    backtests.save(make_backtest()),
                    backtests.latest("f" * 24),
                    backtests.delete("f" * 24),
                ):
                    with pytest.raises(StorageError, match="This unit of work is over"):
                        await late
                    refused += 1
                await asyncio.sleep(0)
            await committing
        assert [each.name for each in await storage.formulas.list()] == ["in time"]
        assert list(await storage.strategies.list()) == []
        assert list(await storage.backtests.list()) == []

    @pytest.mark.parametrize("pauses", range(12))
    async def test_what_runs_when_the_commit_begins_is_part_of_it_or_refused(
        self, storage: Storage, pauses: int
    ) -> None:
        async with storage.unit_of_work() as uow:
            formulas = uow.formulas
            await formulas.save(make_formula("in time"))
            saving = [
                asyncio.create_task(formulas.save(make_formula(f"running {number}")))
                for number in range(3)
            ]
            for _ in range(pauses):
                await asyncio.sleep(0)
            await uow.commit()
            outcomes = await asyncio.gather(*saving, return_exceptions=True)
        told = {each.name for each in outcomes if isinstance(each, Formula)}
        assert all(isinstance(each, Formula | StorageError) for each in outcomes)
        stored = {each.name for each in await storage.formulas.list()}
        assert stored == told | {"in time"}

    async def test_saves_side_by_side_are_all_stored(self, storage: Storage) -> None:
        # With as many open connections, they would reach a server in any order.
        await asyncio.gather(*(storage.formulas.list() for _ in range(20)))
        async with storage.unit_of_work() as uow:
            saved: list[Any] = await asyncio.gather(
                *(uow.formulas.save(make_formula(f"f{number}")) for number in range(7)),
                *(uow.strategies.save(make_strategy(f"s{number}")) for number in range(7)),
                *(uow.backtests.save(make_backtest()) for _ in range(6)),
            )
            assert len(await uow.formulas.list()) == 7
            await uow.commit()
        stored: list[Any] = [
            *await storage.formulas.list(),
            *await storage.strategies.list(),
            *await storage.backtests.list(),
        ]
        assert {each.id for each in stored} == {each.id for each in saved}
        assert len(stored) == 20

    @pytest.mark.parametrize("role", ["entry_formula_id", "exit_formula_id", "stop_loss_rule"])
    @pytest.mark.parametrize("deletes_first", [True, False])
    async def test_of_a_use_and_a_deletion_of_a_formula_one_wins(
        self, storage: Storage, role: str, deletes_first: bool
    ) -> None:
        [formula] = await stored_formulas(storage, "contended")
        assert formula.id is not None
        name = StopLossRule(formula_id=formula.id) if role == "stop_loss_rule" else formula.id
        strategy = make_strategy("its user", **{role: name})
        async with storage.unit_of_work() as using, storage.unit_of_work() as deleting:
            assert await using.formulas.get_by_id(formula.id) == formula
            assert await deleting.formulas.get_by_id(formula.id) == formula
            steps: list[tuple[UnitOfWork, Callable[[], Awaitable[object]]]] = [
                (using, lambda: using.strategies.save(strategy)),
                (deleting, lambda: deleting.formulas.delete(formula.id or "")),
            ]
            if deletes_first:
                steps.reverse()
            refused: list[Conflict] = []
            for uow, step in steps:
                try:
                    await step()
                except Conflict as exc:
                    refused.append(exc)
                    await uow.rollback()
            for uow, _ in steps:
                try:
                    await uow.commit()
                except Conflict as exc:
                    refused.append(exc)
                except StorageError:
                    assert refused, "only what was rolled back cannot be committed"
        assert len(refused) == 1
        is_there = await storage.formulas.get_by_id(formula.id) is not None
        users = await storage.strategies.get_by_formula(formula.id)
        assert [each.name for each in users] == (["its user"] if is_there else [])
        assert is_there is not deletes_first, "the first to commit wins"

    async def test_a_formula_deleted_by_its_id_in_capital_letters_conflicts_with_its_use(
        self, storage: Storage
    ) -> None:
        formulas = await stored_formulas(storage, *"abcdefgh")
        # Ids are made of a counter: some have no letter.
        formula = next(each for each in formulas if set(each.id or "") & set("abcdef"))
        capitals = (formula.id or "").upper()
        with pytest.raises(Conflict):
            async with storage.unit_of_work() as using, storage.unit_of_work() as deleting:
                await using.formulas.get_by_id(capitals)
                await deleting.formulas.get_by_id(capitals)
                await using.strategies.save(make_strategy(entry_formula_id=capitals))
                await using.commit()
                await deleting.formulas.delete(capitals)
                await deleting.commit()
        assert await storage.formulas.get_by_id(capitals) == formula

    @pytest.mark.parametrize("deletes_first", [True, False])
    async def test_a_forced_deletion_looks_at_no_use(
        self, storage: Storage, deletes_first: bool
    ) -> None:
        """It is the caller's wish that references may lead nowhere: nobody has to give way."""
        [formula] = await stored_formulas(storage, "forced")
        assert formula.id is not None
        async with storage.unit_of_work() as using, storage.unit_of_work() as deleting:
            assert await deleting.formulas.get_by_id(formula.id) == formula
            await using.strategies.save(make_strategy(entry_formula_id=formula.id))
            assert await deleting.formulas.delete(formula.id, force=True)
            for uow in (deleting, using) if deletes_first else (using, deleting):
                await uow.commit()
        assert await storage.formulas.get_by_id(formula.id) is None
        assert len(await storage.strategies.get_by_formula(formula.id)) == 1

    @pytest.mark.parametrize("force", [True, False])
    async def test_a_deletion_of_what_is_changed_meanwhile_is_a_conflict(
        self, storage: Storage, force: bool
    ) -> None:
        [formula] = await stored_formulas(storage, "changed")
        assert formula.id is not None
        with pytest.raises(Conflict):
            async with storage.unit_of_work() as changing, storage.unit_of_work() as deleting:
                assert await deleting.formulas.get_by_id(formula.id) == formula
                await changing.formulas.save(replace(formula, name="theirs"))
                await changing.commit()
                await deleting.formulas.delete(formula.id, force=force)
                await deleting.commit()
        [stored] = await storage.formulas.list()
        assert stored.name == "theirs"

    async def test_a_deletion_of_what_is_not_there_conflicts_with_nobody(
        self, storage: Storage
    ) -> None:
        nothing = "abcdef" * 4
        async with storage.unit_of_work() as deleting, storage.unit_of_work() as writing:
            assert not await deleting.formulas.delete(nothing)
            assert not await deleting.formulas.delete(nothing, force=True)
            assert not await deleting.strategies.delete(nothing)
            assert not await deleting.backtests.delete(nothing)
            await writing.strategies.save(make_strategy(entry_formula_id=nothing))
            await writing.backtests.save(replace(make_backtest(), id=nothing))
            await writing.commit()
            await deleting.commit()
        assert await storage.backtests.get_by_id(nothing) is not None
        assert len(await storage.strategies.get_by_formula(nothing)) == 1

    async def test_what_is_made_and_deleted_in_one_unit_of_work_is_not_there(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work() as uow:
            formula = await uow.formulas.save(make_formula())
            strategy = await uow.strategies.save(make_strategy(entry_formula_id=formula.id))
            assert await uow.strategies.delete(strategy.id or "")
            assert await uow.formulas.delete(formula.id or "")
            assert await uow.formulas.get_by_id(formula.id or "") is None
            await uow.commit()
        assert list(await storage.formulas.list()) == []
        assert list(await storage.strategies.list()) == []

    async def test_a_formula_is_not_deleted_beside_a_unit_of_work_that_uses_it(
        self, storage: Storage
    ) -> None:
        [formula] = await stored_formulas(storage, "contended")
        assert formula.id is not None
        async with storage.unit_of_work() as uow:
            await uow.strategies.save(make_strategy(entry_formula_id=formula.id))
            deleting = asyncio.create_task(
                storage.run(lambda other: other.formulas.delete(formula.id or ""))
            )
            await asyncio.sleep(0.05)
            outcomes = await asyncio.gather(uow.commit(), deleting, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, Conflict)]
        assert len(refused) == 1, outcomes
        is_there = await storage.formulas.get_by_id(formula.id) is not None
        assert is_there is isinstance(outcomes[1], InUse)
        assert len(await storage.strategies.get_by_formula(formula.id)) == is_there

    async def test_strategies_that_go_on_using_a_formula_do_not_conflict(
        self, storage: Storage
    ) -> None:
        [formula] = await stored_formulas(storage, "shared")
        async with storage.unit_of_work() as uow:
            strategies = await uow.strategies.save_many(
                [make_strategy(f"s{number}", entry_formula_id=formula.id) for number in range(2)]
            )
            await uow.commit()
        async with storage.unit_of_work() as one, storage.unit_of_work() as other:
            await one.strategies.save(replace(strategies[0], name="changed"))
            await other.strategies.save_many([replace(strategies[1], name="changed")])
            await one.commit()
            await other.commit()
        assert [each.name for each in await storage.strategies.list()] == ["changed"] * 2

    async def test_a_formula_that_is_not_used_any_more_can_be_deleted(
        self, storage: Storage
    ) -> None:
        old, new = await stored_formulas(storage, "old", "new")
        async with storage.unit_of_work() as uow:
            strategy = await uow.strategies.save(make_strategy(entry_formula_id=old.id))
            await uow.commit()
        async with storage.unit_of_work() as uow:
            await uow.strategies.save(replace(strategy, entry_formula_id=new.id))
            assert await uow.formulas.delete(old.id or "")
            await uow.commit()
        assert [each.name for each in await storage.formulas.list()] == ["new"]
        with pytest.raises(InUse):
            await storage.run(lambda uow: uow.formulas.delete(new.id or ""))
