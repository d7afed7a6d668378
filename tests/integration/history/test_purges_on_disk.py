"""Purges on real stores: nothing is left on the disk, whatever was going on, or died."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.clickhouse.purging import HistoryPurge
from jts_storage.errors import InvalidData, StorageError
from jts_storage.reading import ReadingBackend
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.unit_of_work.purges import StoredPurges
from tests import forked
from tests.integration.history.commits import save, with_volume
from tests.integration.history.test_history_on_disk import KEY, SERIES, former, moments
from tests.prepared import Prepared

VALUES = "SELECT count() FROM candles WHERE volume = 7"


def ask(storage: Storage, query: str) -> int:
    return int(storage.clickhouse.execute(query)[0][0])


async def delete(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, *FOREVER)
        await uow.commit()


async def test_no_row_has_the_values_any_more(storage: Storage) -> None:
    storage.clickhouse.execute("SYSTEM STOP MERGES candles")
    await save(storage, SERIES)
    await save(storage, with_volume(SERIES[:50], 7))
    await save(storage, with_volume(SERIES[:10], 8))  # replaced
    await delete(storage)
    await save(storage, with_volume(SERIES[100:], 9))
    assert ask(storage, VALUES) == 50 + 40, "replaced ones, and deleted ones with their values"
    storage.clickhouse.execute("SYSTEM START MERGES candles")
    assert await storage.candles.purge_history() == 200 + 50 + 10
    assert ask(storage, "SELECT count() FROM candles_history") == 0
    assert ask(storage, "SELECT count() FROM candles WHERE volume NOT IN (0, 9)") == 0
    assert ask(storage, "SELECT count() FROM candles WHERE is_deleted AND close != 0") == 0
    assert await storage.candles.count(KEY) == 100
    # The rows that say that there is no candle are there still.
    assert ask(storage, "SELECT count() FROM candles WHERE is_deleted") == 100


async def test_what_is_only_marked_as_deleted_is_taken_out(storage: Storage) -> None:
    first = await save(storage, SERIES)
    await save(storage, with_volume(SERIES, 7))
    assert await moments(storage).forget(days=0) == 200
    masked = "SELECT countIf(has_lightweight_delete) FROM system.parts WHERE active"
    assert ask(storage, masked) == 1
    assert await storage.candles.purge_history() == 0
    assert ask(storage, masked) == 0
    with pytest.raises(InvalidData, match="is before the history"):
        await storage.candles.count(KEY, as_of=first)


async def test_a_purge_waits_for_the_commits_before_it(storage: Storage) -> None:
    """A commit that has its version keeps former candles under it, however late."""
    await save(storage, SERIES)
    stores = storage._backend.stores  # type: ignore[attr-defined]
    async with stores.clock.place(series=[f"candles {KEY}"]) as place:
        purging = asyncio.ensure_future(storage.candles.purge_history())
        await asyncio.sleep(0.3)
        assert not purging.done()
        assert await StoredPurges(stores).began(KEY) == 0, "nothing is refused yet, either"
        rows = with_volume(SERIES, 7)
        await stores.clickhouse.run(stores.candles.write, rows, place.version + 1)
        assert former(storage) == len(SERIES)
    assert await purging == len(SERIES)
    assert former(storage) == 0


async def test_commits_go_on_beside_purges(storage: Storage) -> None:
    async def correct() -> None:
        for volume in range(20):
            await save(storage, with_volume(SERIES, volume))

    async def purge() -> None:
        while not correcting.done():
            await storage.candles.purge_history([KEY])

    await save(storage, SERIES)
    correcting = asyncio.ensure_future(correct())
    await asyncio.gather(correcting, purge())
    last = await save(storage, with_volume(SERIES, 30))
    await save(storage, with_volume(SERIES, 31))
    found = await storage.candles.get_range(KEY, *FOREVER, as_of=last)
    assert {candle.volume for candle in found} == {30}
    await storage.candles.purge_history([KEY])
    assert former(storage) == 0
    assert {candle.volume for candle in await storage.candles.get_range(KEY, *FOREVER)} == {31}


async def test_an_engine_that_only_says_yes_is_not_believed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await save(storage, SERIES)
    await save(storage, with_volume(SERIES, 7))
    manager, execute = storage.clickhouse, storage.clickhouse.execute

    def deaf(query: Any, *given: Any, **more: Any) -> Any:
        return [] if str(query).startswith("ALTER") else execute(query, *given, **more)

    monkeypatch.setattr(manager, "execute", deaf)
    with pytest.raises(StorageError, match="from candles_history, 200 rows are still there"):
        await storage.candles.purge_history()
    monkeypatch.undo()
    # Nobody is told of what may be half gone.
    with pytest.raises(InvalidData, match="it was purged"):
        await storage.candles.count(KEY, as_of=first)
    assert await storage.candles.changes(KEY) == []
    await storage.recover()
    assert former(storage) == 0


async def test_a_purge_of_many_series(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jts_storage.clickhouse.purging._KEYS_AT_ONCE", 2)
    keys = [type(KEY)(f"S{number}", KEY.timeframe) for number in range(5)]
    for key in keys:
        rows = type(SERIES).trusted(key, SERIES.columns)
        await save(storage, rows)
        await save(storage, with_volume(rows, 7))
    assert await storage.candles.purge_history(keys[:4]) == 4 * len(SERIES)
    assert former(storage) == len(SERIES)
    assert len(await storage.candles.changes(keys[4])) == len(SERIES)


async def test_a_deleted_candle_without_volume_has_no_price_any_more(storage: Storage) -> None:
    await save(storage, with_volume(SERIES, 0))
    await delete(storage)
    await storage.candles.purge_history()
    assert ask(storage, "SELECT count() FROM candles WHERE close != 0") == 0


async def test_unmerged_rows_of_any_of_many_series_are_taken_out(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jts_storage.clickhouse.purging._KEYS_AT_ONCE", 1)
    storage.clickhouse.execute("SYSTEM STOP MERGES candles")
    first = type(KEY)("0", KEY.timeframe)
    await save(storage, type(SERIES).trusted(first, SERIES.columns))
    await save(storage, with_volume(SERIES, 7))
    await save(storage, with_volume(SERIES, 8))
    storage.clickhouse.execute("SYSTEM START MERGES candles")
    assert await storage.candles.purge_history([first, KEY]) == len(SERIES)
    assert ask(storage, VALUES) == 0


async def test_the_end_of_a_purge_leaves_a_later_one_unfinished(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await save(storage, SERIES)
    await save(storage, with_volume(SERIES, 7))
    erase, begun, may_end = HistoryPurge.erase, threading.Event(), threading.Event()

    def erased_late(self: HistoryPurge, *given: Any) -> int:
        begun.set()
        may_end.wait(60)
        return erase(self, *given)

    def dies(*_: Any) -> int:
        raise StorageError("It dies.")

    monkeypatch.setattr(HistoryPurge, "erase", erased_late)
    earlier = asyncio.create_task(storage.candles.purge_history([KEY], before=first))
    await asyncio.to_thread(begun.wait, 60)
    monkeypatch.setattr(HistoryPurge, "erase", dies)
    with pytest.raises(StorageError, match="It dies"):
        await storage.candles.purge_history([KEY])
    monkeypatch.undo()
    may_end.set()
    assert await earlier == 0
    assert former(storage) == len(SERIES)
    await storage.recover()
    assert former(storage) == 0


@pytest.mark.slow
async def test_a_purge_that_was_interrupted_is_finished_by_the_next_opening(
    tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared.copy(tmp_path)
    settings = StorageSettings(data_dir=tmp_path)

    def died(*_: object) -> int:
        raise StorageError("The process died here.")

    async with Storage.open(settings) as storage:
        await save(storage, SERIES)
        await save(storage, with_volume(SERIES, 7))
        with monkeypatch.context() as patched:
            patched.setattr(HistoryPurge, "erase", died)
            with pytest.raises(StorageError, match="died"):
                await storage.candles.purge_history()
    backend = ReadingBackend(settings)
    async with Storage(backend) as storage:
        assert not backend.is_partial, "a folder is not at rest before it is finished"
        assert await storage.candles.changes(KEY) == []
    async with Storage.open(settings) as storage:
        assert former(storage) == 0


PURGER = """
import asyncio, sys
from pathlib import Path
from jts_storage import Storage, StorageSettings
from tests.integration.history.test_history_on_disk import KEY, SERIES, save, with_volume

