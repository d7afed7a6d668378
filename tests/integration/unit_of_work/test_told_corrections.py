"""What commits over several stores, and those that were finished late, leave to be told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from jts_storage import CandleSeries, SeriesKey, Storage, Timeframe
from jts_storage.domain.moments import Commit
from jts_storage.testing.contracts.samples import FOREVER, candle, minute
from jts_storage.testing.factories import make_formula
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.entries import ENTRIES
from jts_storage.unit_of_work.snapshots import StoredSnapshots
from tests.integration.unit_of_work.interrupted import abandon

KEY = SeriesKey("A", Timeframe.M1)


async def save(
    storage: Storage,
    close: str,
    source: str,
    monkeypatch: pytest.MonkeyPatch | None = None,
) -> Commit | None:
    """Save a candle and a formula; die once that is decided if there is something to patch."""
    async with storage.unit_of_work(source=source) as uow:
        await uow.formulas.save(make_formula(close))
        await uow.candles.save_many(KEY, CandleSeries.from_candles(KEY, [candle(1, close)]))
        if monkeypatch is None:
            return (await uow.commit()).commit
        await abandon(storage, monkeypatch, uow)
    await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})
    return None


async def test_their_sources_are_told(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    await save(storage, "101", "import")
    await save(storage, "102", "service")
    await save(storage, "103", "killed", monkeypatch)
    await storage.recover()
    found = await storage.candles.changes(KEY)
    assert [(each.source, f"{each.before.close:.0f}") for each in found] == [
        ("service", "101"),
        ("killed", "102"),
    ]


async def test_of_two_former_candles_the_one_of_the_later_commit_counts(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit behind a late one has kept what was before both, as if that had ended it."""
    await save(storage, "101", "")
    await save(storage, "102", "late", monkeypatch)
    [entry] = await storage.mongo.db[ENTRIES].find().to_list()
    between = Commit(entry["version"] + 1)
    monkeypatch.setattr(type(storage._backend.stores.journal), "unfinished", nothing)  # type: ignore[attr-defined]
    await save(storage, "104", "behind")
    monkeypatch.undo()
    await storage.recover()
    candles, same = storage.candles, [candle(1, "102")]
    assert list(await candles.get_range(KEY, *FOREVER, as_of=between)) == same
    assert list(await candles.get_latest(KEY, as_of=between)) == same
    blocks = candles.stream(KEY, *FOREVER, as_of=between)
    assert [each async for block in blocks for each in block] == same
    async with Storage.in_memory() as twin:
        async with twin.unit_of_work() as uow:
            await uow.candles.save_many(KEY, same)
            await uow.commit()
        expected = await twin.fingerprint(await twin.data_set(Timeframe.M1, minute(0), minute(9)))
    seen = await storage.data_set(Timeframe.M1, minute(0), minute(9), as_of=between)
    assert await storage.fingerprint(seen) == expected


async def nothing(*_: object, **__: object) -> list[object]:
    return []


async def test_a_read_as_of_a_moment_finishes_what_was_decided_before_it(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(storage, "101", "")
    await save(storage, "102", "killed", monkeypatch)
    view = await storage.as_of(datetime.now(UTC))
    assert list(await view.candles.get_latest(KEY)) == [candle(1, "102")]


async def test_the_history_of_new_stores_covers_everything(storage: Storage) -> None:
    formula = await storage.run(lambda uow: uow.formulas.save(make_formula("1")))
    await storage.run(lambda uow: uow.formulas.save(replace(formula, name="2")))
    await save(storage, "101", "")
    view = await storage.as_of(datetime(2020, 1, 1, tzinfo=UTC))
    assert await view.candles.count(KEY) == 0
    assert list(await view.formulas.list()) == []


async def test_a_snapshot_has_a_place_in_the_clock_until_it_is_stored(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever purges waits for the places before it, and then finds the snapshot."""
    insert, running = StoredSnapshots._insert, []

    async def noted(self: StoredSnapshots, *given: object) -> None:
        running.append((await storage.mongo.db[CLOCK].find_one({}) or {})["running"])
        await insert(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(StoredSnapshots, "_insert", noted)
    await storage.snapshots.create("scan")
    assert [len(each) for each in running] == [1]


@pytest.mark.parametrize("with_documents", [False, True])
async def test_a_write_waits_for_the_earlier_writers_of_its_series(
    storage: Storage, with_documents: bool
) -> None:
    """What it keeps is what they wrote."""

    async def write() -> None:
        async with storage.unit_of_work() as uow:
            if with_documents:
                await uow.formulas.save(make_formula("beside"))
            await uow.candles.save_many(KEY, [candle(1, "102")])
            await uow.commit()

    await save(storage, "101", "")
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]
    async with clock.place(series=["candles A/1m"]):
        writing = asyncio.create_task(write())
        await asyncio.sleep(0.5)
        assert list(await storage.candles.get_latest(KEY)) == [candle(1, "101")]
        assert not writing.done()
    await writing
    assert list(await storage.candles.get_latest(KEY)) == [candle(1, "102")]
