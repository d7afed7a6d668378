"""Commits that are stored again, as recovery does it: nothing more is kept of what was."""

from __future__ import annotations

from functools import partial

from jts_storage import Storage
from jts_storage.domain.rows import SeriesRows
from jts_storage.testing.contracts.samples import FOREVER
from tests.integration.history.commits import save, with_volume
from tests.integration.history.test_history_on_disk import KEY, SERIES, former


async def test_a_commit_that_is_written_again_keeps_nothing(storage: Storage) -> None:
    commit = await save(storage, SERIES)
    stores = storage._backend.stores  # type: ignore[attr-defined]
    rows = SeriesRows.of(SERIES)
    await stores.clickhouse.run(
        partial(stores.candles.write_rows, rows, commit.version, again=True)
    )
    assert former(storage) == 0
    assert await storage.candles.changes(KEY) == []


async def test_a_deletion_that_is_done_again_keeps_nothing_of_its_own_commit(
    storage: Storage,
) -> None:
    await save(storage, SERIES)
    async with storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, *FOREVER)
        await uow.candles.save_many(KEY, with_volume(SERIES[:10], 7))
        commit = (await uow.commit()).commit
    assert commit is not None
    told = await storage.candles.changes(KEY)
    assert former(storage) == len(told) == len(SERIES)
    stores = storage._backend.stores  # type: ignore[attr-defined]
    span = int(SERIES.columns.timestamp[0]), int(SERIES.columns.timestamp[-1])
    await stores.clickhouse.run(stores.candles.erase, KEY, *span, commit.version - 1)
    assert former(storage) == len(SERIES)
    assert await storage.candles.changes(KEY) == told
