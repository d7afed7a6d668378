"""Units of work that change the same thing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.errors import Conflict
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.contracts.samples import DAY, KEY
from jts_storage.testing.factories import make_candles, make_formula


@pytest.mark.asyncio
class Conflicts:
    """A part of `UnitOfWorkContract`."""

    async def test_of_two_that_change_one_document_the_second_conflicts(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work() as uow:
            formula = await uow.formulas.save(make_formula())
            await uow.commit()
        with pytest.raises(Conflict):
            async with storage.unit_of_work() as first, storage.unit_of_work() as second:
                await first.formulas.save(replace(formula, name="first"))
                await first.candles.save_many(KEY, make_candles(KEY, 5))
                assert await second.formulas.get_by_id(formula.id or "") == formula
                await first.commit()
                await second.candles.save_many(KEY, make_candles(KEY, 9))
                await second.formulas.save(replace(formula, name="second"))
                await second.commit()
        found = await storage.formulas.get_by_id(formula.id or "")
        assert found is not None
        assert (found.name, found.version) == ("first", 2)
        assert await storage.candles.count(KEY) == 5

    async def test_of_two_that_change_one_aggregate_the_second_conflicts(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work() as uow:
            bars = await uow.ingestion.symbol_bars.save(SymbolBars("A", DAY))
            await uow.commit()
        async with storage.unit_of_work() as first:
            await first.ingestion.symbol_bars.save(bars.start_collection())
            await first.commit()
        with pytest.raises(Conflict):
            async with storage.unit_of_work() as second:
                await second.ingestion.symbol_bars.save(bars)
                await second.commit()

    async def test_an_aggregate_deleted_and_made_anew_is_the_new_one(
        self, storage: Storage
    ) -> None:
        """Also where the old one had more versions than the new, and where there was none."""
        for saves in (0, 1, 3):
            old = SymbolBars(f"S{saves}", DAY)
            for _ in range(saves):
                async with storage.unit_of_work() as uow:
                    old = await uow.ingestion.symbol_bars.save(replace(old, bar_count=7))
                    await uow.commit()
            async with storage.unit_of_work() as uow:
                await uow.ingestion.symbol_bars.delete(old.symbol, DAY)
                new = await uow.ingestion.symbol_bars.save(SymbolBars(old.symbol, DAY))
                await uow.commit()
            assert await storage.ingestion.symbol_bars.get(old.symbol, DAY) == new
            assert new.bar_count == 0

    async def test_an_aggregate_made_and_deleted_again_changes_nothing(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work() as uow:
            await uow.ingestion.symbol_bars.save(SymbolBars("005930", DAY))
            assert await uow.ingestion.symbol_bars.delete("005930", DAY)
            assert await uow.ingestion.symbol_bars.get("005930", DAY) is None
            await uow.commit()
        assert await storage.ingestion.symbol_bars.get("005930", DAY) is None

    async def test_an_update_sees_what_a_checkpoint_was_and_may_change_its_copy(
        self, storage: Storage
    ) -> None:
        def count_up(old: Any) -> Any:
            old["n"] = old.get("n", 0) + 1
            return old

        async with storage.unit_of_work() as uow:
            await uow.ingestion.checkpoints.save("counter", {})
            await uow.commit()
        for _ in range(2):
            async with storage.unit_of_work() as uow:
                await uow.ingestion.checkpoints.update("counter", count_up)
                await uow.commit()
        found = await storage.ingestion.checkpoints.get("counter")
        assert found is not None and found.data == {"n": 2}

    @pytest.mark.parametrize("is_deleted", [False, True])
    async def test_a_checkpoint_changed_meanwhile_conflicts_even_from_one_to_true(
        self, storage: Storage, is_deleted: bool
    ) -> None:
        async with storage.unit_of_work() as uow:
            await uow.ingestion.checkpoints.save("flag", {"n": 1})
            await uow.commit()
        async with storage.unit_of_work() as uow:
            await uow.ingestion.checkpoints.update("flag", lambda old: {"n": 2})
            if is_deleted:
                await uow.ingestion.checkpoints.delete("flag")
            async with storage.unit_of_work() as other:
                await other.ingestion.checkpoints.save("flag", {"n": True})
                await other.commit()
            with pytest.raises(Conflict):
                await uow.commit()
        found = await storage.ingestion.checkpoints.get("flag")
        assert found is not None and found.data["n"] is True

    async def test_run_repeats_on_a_conflict(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            formula = await uow.formulas.save(make_formula())
            await uow.commit()

        async def rename(uow: UnitOfWork) -> None:
            found = await uow.formulas.get_by_id(formula.id or "")
            assert found is not None
            await asyncio.sleep(0)
            await uow.formulas.save(replace(found, name=found.name + "!"))

        await asyncio.gather(*(storage.run(rename, attempts=50) for _ in range(5)))
        found = await storage.formulas.get_by_id(formula.id or "")
        assert found is not None
        assert found.version == 6
        assert found.name.endswith("!!!!!")

    async def test_run_gives_up_after_so_many_attempts(self, storage: Storage) -> None:
        calls = 0

        async def conflict(uow: UnitOfWork) -> None:
            nonlocal calls
            calls += 1
            raise Conflict("always")

        with pytest.raises(Conflict):
            await storage.run(conflict, attempts=3)
        assert calls == 3
