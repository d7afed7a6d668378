"""What is kept of former candles: how much, for how long, and what a kill leaves of it."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from jts_storage import CandleSeries, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.clickhouse import candle_writer
from jts_storage.clickhouse.history import CandleHistory
from jts_storage.domain.moments import Commit
from jts_storage.errors import InvalidData, StorageError
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work import recovery
from jts_storage.unit_of_work.moments import Moments
from tests import forked
from tests.integration.history.commits import save, with_volume

KEY = SeriesKey("A", Timeframe.M1)
SERIES = make_candles(KEY, 200)
FORMER = "SELECT count() FROM candles_history FINAL"


def moments(storage: Storage) -> Moments:
    return Moments(storage._backend.stores)  # type: ignore[attr-defined]


def former(storage: Storage) -> int:
    return int(storage.clickhouse.execute(FORMER)[0][0])


async def test_only_what_differs_is_kept(storage: Storage) -> None:
    await save(storage, SERIES)
    assert former(storage) == 0, "what comes first replaces nothing"
    await save(storage, SERIES)
    assert former(storage) == 0, "the same values again"
    await save(storage, with_volume(SERIES[:10], 7))
    assert former(storage) == 10
    storage.clickhouse.execute("OPTIMIZE TABLE candles FINAL")
    await save(storage, SERIES[:20])
    assert former(storage) == 20, "ten that had the volume 7, none of those that stayed"


def written(storage: Storage) -> int:
    """How many rows were written: without merges, each of a candle lies there."""
    return int(storage.clickhouse.execute("SELECT count() FROM candles")[0][0])


async def test_rows_that_change_nothing_are_not_written(storage: Storage) -> None:
    storage.clickhouse.execute("SYSTEM STOP MERGES candles")
    first = await save(storage, SERIES)
    await save(storage, SERIES)
    assert written(storage) == 200
    changed = with_volume(SERIES[:10], 7)
    mixed = CandleSeries(KEY, [*changed, *SERIES[10:]])
    second = await save(storage, mixed)
    assert written(storage) == 210
    assert await storage.candles.get_range(KEY, *FOREVER) == mixed
    assert await storage.candles.get_range(KEY, *FOREVER, as_of=first) == SERIES
    assert await storage.candles.get_range(KEY, *FOREVER, as_of=second) == mixed
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, *FOREVER)
        await uow.commit()
    await save(storage, mixed)
    assert await storage.candles.get_range(KEY, *FOREVER) == mixed, "deleted rows come back"


LEVELS = (
    "SELECT level FROM system.parts WHERE active AND database = currentDatabase()"
    " AND table = %(table)s ORDER BY min_block_number"
)


def levels(storage: Storage, table: str) -> list[int]:
    """Of each insert 1 where the engine merged its rows with each other, 0 where it did not."""
    return [int(level) for (level,) in storage.clickhouse.execute(LEVELS, {"table": table})]


async def test_rows_that_compete_with_stored_ones_are_not_merged_before(storage: Storage) -> None:
    """FINAL has to merge them in any case; what stands alone it shall find merged."""
    storage.clickhouse.execute("SYSTEM STOP MERGES")
    await save(storage, SERIES[:100])
    assert levels(storage, "candles") == [1]
    first = await save(storage, with_volume(SERIES[:100], 7))
    assert levels(storage, "candles") == [1, 0]
    second = await save(storage, with_volume(SERIES[:105], 8))
    assert levels(storage, "candles") == [1, 0, 0], "nearly all of them"
    await save(storage, with_volume(SERIES[:110], 8))
    assert levels(storage, "candles") == [1, 0, 0, 1], "five new ones, the others are not written"
    await save(storage, with_volume(SERIES, 9))
    assert levels(storage, "candles") == [1, 0, 0, 1, 1], "half of them"
    assert levels(storage, "candles_history") == [0, 0, 0], "each is there once"
    assert await storage.candles.count(KEY) == 200
    assert await storage.candles.get_range(KEY, *FOREVER) == with_volume(SERIES, 9)
    for as_of, volume, rows in ((first, 7, 100), (second, 8, 105)):
        then = await storage.candles.get_range(KEY, *FOREVER, as_of=as_of)
        assert then == with_volume(SERIES[:rows], volume)


async def test_they_are_written_where_an_earlier_commit_may_still_land(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.clickhouse.execute("SYSTEM STOP MERGES candles")
    await save(storage, SERIES)
    with candle_writer._under_way.of([KEY]):  # the thread of a cancelled commit
        await save(storage, SERIES)
    assert written(storage) == 400
    journal = storage._backend.stores.journal  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(journal, "unfinished", lambda *_, **__: answered([ObjectId()]))
        patch.setattr(recovery, "_PATIENCE_SECONDS", 0)
        await save(storage, SERIES)
    assert written(storage) == 600
    keep = CandleHistory.keep

    def overtaken(self: CandleHistory, *given: Any) -> Any:
        kept = keep(self, *given)
        storage.clickhouse.execute(
            "INSERT INTO candles SELECT symbol, exchange, timeframe, timestamp, open, high, low,"
            " close, 5, version + 1, 0, 0 FROM candles LIMIT 1"
        )
        return kept

    monkeypatch.setattr(CandleHistory, "keep", overtaken)
    await save(storage, SERIES)
    assert written(storage) == 801
    monkeypatch.undo()
    await save(storage, SERIES)
    assert written(storage) == 801


async def answered(value: Any) -> Any:
    return value


async def test_an_append_asks_the_engine_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(storage, SERIES[:100])
    asked: list[str] = []
    manager = storage.clickhouse

    def noted(ask: Callable[..., Any]) -> Callable[..., Any]:
        def note(query: Any, *given: Any, **more: Any) -> Any:
            asked.append(str(query))
            return ask(query, *given, **more)

        return note

    monkeypatch.setattr(manager, "execute", noted(manager.execute))
    monkeypatch.setattr(manager, "read_columns", noted(manager.read_columns))
    await save(storage, SERIES[100:])
    assert asked == []


async def test_rows_of_a_statement_of_ones_own_are_noticed(storage: Storage) -> None:
    await save(storage, SERIES[:100])
    storage.clickhouse.execute(
        "INSERT INTO candles SELECT symbol, exchange, timeframe, timestamp + INTERVAL 1 DAY, open,"
        " high, low, close, 5, version, 0, 0 FROM candles WHERE symbol = 'A' LIMIT 1"
    )
    later = await storage.candles.get_latest(KEY)
    await save(storage, with_volume(later, 6))
    (found,) = await storage.candles.changes(KEY)
    assert (found.before.volume, found.after and found.after.volume) == (5, 6)


async def test_without_history_nothing_is_kept_or_told(fresh_settings: StorageSettings) -> None:
    settings = fresh_settings.model_copy(update={"history": False})
    async with Storage.open(settings) as storage:
        first = await save(storage, SERIES)
        await save(storage, with_volume(SERIES, 7))
        assert former(storage) == 0
        with pytest.raises(InvalidData, match="no history is kept"):
            await storage.candles.count(KEY, as_of=first)
        with pytest.raises(StorageError, match="no history is kept"):
            await storage.snapshots.create("nothing")
    # It begins when it is turned on, and says so of what was before.
    async with Storage.open(settings.model_copy(update={"history": True})) as storage:
        with pytest.raises(InvalidData, match="begins at"):
            await storage.candles.count(KEY, as_of=first)
        second = await save(storage, SERIES)
        assert len(await storage.candles.get_range(KEY, *FOREVER, as_of=second)) == len(SERIES)


async def test_who_reads_without_history_ends_none(
    fresh_settings: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = fresh_settings
    without = settings.model_copy(update={"history": False})
    async with Storage.open(settings) as storage:
        await save(storage, SERIES)
        await storage.snapshots.create("kept")
        await save(storage, with_volume(SERIES, 6))
    async with Storage.open(without) as storage:
        assert await storage.candles.count(KEY) == len(SERIES)
        with pytest.raises(StorageError, match="no history is kept"):
            await storage.snapshots.create("another")
    async with Storage.open(settings) as storage:
        then = await storage.candles.get_range(KEY, *FOREVER, as_of="kept")
        assert then == SERIES
    assert "ends here" not in caplog.text
    async with Storage.open(without) as storage:
        await save(storage, with_volume(SERIES, 7))
    assert "ends here" in caplog.text
    async with Storage.open(settings) as storage:
        with pytest.raises(InvalidData, match="begins at"):
            await storage.candles.count(KEY, as_of="kept")


async def test_a_snapshot_from_before_the_history_holds_no_purge_up(
    fresh_settings: StorageSettings,
) -> None:
    settings = fresh_settings
    async with Storage.open(settings) as storage:
        await storage.snapshots.create("old")
        await save(storage, SERIES)
    async with Storage.open(settings.model_copy(update={"history": False})) as storage:
        await save(storage, with_volume(SERIES, 6))
    async with Storage.open(settings) as storage:
        await save(storage, with_volume(SERIES, 7))
        assert await storage.candles.purge_history([KEY]) == len(SERIES)


async def test_what_was_replaced_long_ago_is_forgotten_unless_a_snapshot_shows_it(
    storage: Storage,
) -> None:
    first = await save(storage, SERIES)
    await save(storage, with_volume(SERIES[:10], 7))
    await storage.snapshots.create("kept")
    await save(storage, SERIES[:10])
    assert await moments(storage).forget(days=1) == 0
    assert await storage.candles.count(KEY, as_of=first) == len(SERIES)
    held = (await storage.as_of(first)).candles
    assert await moments(storage).forget(days=0) == 10
    for read in (held.count(KEY), held.get_range(KEY, *FOREVER), held.list_keys()):
        with pytest.raises(InvalidData, match="is before the history: it begins at"):
            await read
    kept = await storage.candles.get_range(KEY, *FOREVER, as_of="kept")
    assert [candle.volume for candle in kept[:10]] == [7] * 10
    with pytest.raises(InvalidData, match="is before the history: it begins at"):
        await storage.candles.count(KEY, as_of=first)
    await storage.snapshots.delete("kept")
    assert await moments(storage).forget(days=0) == 10
    assert former(storage) == 0


async def test_a_snapshot_from_before_the_history_shows_nothing(
    fresh_settings: StorageSettings,
) -> None:
    settings = fresh_settings
    async with Storage.open(settings) as storage:
        await save(storage, SERIES)
        await storage.snapshots.create("old")
    async with Storage.open(settings.model_copy(update={"history": False})) as storage:
        await save(storage, with_volume(SERIES, 6))
    async with Storage.open(settings) as storage:
        await moments(storage).forget(days=0)
        with pytest.raises(InvalidData, match="is before the history: it begins at"):
            await storage.candles.count(KEY, as_of="old")


async def test_a_server_is_written_rows_that_change_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits of other processes, of which no log tells, may land under lower versions."""
    storage.clickhouse.execute("SYSTEM STOP MERGES candles")
    await save(storage, SERIES)
    reader = storage._backend.stores.candles  # type: ignore[attr-defined]
    monkeypatch.setattr(reader._cache, "is_logged", lambda: False)
    await save(storage, SERIES)
    assert written(storage) == 400
    assert former(storage) == 0


