"""A commit of candles is whole to every reader, also where the table is split by year."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage import commit as commit_points
from jts_storage.clickhouse import tables
from jts_storage.embedded.mongod import LocalMongod
from jts_storage.testing.factories import make_candles

KEY = SeriesKey("005930", Timeframe.D1, "KRX")


@pytest.fixture
async def storage(tmp_path: Path, engine_used: Callable[[str], None]) -> AsyncIterator[Storage]:
    with LocalMongod.acquire(tmp_path / "mongo") as mongod:
        for engine in ("mongod", "chDB", "SQLite"):
            engine_used(engine)
        uri = SecretStr(mongod.uri)
        async with Storage.open(
            StorageSettings(data_dir=tmp_path, mongo_url=uri, migrate=True)
        ) as storage:
            yield storage


@pytest.mark.parametrize("by_year", [False, True])
async def test_rows_of_several_partitions_take_the_journal(
    storage: Storage, by_year: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_year:
        storage.clickhouse.execute("DROP TABLE candles SYNC")
        built = tables.build(partition_by_year=True)
        built.metadata.tables["candles"].create(storage.clickhouse.engine)
    points: list[str] = []
    monkeypatch.setattr(commit_points, "reached", points.append)
    for start, is_journalled in ((2020, False), (2023, by_year)):
        points.clear()
        days = make_candles(
            KEY, 300, start=datetime(start, 3 if start == 2020 else 9, 1, tzinfo=UTC)
        )
        years = {day.timestamp.year for day in days}
        assert len(years) == (1 if start == 2020 else 2)
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, days)
            await uow.commit()
        assert ("decided" in points) == is_journalled
        assert await storage.candles.get_range(KEY, days[0].timestamp, days[-1].timestamp) == days
