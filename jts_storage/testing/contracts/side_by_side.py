"""The contract of units of work that run side by side on the same bookkeeping and events."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import date

import pytest

from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.events import DomainEvent
from jts_storage.errors import Conflict, InvalidData, StorageError
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.factories import make_candles, make_formula, make_symbol

DAY = date(2024, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Counted(DomainEvent):
    number: int = 0


async def count_up(uow: UnitOfWork) -> None:
    stored = await uow.ingestion.checkpoints.get("counter")
    reached = stored.data["n"] if stored else 0
    await uow.ingestion.checkpoints.save("counter", {"n": reached + 1})


@pytest.mark.asyncio
class SideBySideContract:
    """Give it a fixture `storage`: an open `Storage` of which nothing is stored."""

    async def test_counting_up_side_by_side_loses_nothing(self, storage: Storage) -> None:
        await asyncio.gather(*(storage.run(count_up, attempts=50) for _ in range(10)))
        stored = await storage.ingestion.checkpoints.get("counter")
        assert stored is not None
        assert stored.data == {"n": 10}

    @pytest.mark.parametrize(
        ("is_stored", "is_deleted"), [(False, False), (True, False), (True, True)]
    )
    async def test_of_two_that_write_one_checkpoint_the_second_conflicts(
        self, storage: Storage, is_stored: bool, is_deleted: bool
    ) -> None:
        if is_stored:
            async with storage.unit_of_work() as uow:
                await uow.ingestion.checkpoints.save("mark", {"by": "nobody"})
                await uow.commit()
        async with storage.unit_of_work() as first, storage.unit_of_work() as second:
            await second.ingestion.checkpoints.save("mark", {"by": "second"})
            if is_deleted:
                await first.ingestion.checkpoints.delete("mark")
            else:
                await first.ingestion.checkpoints.save("mark", {"by": "first"})
            await first.commit()
            with pytest.raises(Conflict, match="mark"):
                await second.commit()
        stored = await storage.ingestion.checkpoints.get("mark")
        assert (stored and stored.data) == (None if is_deleted else {"by": "first"})

    @pytest.mark.parametrize("stale", ["formula", "checkpoint", "aggregate"])
    async def test_a_conflict_leaves_nothing_wherever_it_is(
        self, storage: Storage, stale: str
    ) -> None:
        """No store takes its part of a commit before the others were asked."""
        key = SeriesKey("A", Timeframe.M1)
        async with storage.unit_of_work() as uow:
            formula = await uow.formulas.save(make_formula("before"))
            await uow.ingestion.checkpoints.save("mark", {"by": "before"})
            await uow.ingestion.symbol_bars.save(SymbolBars("A", DAY))
            await uow.commit()

        async def change(uow: UnitOfWork, what: str, who: str) -> None:
            if what == "formula":
                await uow.formulas.save(replace(formula, name=who))
            elif what == "checkpoint":
                await uow.ingestion.checkpoints.save("mark", {"by": who})
            else:
                found = await uow.ingestion.symbol_bars.get("A", DAY)
                assert found is not None
                await uow.ingestion.symbol_bars.save(found.start_collection())

        with pytest.raises(Conflict):
            async with storage.unit_of_work() as late:
                for what in {"checkpoint", "aggregate", "formula"} - {stale}:
                    await change(late, what, "late")
                await late.formulas.save(make_formula("late, too"))
                await late.candles.save_many(key, make_candles(key, 3))
                await late.symbols.save(make_symbol("A"))
                await late.ingestion.bars.save_many(key, make_candles(key, 3))
                if stale != "formula":
                    await change(late, stale, "late")
                async with storage.unit_of_work() as quick:
                    await change(quick, stale, "quick")
                    await quick.commit()
                if stale == "formula":
                    await change(late, stale, "late")
                await late.commit()
        expected = dict.fromkeys(("formula", "checkpoint"), "before") | {stale: "quick"}
        assert [each.name for each in await storage.formulas.list()] == [expected["formula"]]
        mark = await storage.ingestion.checkpoints.get("mark")
        assert mark is not None and mark.data == {"by": expected["checkpoint"]}
        bars = await storage.ingestion.symbol_bars.get("A", DAY)
        assert bars is not None and bars.collection_started is (stale == "aggregate")
        assert await storage.candles.count(key) == await storage.ingestion.bars.count(key) == 0
        assert await storage.symbols.get_by_code("A") is None

    async def test_checkpoints_in_opposite_order_do_not_wait_for_each_other(
        self, storage: Storage
    ) -> None:
        async def save(number: int) -> None:
            names = [f"mark{n}" for n in range(4)]

            async def work(uow: UnitOfWork) -> None:
                for name in names if number % 2 else reversed(names):
                    await uow.ingestion.checkpoints.save(name, {"by": number})

            await storage.run(work, attempts=50)

        await asyncio.gather(*map(save, range(8)))
        marks = await storage.ingestion.checkpoints.list()
        assert len(marks) == 4
        assert len({mark.data["by"] for mark in marks}) == 1

    async def test_an_aggregate_made_anew_is_another(self, storage: Storage) -> None:
        async def save(bars: SymbolBars) -> SymbolBars:
            async with storage.unit_of_work() as uow:
                saved = await uow.ingestion.symbol_bars.save(bars)
                await uow.commit()
            return saved

        held = await save(SymbolBars("A", DAY))
        async with storage.unit_of_work() as late:
            await late.ingestion.symbol_bars.save(held.start_collection())
            async with storage.unit_of_work() as uow:
                await uow.ingestion.symbol_bars.delete("A", DAY)
                await uow.commit()
            await asyncio.sleep(0.002)  # times are kept to the millisecond
            again = await save(SymbolBars("A", DAY))
            assert again.version == held.version
            with pytest.raises(Conflict):
                await save(held.start_collection())
            with pytest.raises(Conflict):
                await late.commit()
        assert await storage.ingestion.symbol_bars.get("A", DAY) == again

    async def test_one_unit_takes_several_calls_at_once(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            await asyncio.gather(
                *(uow.formulas.save(make_formula(f"f{n}")) for n in range(10)),
                *(uow.ingestion.symbol_bars.save(SymbolBars(f"S{n}", DAY)) for n in range(10)),
                *(
                    uow.ingestion.checkpoints.update(
                        "counter", lambda old: {"n": (old or {"n": 0})["n"] + 1}
                    )
                    for _ in range(10)
                ),
            )
            with pytest.raises(Conflict):
                await asyncio.gather(
                    *(uow.ingestion.symbol_bars.save(SymbolBars("TWICE", DAY)) for _ in range(2))
                )
            await uow.commit()
        assert len(await storage.formulas.list()) == 10
        stored = await storage.ingestion.checkpoints.get("counter")
        assert stored is not None
        assert stored.data == {"n": 10}

    async def test_an_event_added_twice_is_delivered_once(self, storage: Storage) -> None:
        heard: list[int] = []
        storage.events.register_handler(Counted, lambda event: heard.append(event.number))
        event = Counted(number=1)
        async with storage.unit_of_work() as uow:
            uow.events.add(event)
            uow.events.add(event)
            with pytest.raises(InvalidData, match="id"):
                uow.events.add(replace(event, number=2))
            await uow.commit()
        assert heard == [1]

    async def test_a_second_commit_meanwhile_does_not_speak_of_failure(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            committing = asyncio.create_task(uow.commit())
            await asyncio.sleep(0)
            with pytest.raises(StorageError, match=r"is being committed|has been committed"):
                await uow.commit()
            await committing
        assert len(await storage.formulas.list()) == 1
