"""A part that is damaged on disk is told: at opening, by health, and by the check."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from typer.testing import CliRunner

from jts_storage import SeriesKey, StorageSettings, Timeframe, migrate
from jts_storage.cli.main import app
from jts_storage.clickhouse.broken_parts import BrokenPart, broken_parts, tell_broken_parts
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.sql import quoted
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.sync import Storage
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import make_candles
from tests.prepared import Prepared

KEY: Final = SeriesKey("005930", Timeframe.M1, exchange="KRX")
ROWS: Final = 2_000


def truncate_parts(store: Path) -> int:
    """Cut the rows of every part of the tables in a folder of the embedded engine."""
    files = [path for path in store.glob("store/*/*/*/*.bin") if path.stat().st_size > 64]
    for file in files:
        os.truncate(file, 10)
    return len(files)


@pytest.fixture(scope="module")
def folder(
    prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[Path]:
    """A storage in which the only part of `candles` was cut; its mongod goes on."""
    engine_used("chDB")
    folder = tmp_path_factory.mktemp("broken")
    prepared.copy(folder)
    with LocalMongod.acquire(folder / "mongo"):
        cut(folder)
        yield folder


def cut(folder: Path) -> None:
    with Storage.open(StorageSettings(data_dir=folder)) as storage, storage.unit_of_work() as uow:
        uow.candles.save_many(KEY, make_candles(KEY, ROWS))
        uow.commit()
    manager = ClickHouseManager(StorageSettings(data_dir=folder).clickhouse())
    with manager:
        (path,) = manager.execute(
            "SELECT path FROM system.parts WHERE active AND database = currentDatabase()"
            " AND table = 'candles'"
        )[0]
    for file in Path(path).glob("*.bin"):
        os.truncate(file, 10)


@pytest.fixture
def storage(folder: Path) -> Iterator[Storage]:
    with Storage.open(StorageSettings(data_dir=folder, check="error")) as storage:
        yield storage


def test_opening_says_what_is_lost_and_opens(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.ERROR),
        Storage.open(StorageSettings(data_dir=folder, check="error")) as storage,
    ):
        assert storage.candles.count(KEY) == 0
    (told,) = [each for each in caplog.records if "candles" in each.getMessage()]
    for said in ("candles", "broken-on-start", "import the rows", "DROP DETACHED PART"):
        assert said in told.getMessage()


def test_health_counts_it_and_is_not_well(storage: Storage) -> None:
    health = storage.health()
    assert health["clickhouse"], "it answers"
    assert health.broken_parts == 1
    assert not health.is_well


def test_the_commands_tell_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JTS_DATA_DIR", str(folder))
    health = CliRunner().invoke(app, ["health"])
    assert "Broken parts of ClickHouse tables: 1" in health.output
    assert health.exit_code == 1
    check = CliRunner().invoke(app, ["check", "--store", "clickhouse"])
    assert "clickhouse candles: stored rows should be whole, is without the part" in check.output
    assert "DROP DETACHED PART" in check.output
    assert check.exit_code == 1


@pytest.mark.parametrize("over_tcp", [False, True], ids=["embedded", "endpoint"])
async def test_a_part_is_told_until_it_is_given_up(tmp_path: Path, over_tcp: bool) -> None:
    with ClickHouseManager(embedded_path=str(tmp_path)) as manager:
        manager.execute("CREATE TABLE `my ticks` (n Int64) ENGINE = MergeTree ORDER BY n")
        manager.execute("CREATE TABLE whole (n Int64) ENGINE = MergeTree ORDER BY n")
        manager.insert_columns("`my ticks`", {"n": np.random.default_rng(1).permutation(ROWS)})
    assert truncate_parts(tmp_path) == 1
    with (
        ClickHouseServer(str(tmp_path)) as server,
        ClickHouseManager(port=server.port)
        if over_tcp
        else ClickHouseManager(embedded_path=str(tmp_path), fsync=False) as manager,
    ):
        (part,) = broken_parts(manager)
        assert (part.table, part.reason) == ("my ticks", "broken-on-start")
        assert manager.state().broken_parts == 1
        assert manager.health_check()
        (told,) = [
            each
            for each in await migrate.check(migrate.Databases(clickhouse=manager))
            if each.where == "my ticks"
        ]
        assert told.remedy == part.remedy, "migrations are pending, and would not mend it"
        manager.execute(part.remedy.partition("forget the part: ")[2])
        assert broken_parts(manager) == []
        assert manager.state().broken_parts == 0


def test_a_part_that_somebody_detached_is_not_broken() -> None:
    with ClickHouseManager(embedded_path=":memory:") as manager:
        manager.execute("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
        manager.insert_columns("t", {"n": np.arange(3)})
        manager.execute("ALTER TABLE t DETACH PARTITION tuple()")
        assert manager.execute("SELECT count() FROM system.detached_parts") == [(1,)]
        assert broken_parts(manager) == []
        assert manager.state().broken_parts == 0


def test_who_may_not_look_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = ClickHouseManager(port=1, max_retries=0, connect_timeout=1)
    tell_broken_parts(nowhere)
    assert "could not be found out" in caplog.text


def test_names_are_quoted_in_the_remedy() -> None:
    part = BrokenPart("my ticks", "it's", "broken", "/x")
    assert quoted("my ticks") in part.remedy
    assert r"'it\'s'" in part.remedy