async def test_rows_that_a_dead_commit_kept_are_no_corrections(storage: Storage) -> None:
    await save(storage, SERIES)
    storage.clickhouse.execute(
        "INSERT INTO candles_history SELECT symbol, exchange, timeframe, timestamp, open, high,"
        " low, close, volume, version, version + 1000, '' FROM candles LIMIT 5"
    )
    assert await storage.candles.changes(KEY) == []


async def test_rows_that_were_kept_twice_are_one_correction(storage: Storage) -> None:
    storage.clickhouse.execute("SYSTEM STOP MERGES candles_history")
    await save(storage, SERIES)
    await save(storage, with_volume(SERIES[:5], 7))
    storage.clickhouse.execute("INSERT INTO candles_history SELECT * FROM candles_history")
    assert storage.clickhouse.execute("SELECT count() FROM candles_history")[0][0] == 10
    assert len(await storage.candles.changes(KEY)) == 5


async def test_a_moment_waits_for_the_commits_under_way(storage: Storage) -> None:
    """What was begun before a moment is in it, however late it is stored."""
    stores = storage._backend.stores  # type: ignore[attr-defined]
    async with stores.clock.place(series=["candles A/1m"]):
        asking = asyncio.ensure_future(storage.as_of(datetime.now(UTC)))
        await asyncio.sleep(0.2)
        assert not asking.done()
    view = await asking
    assert await view.candles.count(KEY) == 0