async def main(folder, number):
    async with Storage.open(StorageSettings(data_dir=Path(folder))) as storage:
        for _ in range(2):
            number += 1
            await save(storage, with_volume(SERIES, number))
        print(number, flush=True)
        await storage.candles.purge_history([KEY])
        await asyncio.sleep(60)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(3, id="few"),
        pytest.param(30, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
@pytest.mark.usefixtures("held_mongod")
async def test_a_kill_leaves_no_wrong_answer_and_a_purge_again_leaves_nothing(
    tmp_path: Path, kills: int, engine_used: Callable[[str], None]
) -> None:
    engine_used("chDB and mongod (killed purges)")
    number = 0
    for _ in range(kills):
        number = await asyncio.to_thread(_killed_purge, tmp_path, number)
        async with Storage.open(StorageSettings(data_dir=tmp_path)) as storage:
            for change in await storage.candles.changes(KEY):
                assert change.after is not None
                assert change.after.volume == change.before.volume + 1
                # Both of what the killed one saved, if it had purged nothing; what was before
                # was purged for certain.
                assert change.before.volume >= number - 2
            await storage.candles.purge_history([KEY])
            assert ask(storage, "SELECT count() FROM candles_history") == 0
            assert ask(storage, "SELECT uniqExact(volume) FROM candles") == 1
            found = await storage.candles.get_range(KEY, *FOREVER)
            assert {candle.volume for candle in found} == {number}


def _killed_purge(folder: Path, number: int) -> int:
    """Kill a purge at a moment of its own; the last number that was stored."""
    command = ["-c", PURGER, str(folder), str(number)]
    with forked.Process(command, stdout=forked.PIPE) as purger:
        assert purger.stdout is not None
        stored = int(purger.stdout.readline())
        signal.sigtimedwait([], random.uniform(0, 0.8))
        purger.kill()
    return stored
