"""The contract of `Storage` and its unit of work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import FormulaCategory, Market, Timeframe
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData, StorageError
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.contracts.conflicts import Conflicts
from jts_storage.testing.contracts.markets import Markets
from jts_storage.testing.contracts.samples import (
    DAY,
    FOREVER,
    KEY,
    MANY_SUBCLASSES,
    candle,
    examples,
    fresh,
    minute,
)
from jts_storage.testing.factories import (
    START,
    make_backtest,
    make_candles,
    make_formula,
    make_strategy,
    make_symbol,
)


@dataclass(frozen=True, kw_only=True)
class SomethingHappened(DomainEvent):
    number: int = 0


async def write_everywhere(uow: UnitOfWork) -> dict[str, str]:
    """One change in every repository; the ids of the documents."""
    await uow.candles.save_many(KEY, make_candles(KEY, 5))
    await uow.symbols.save(make_symbol("005930"))
    formula = await uow.formulas.save(make_formula())
    strategy = await uow.strategies.save(make_strategy(entry_formula_id=formula.id))
    result = await uow.backtests.save(make_backtest(strategy.id or ""))
    await uow.ingestion.symbol_bars.save(SymbolBars("005930", DAY))
    await uow.ingestion.checkpoints.save("collector", {"at": 1})
    await uow.ingestion.bars.save_many(KEY, make_candles(KEY, 3))
    return {"formula": formula.id or "", "strategy": strategy.id or "", "result": result.id or ""}


async def stored_everywhere(reader: UnitOfWork | Storage, ids: Mapping[str, str]) -> list[bool]:
    return [
        await reader.candles.count(KEY) == 5,
        await reader.symbols.get_by_code("005930") is not None,
        await reader.formulas.get_by_id(ids["formula"]) is not None,
        await reader.strategies.get_by_id(ids["strategy"]) is not None,
        await reader.backtests.get_by_id(ids["result"]) is not None,
        await reader.ingestion.symbol_bars.get("005930", DAY) is not None,
        await reader.ingestion.checkpoints.get("collector") is not None,
        await reader.ingestion.bars.count(KEY) == 3,
    ]


@dataclass(frozen=True, kw_only=True)
class Untold(DomainEvent):
    what: object


@pytest.mark.asyncio
class UnitOfWorkContract(Conflicts, Markets):
    """Give it a fixture `storage`: an open `Storage` of which nothing is stored."""

    async def test_rolls_back_by_default(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            ids = await write_everywhere(uow)
        assert not any(await stored_everywhere(storage, ids))

    async def test_tells_what_is_left_without_commit(
        self, storage: Storage, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "jts_storage")
        async with storage.unit_of_work() as uow:
            await uow.formulas.list()
            assert await uow.candles.get_latest(KEY) == CandleSeries.empty(KEY)
        async with storage.unit_of_work() as uow:
            await write_everywhere(uow)
            await uow.rollback()
        async with storage.unit_of_work() as uow:
            await write_everywhere(uow)
            await uow.commit()
        with pytest.raises(ZeroDivisionError):
            async with storage.unit_of_work() as uow:
                await uow.candles.save_many(KEY, make_candles(KEY, 1))
                1 / 0  # noqa: B018
        assert "left without commit" not in caplog.text

        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, make_candles(KEY, 1))
            (formula,) = await uow.formulas.list()
            assert formula.id is not None
            await uow.formulas.delete(formula.id, force=True)
        (told,) = [each for each in caplog.messages if "left without commit" in each]
        assert f"dropped: candles of {KEY}, formulas." in told

    async def test_rolls_back_on_an_error(self, storage: Storage) -> None:
        with pytest.raises(ZeroDivisionError):
            async with storage.unit_of_work() as uow:
                ids = await write_everywhere(uow)
                1 / 0  # noqa: B018
        assert not any(await stored_everywhere(storage, ids))

    async def test_a_commit_stores_everything(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            ids = await write_everywhere(uow)
            await uow.commit()
        assert all(await stored_everywhere(storage, ids))

    async def test_reads_its_own_writes_which_nobody_else_sees(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            ids = await write_everywhere(uow)
            assert all(await stored_everywhere(uow, ids))
            assert not any(await stored_everywhere(storage, ids))
            async with storage.unit_of_work() as other:
                assert not any(await stored_everywhere(other, ids))

    async def test_lists_and_searches_see_own_writes(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            ids = await write_everywhere(uow)
            assert [f.id for f in await uow.formulas.search("golden")] == [ids["formula"]]
            entries = await uow.formulas.get_by_category(FormulaCategory.ENTRY)
            assert [f.id for f in entries] == [ids["formula"]]
            users = await uow.strategies.get_by_formula(ids["formula"])
            assert [s.id for s in users] == [ids["strategy"]]
            assert [s.code for s in await uow.symbols.search("company")] == ["005930"]
            assert [s.code for s in await uow.symbols.get_by_market(Market.KOSPI)] == ["005930"]
            assert [s.code for s in await uow.symbols.get_all_active()] == ["005930"]
            assert list(await uow.candles.list_keys()) == [KEY]
            assert len(await uow.ingestion.symbol_bars.list("005930")) == 1

    async def test_documents_are_read_as_they_were_at_the_first_look(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work() as uow:
            first, second = await uow.formulas.save_many(map(make_formula, ("first", "second")))
            await uow.commit()
        assert first.id is not None
        assert second.id is not None
        async with storage.unit_of_work() as uow:
            assert await uow.formulas.get_by_id(first.id) == first
            async with storage.unit_of_work() as other:
                await other.formulas.save(replace(first, name="changed meanwhile"))
                await other.formulas.delete(second.id)
                await other.formulas.save(make_formula("third"))
                await other.commit()
            assert await uow.formulas.get_by_id(second.id) == second
            assert {f.name for f in await uow.formulas.list()} == {"first", "second"}

    async def test_staged_candles_lie_over_the_stored(self, storage: Storage) -> None:
        old, new = make_candles(KEY, 100), make_candles(KEY, 100, seed=1)
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, old)
            await uow.commit()
        expected = old.merge(new[30:120])
        expected = CandleSeries(KEY, [*expected[:40], *expected[45:]])
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, new[30:])
            assert await uow.candles.delete_range(KEY, minute(40), minute(44)) == 5
            assert await uow.candles.get_range(KEY, *FOREVER) == expected
            assert await uow.candles.get_ranges([KEY], *FOREVER) == {KEY: expected}
            assert await uow.candles.get_latest(KEY, 60) == expected.tail(60)
            assert await uow.candles.count(KEY) == len(expected)
            assert await uow.candles.count(KEY, minute(35), minute(42)) == 5
            assert await uow.candles.get_coverage(KEY) == (minute(0), minute(99))
            assert await uow.candles.coverage_by_day(KEY) == {DAY: len(expected)}
            hourly = await uow.candles.resample(KEY, Timeframe.H1, *FOREVER)
            assert hourly == expected.resample(Timeframe.H1)
            blocks = [b async for b in uow.candles.stream(KEY, *FOREVER, block_rows=7)]
            assert CandleSeries(KEY, [c for block in blocks for c in block]) == expected
            assert await storage.candles.get_range(KEY, *FOREVER) == old
            await uow.commit()
        assert await storage.candles.get_range(KEY, *FOREVER) == expected

    async def test_series_whose_names_run_together_are_two(self, storage: Storage) -> None:
        keys = [SeriesKey("KRX:005930", Timeframe.M1), SeriesKey("005930", Timeframe.M1, "KRX")]
        async with storage.unit_of_work() as uow:
            for key in keys:
                await uow.candles.save_many(key, make_candles(key, 3))
            await uow.commit()
        assert [await storage.candles.count(key) for key in keys] == [3, 3]
        async with storage.unit_of_work() as uow:
            for key in keys:
                await uow.candles.delete_range(key, minute(0), minute(3))
            await uow.commit()
        assert [await storage.candles.count(key) for key in keys] == [0, 0]

    async def test_deleted_then_saved_is_stored_and_saved_then_deleted_is_not(
        self, storage: Storage
    ) -> None:
        series = make_candles(KEY, 10)
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, series)
            await uow.candles.delete_range(KEY, *FOREVER)
            assert await uow.candles.get_coverage(KEY) == (None, None)
            assert list(await uow.candles.list_keys()) == []
            await uow.candles.save_many(KEY, series[:3])
            await uow.commit()
        assert await storage.candles.get_range(KEY, *FOREVER) == series[:3]

    async def test_nothing_works_after_the_end(self, storage: Storage) -> None:
        committed, left = storage.unit_of_work(), storage.unit_of_work()
        async with committed:
            await committed.commit()
        async with left:
            pass
        for over in (committed, left, storage.unit_of_work()):
            with pytest.raises(StorageError):
                _ = over.candles
            with pytest.raises(StorageError):
                await over.commit()
            await over.rollback()
        with pytest.raises(StorageError):
            await committed.__aenter__()

    async def test_a_repository_kept_beyond_the_end_takes_nothing(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            candles, symbols, events = uow.candles, uow.symbols, uow.events
            formulas, ingestion = uow.formulas, uow.ingestion
            await uow.commit()
        with pytest.raises(StorageError):
            await candles.save_many(KEY, make_candles(KEY, 5))
        with pytest.raises(StorageError):
            await candles.delete_range(KEY, minute(0), minute(1))
        with pytest.raises(StorageError):
            await symbols.save(make_symbol())
        with pytest.raises(StorageError):
            await formulas.save(make_formula())
        with pytest.raises(StorageError):
            await ingestion.symbol_bars.save(SymbolBars("005930", DAY))
        with pytest.raises(StorageError):
            await ingestion.checkpoints.save("late", {})
        with pytest.raises(StorageError):
            await ingestion.bars.save_many(KEY, make_candles(KEY, 5))
        with pytest.raises(StorageError):
            events.add(DomainEvent())
        assert await storage.candles.count(KEY) == 0

    async def test_events_are_delivered_after_the_commit_and_only_then(
        self, storage: Storage
    ) -> None:
        seen: list[tuple[int, bool]] = []

        async def handler(event: SomethingHappened) -> None:
            seen.append((event.number, await storage.candles.count(KEY) == 5))

        storage.events.register_handler(SomethingHappened, handler)
        async with storage.unit_of_work() as uow:
            uow.events.add(SomethingHappened(number=0))
        async with storage.unit_of_work() as uow:
            uow.events.add(SomethingHappened(number=1))
            await uow.candles.save_many(KEY, make_candles(KEY, 5))
            uow.events.add(SomethingHappened(number=2))
            assert seen == []
            await uow.commit()
        assert seen == [(1, True), (2, True)]

    async def test_an_event_that_cannot_be_stored_is_refused_at_once(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work() as uow:
            with pytest.raises(InvalidData, match="cannot be stored"):
                uow.events.add(Untold(what=object()))

    async def test_only_events_are_taken(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            with pytest.raises(InvalidData):
                uow.events.add("happened")  # type: ignore[arg-type]

    async def test_a_failing_handler_does_not_fail_the_commit(self, storage: Storage) -> None:
        def fail(event: DomainEvent) -> None:
            raise RuntimeError("boom")

        storage.events.register_handler(SomethingHappened, fail)
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, make_candles(KEY, 5))
            uow.events.add(SomethingHappened())
            await uow.commit()
        assert await storage.candles.count(KEY) == 5

    async def test_a_cancelled_unit_of_work_leaves_nothing(self, storage: Storage) -> None:
        started = asyncio.Event()

        async def work() -> None:
            async with storage.unit_of_work() as uow:
                await write_everywhere(uow)
                started.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await storage.candles.count(KEY) == 0
        assert list(await storage.formulas.list()) == []

    async def test_an_empty_commit_is_harmless(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            await uow.commit()
        assert list(await storage.candles.list_keys()) == []

    async def test_of_two_saves_of_a_symbol_the_one_committed_last_is_stored(
        self, storage: Storage
    ) -> None:
        async with storage.unit_of_work() as slow:
            staged_first = await slow.symbols.save(make_symbol("A", name="committed last"))
            # Moments are kept to the millisecond, so that these two differ.
            await asyncio.sleep(0.002)
            async with storage.unit_of_work() as quick:
                await quick.symbols.save(make_symbol("A", name="committed first"))
                await quick.commit()
            await slow.commit()
        assert await storage.symbols.get_by_code("A") == staged_first

    async def test_a_symbol_saved_by_a_clock_ahead_is_replaced_by_the_next_save(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tomorrow = checks.now() + timedelta(days=1)
        async with storage.unit_of_work() as uow:
            with monkeypatch.context() as patched:
                patched.setattr(checks, "now", lambda: tomorrow)
                await uow.symbols.save(make_symbol("A", name="saved tomorrow"))
            await uow.commit()
        stored = await storage.symbols.get_by_code("A")
        assert stored is not None
        assert stored.updated_at == tomorrow
        async with storage.unit_of_work() as uow:
            saved = await uow.symbols.save(make_symbol("A", name="saved today"))
            await uow.commit()
        assert await storage.symbols.get_by_code("A") == saved

    @settings(suppress_health_check=MANY_SUBCLASSES, deadline=None, max_examples=examples(6, 100))
    @given(
        units=st.lists(
            st.tuples(
                st.lists(
                    st.tuples(
                        st.sampled_from(["save", "delete"]), st.integers(0, 20), st.integers(0, 6)
                    ),
                    max_size=5,
                ),
                st.booleans(),
            ),
            max_size=5,
        )
    )
    async def test_any_sequence_of_units_agrees_with_a_dict(
        self, storage: Storage, units: list[tuple[list[tuple[str, int, int]], bool]]
    ) -> None:
        key = SeriesKey(f"units{next(fresh)}", Timeframe.M1)
        model: dict[int, Any] = {}
        for operations, commits in units:
            staged = dict(model)
            async with storage.unit_of_work() as uow:
                for number, (name, first, length) in enumerate(operations):
                    rows = range(first, first + length)
                    if name == "save":
                        batch = {row: candle(row, str(number + 1)) for row in rows}
                        await uow.candles.save_many(key, batch.values())
                        staged.update(batch)
                    else:
                        gone = [row for row in staged if first <= row <= first + length]
                        ends = minute(first), minute(first + length)
                        assert await uow.candles.delete_range(key, *ends) == len(gone)
                        for row in gone:
                            del staged[row]
                    expected = [staged[row] for row in sorted(staged)]
                    assert list(await uow.candles.get_range(key, *FOREVER)) == expected
                    assert await uow.candles.count(key) == len(expected)
                    assert list(await uow.candles.get_latest(key, 3)) == expected[-3:]
                if commits:
                    await uow.commit()
                    model = staged
            found = await storage.candles.get_range(key, START - timedelta(days=1), FOREVER[1])
            assert list(found) == [model[row] for row in sorted(model)]