WRITER = """
import asyncio, sys
from pathlib import Path
from typing import Any
from jts_storage import Storage, StorageSettings
from tests.integration.history.test_history_on_disk import KEY, SERIES, save, with_volume

async def main(folder, number):
    async with Storage.open(StorageSettings(data_dir=Path(folder))) as storage:
        print("open", flush=True)
        while True:
            number += 1
            await save(storage, with_volume(SERIES, number))
            print(number, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(2, id="few"),
        pytest.param(100, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(1_200)]),
    ],
)
@pytest.mark.usefixtures("held_mongod")
async def test_a_kill_leaves_both_the_candle_and_its_history_or_neither(
    tmp_path: Path, kills: int, engine_used: Callable[[str], None]
) -> None:
    engine_used("chDB and mongod (killed writers)")
    acknowledged = 0
    for _ in range(kills):
        acknowledged = await asyncio.to_thread(_killed_writer, tmp_path, acknowledged)
        async with Storage.open(StorageSettings(data_dir=tmp_path)) as storage:
            series = await storage.candles.get_range(KEY, *FOREVER)
            (stored,) = {candle.volume for candle in series}
            assert stored in (acknowledged, acknowledged + 1)
            found = await storage.candles.changes(KEY, SERIES[0].timestamp, SERIES[0].timestamp)
            assert [(each.before.volume, each.after and each.after.volume) for each in found] == [
                (number, number + 1) for number in range(1, stored)
            ]
            for each in found[-3:]:
                view = await storage.candles.get_range(KEY, *FOREVER, as_of=each.commit)
                assert {candle.volume for candle in view} == {each.before.volume + 1}
            acknowledged = stored


def _killed_writer(folder: Path, number: int) -> int:
    """Run a writer, and kill it at a moment of its own; the last number it was acknowledged."""
    command = ["-c", WRITER, str(folder), str(number)]
    with forked.Process(command, stdout=forked.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        for _ in range(random.randrange(1, 4)):
            number = int(writer.stdout.readline())
        signal.sigtimedwait([], random.uniform(0, 0.08))
        writer.kill()
        for line in writer.stdout:
            number = int(line)
    return number


def test_a_commit_tells_its_time() -> None:
    moment = datetime(2026, 11, 29, 14, 20, 1, 123_456, UTC)
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    version = elapsed // timedelta(microseconds=1) * 1_000
    assert Commit(version).moment == moment


async def test_a_correction_whose_successor_is_forgotten_is_not_told(storage: Storage) -> None:
    """A snapshot keeps what it shows, and nobody knows what came of it."""
    await save(storage, with_volume(SERIES[:1], 1))
    await storage.snapshots.create("first")
    commits = [await save(storage, with_volume(SERIES[:1], volume)) for volume in (2, 3, 4)]
    assert len(await storage.candles.changes(KEY, since="first")) == 3
    assert await moments(storage).forget(days=0) == 2
    assert former(storage) == 1
    assert await storage.candles.changes(KEY) == []
    for since in ("first", commits[0], commits[2]):
        with pytest.raises(InvalidData, match="is before the history: it begins at"):
            await storage.candles.changes(KEY, since=since)
    last = await save(storage, with_volume(SERIES[:1], 5))
    (change,) = await storage.candles.changes(KEY)
    assert change.after is not None
    assert (change.commit, change.before.volume, change.after.volume) == (last, 4, 5)


async def test_what_was_corrected_before_history_was_kept_again_is_not_told(
    fresh_settings: StorageSettings,
) -> None:
    settings = fresh_settings
    async with Storage.open(settings) as storage:
        await save(storage, with_volume(SERIES[:1], 1))
        await save(storage, with_volume(SERIES[:1], 2))
    async with Storage.open(settings.model_copy(update={"history": False})) as storage:
        await save(storage, with_volume(SERIES[:1], 3))
        with pytest.raises(StorageError, match="no history is kept"):
            await storage.candles.changes(KEY)
    async with Storage.open(settings) as storage:
        assert await storage.candles.changes(KEY) == []
        await save(storage, with_volume(SERIES[:1], 4))
        told = [
            (each.before.volume, each.after and each.after.volume)
            for each in await storage.candles.changes(KEY)
        ]
        assert told == [(3, 4)]


async def test_what_is_forgotten_while_corrections_are_read_is_told(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await save(storage, with_volume(SERIES[:1], 1))
    await save(storage, with_volume(SERIES[:1], 2))
    candles = storage._backend.stores.candles  # type: ignore[attr-defined]
    corrections = candles.corrections

    async def forgotten(*asked: Any) -> Any:
        await moments(storage).forget(days=0)
        return await corrections(*asked)

    monkeypatch.setattr(candles, "corrections", forgotten)
    with pytest.raises(InvalidData, match="is before the history: it begins at"):
        await storage.candles.changes(KEY, since=first)
    monkeypatch.undo()
    assert await storage.candles.changes(KEY) == []


async def test_a_late_row_that_never_counted_makes_no_difference(storage: Storage) -> None:
    """Of a writer that was paused, while a later one wrote the values that were stored."""
    storage.clickhouse.execute("SYSTEM STOP MERGES candles")
    await save(storage, SERIES)
    data_set = await storage.data_set(KEY.timeframe, *FOREVER, keys=[KEY])
    text = await storage.fingerprint(data_set)
    backend = storage._backend
    stores = backend.stores  # type: ignore[attr-defined]
    async with stores.clock.place() as paused:
        pass
    async with stores.clock.place() as later:
        pass
    await stores.clickhouse.run(stores.candles.write, SERIES, later.version + 1)
    late = with_volume(SERIES, 7)
    await stores.clickhouse.run(stores.candles.write, late, paused.version + 1)
    assert former(storage) == 0, "a row that would end before it begins"
    assert await storage.candles.get_range(KEY, *FOREVER) == SERIES
    assert await storage.fingerprint(data_set) == text
    assert await backend.data_sets.differing(data_set) == []  # type: ignore[attr-defined]
