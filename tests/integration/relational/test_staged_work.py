"""What units of work staged for the bookkeeping, brought into SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text

from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import CommitChanges
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import Conflict, InvalidData
from jts_storage.relational import DatabaseManager, SqlIngestionRepository, staged
from jts_storage.relational.tables import applied_commits, checkpoints
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work.journal_format import decode, encode
from jts_storage.unit_of_work.staged import StagedIngestion

DAY = date(2024, 1, 2)
KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
FOREVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC))
FOREIGN = '{"at": NaN, "n": 1}'


def begun(manager: DatabaseManager) -> StagedIngestion:
    return StagedIngestion(SqlIngestionRepository(manager))


def staged_in(unit: StagedIngestion) -> CommitChanges:
    return CommitChanges(
        aggregates=unit.symbol_bars.changes,
        checkpoints=unit.checkpoints.changes,
        bars=unit.bars.changes,
    )


async def commit(manager: DatabaseManager, unit: StagedIngestion) -> None:
    async with manager.transaction() as connection:
        await staged.apply(manager, connection, staged_in(unit))


async def save_foreign(manager: DatabaseManager, name: str, data: str = FOREIGN) -> None:
    """Store a checkpoint as another program may."""
    async with manager.transaction() as connection:
        await connection.execute(text("DELETE FROM checkpoints"))
        await connection.execute(insert(checkpoints).values(symbol=name, checkpoint_data=data))


async def stored_text(manager: DatabaseManager, name: str) -> str | None:
    async with manager.connection() as connection:
        query = text("SELECT checkpoint_data FROM checkpoints WHERE symbol = :name")
        found: str | None = (await connection.execute(query, {"name": name})).scalar()
    return found


@pytest.mark.parametrize("kind", ["checkpoint", "aggregate", "deleted aggregate"])
@pytest.mark.parametrize("position", [0, 11])
async def test_any_stale_one_of_many_is_a_conflict_that_leaves_nothing(
    manager: DatabaseManager, kind: str, position: int
) -> None:
    """Also one that is written after others of the same commit."""
    ingestion = SqlIngestionRepository(manager)
    names = [f"name{number:02}" for number in range(12)]
    for name in names:
        await ingestion.checkpoints.save(name, {"by": "before"})
        await ingestion.symbol_bars.save(SymbolBars(name, DAY))
    unit = begun(manager)
    for name in names:
        if kind == "checkpoint":
            await unit.checkpoints.save(name, {"by": "late"})
        elif kind == "aggregate":
            bars = await unit.symbol_bars.get(name, DAY)
            assert bars is not None
            await unit.symbol_bars.save(bars.start_collection())
        else:
            await unit.symbol_bars.delete(name, DAY)
    stale = names[position]
    await ingestion.checkpoints.save(stale, {"by": "quick"})
    await ingestion.symbol_bars.save(await aggregate(ingestion, stale))
    with pytest.raises(Conflict, match=stale):
        await commit(manager, unit)
    assert {c.data["by"] for c in await ingestion.checkpoints.list()} == {"before", "quick"}
    assert not any([(await aggregate(ingestion, name)).collection_started for name in names])


async def aggregate(ingestion: SqlIngestionRepository, name: str) -> SymbolBars:
    found = await ingestion.symbol_bars.get(name, DAY)
    assert found is not None
    return found


@pytest.mark.parametrize("is_stored", [False, True])
async def test_bars_of_one_series_replaced_side_by_side_end_as_one_after_the_other(
    manager: DatabaseManager, is_stored: bool
) -> None:
    bars = SqlIngestionRepository(manager).bars
    if is_stored:
        await bars.save_many(KEY, make_candles(KEY, 30))
    first, second = begun(manager), begun(manager)
    for unit, rows, seed in ((first, 20, 1), (second, 10, 2)):
        await unit.bars.delete_range(KEY, *FOREVER)
        await unit.bars.save_many(KEY, make_candles(KEY, rows, seed=seed))
        # It deletes what others store meanwhile, too: that is not among the rows that it has seen.
        assert staged_in(unit).bars.deletions
    async with manager.transaction() as connection:
        await staged.apply(manager, connection, staged_in(first))
        late = asyncio.create_task(commit(manager, second))
        await asyncio.sleep(0.2)
        assert not late.done(), "it waits for the one before it"
    await late
    assert await bars.get_range(KEY, *FOREVER) == make_candles(KEY, 10, seed=2)


# SQLite has one writer at a time.
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_commits_on_different_series_of_bars_do_not_wait_for_each_other(
    manager: DatabaseManager,
) -> None:
    other = SeriesKey("000660", Timeframe.M1, exchange="KRX")
    first, second = begun(manager), begun(manager)
    await first.bars.save_many(KEY, make_candles(KEY, 3))
    await second.bars.save_many(other, make_candles(other, 3))
    async with manager.transaction() as connection:
        await staged.apply(manager, connection, staged_in(first))
        await asyncio.wait_for(commit(manager, second), 5)
    bars = SqlIngestionRepository(manager).bars
    assert [await bars.count(key) for key in (KEY, other)] == [3, 3]


async def test_only_commits_applied_more_than_a_week_ago_are_forgotten(
    manager: DatabaseManager,
) -> None:
    ingestion = SqlIngestionRepository(manager)
    assert await ingestion.is_first_time("now")
    ages = {"8 days": timedelta(days=8), "6 days": timedelta(days=6), "1 hour": timedelta(hours=1)}
    week = timedelta(days=7)
    ages |= {"nearly a week": week - timedelta(minutes=5), "a week": week + timedelta(minutes=5)}
    async with manager.transaction() as connection:
        now: Any = datetime.now(UTC)
        if manager.config.is_sqlite:
            now = now.replace(tzinfo=None)
        for name, age in ages.items():
            await connection.execute(insert(applied_commits).values(id=name, applied_at=now - age))
    await ingestion.forget_applied()
    assert sorted(await ingestion.lacks([*ages, "now"])) == ["8 days", "a week"]
    assert not await ingestion.is_first_time("6 days"), "who comes late applies nothing"


# Checkpoints of another program that cannot be read


@pytest.mark.parametrize("data", [FOREIGN, '{"at": -Infinity}', "no JSON", "[1]", ""])
@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_checkpoint_that_cannot_be_read_is_saved_over_and_deleted(
    manager: DatabaseManager, data: str, is_deleted: bool
) -> None:
    await save_foreign(manager, "theirs", data)
    unit = begun(manager)
    with pytest.raises(InvalidData, match="document theirs"):
        await unit.checkpoints.get("theirs")
    with pytest.raises(InvalidData, match="document theirs"):
        await unit.checkpoints.update("theirs", lambda old: {"n": 1})
    if is_deleted:
        assert await unit.checkpoints.delete("theirs")
        assert await unit.checkpoints.get("theirs") is None
    else:
        saved = await unit.checkpoints.save("theirs", {"n": 2})
        assert await unit.checkpoints.get("theirs") == saved
    await commit(manager, unit)
    assert await stored_text(manager, "theirs") == (None if is_deleted else '{"n":2}')


@pytest.mark.parametrize("now", [None, '{"n":1}', '{"at": NaN, "n": 2}'])
@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_checkpoint_that_could_not_be_read_and_was_changed_since_is_a_conflict(
    manager: DatabaseManager, now: str | None, is_deleted: bool
) -> None:
    await save_foreign(manager, "theirs")
    unit = begun(manager)
    if is_deleted:
        await unit.checkpoints.delete("theirs")
    else:
        await unit.checkpoints.save("theirs", {"n": 3})
    if now is None:
        await SqlIngestionRepository(manager).checkpoints.delete("theirs")
    else:
        await save_foreign(manager, "theirs", now)
    with pytest.raises(Conflict, match="theirs"):
        await commit(manager, unit)
    assert await stored_text(manager, "theirs") == now


async def test_a_checkpoint_that_cannot_be_read_now_is_a_conflict_for_who_could_read_it(
    manager: DatabaseManager,
) -> None:
    await SqlIngestionRepository(manager).checkpoints.save("theirs", {"n": 1})
    unit = begun(manager)
    await unit.checkpoints.save("theirs", {"n": 2})
    await save_foreign(manager, "theirs")
    with pytest.raises(Conflict, match="theirs"):
        await commit(manager, unit)
    with pytest.raises(InvalidData, match="document theirs"):
        await SqlIngestionRepository(manager).checkpoints.update("theirs", lambda old: {"n": 3})
    assert await stored_text(manager, "theirs") == FOREIGN


@pytest.mark.parametrize("now", [FOREIGN, '{"at": NaN, "n": 2}'])
async def test_recovery_writes_over_what_could_not_be_read_unless_it_was_changed(
    manager: DatabaseManager, now: str
) -> None:
    await save_foreign(manager, "theirs")
    unit = begun(manager)
    await unit.checkpoints.save("theirs", {"n": 3})
    work = decode(b"".join(chunk.data for chunk in encode(staged_in(unit))))
    await save_foreign(manager, "theirs", now)
    async with manager.transaction() as connection:
        assert await staged.replay(manager, connection, work, "commit")
    assert await stored_text(manager, "theirs") == ('{"n":3}' if now == FOREIGN else now)


async def test_a_name_that_no_checkpoint_can_have_is_still_refused(
    manager: DatabaseManager,
) -> None:
    unit = begun(manager)
    with pytest.raises(InvalidData):
        await unit.checkpoints.delete("")
    assert unit.checkpoints.changes == []
