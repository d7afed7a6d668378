"""Each row of the table "What an acknowledgement means" in `docs/why.md` is a test."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pytest
import sqlalchemy as sa
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import monitoring

from jts_storage import CandleSeries, SeriesKey, StorageSettings, Timeframe
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.embedded.transport import ChdbTransport
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import InvalidConfiguration
from jts_storage.lake import ParquetStorageEngine, files
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.relational.manager import DatabaseManager
from jts_storage.sync import Storage
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import make_candles, make_formula, make_symbol

PAGE: Final = Path(__file__).parents[2] / "docs" / "why.md"
ENGINE: Final = Path(__file__).parent / "clickhouse"
KEY: Final = SeriesKey("005930", Timeframe.M1, exchange="KRX")

ELSEWHERE: Final = {
    "ClickHouse, embedded: an insert that the engine refuses": (
        ENGINE / "test_refused_inserts.py",
        "test_a_refused_insert_raises_and_stores_nothing",
    ),
    "ClickHouse, embedded: a full disk": (
        ENGINE / "test_full_disk.py",
        "test_candles_raise_and_are_not_stored",
    ),
    "ClickHouse: a part that is damaged afterwards": (
        ENGINE / "test_broken_parts.py",
        "test_opening_says_what_is_lost_and_opens",
    ),
}
"""Rows that have a file of tests for themselves."""

Test = TypeVar("Test", bound=Callable[..., object])
tested = set(ELSEWHERE)


def row(text: str) -> Callable[[Test], Test]:
    """The test is of the row that begins so."""
    tested.add(text)
    return lambda test: test


# ---- ClickHouse


@row("ClickHouse, embedded: candles and symbols")
def test_an_embedded_insert_is_on_disk(tmp_path: Path, engine_used: Callable[[str], None]) -> None:
    engine_used("chDB")
    query = "SELECT value FROM system.merge_tree_settings WHERE name IN %(names)s"
    names = {"names": ("fsync_after_insert", "fsync_part_directory")}
    with ClickHouseManager(embedded_path=str(tmp_path)) as manager:
        assert manager.execute(query, names) == [("1",), ("1",)]


@pytest.fixture
def received(
    monkeypatch: pytest.MonkeyPatch, engine_used: Callable[[str], None]
) -> Iterator[tuple[ClickHouseManager, list[dict[str, Any]]]]:
    """A client of a server, and the settings that came with what it inserted."""
    inserts: list[dict[str, Any]] = []
    apply = ChdbTransport.apply

    def noting(self: ChdbTransport, settings: Any) -> None:
        if settings and any("insert" in name for name in settings):
            inserts.append(dict(settings))
        apply(self, settings)

    with (
        ClickHouseServer() as server,
        ClickHouseManager(port=server.port, settings={"async_insert": 1}, max_retries=0) as manager,
    ):
        engine_used("ClickHouse endpoint over chDB")
        manager.execute("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
        monkeypatch.setattr(ChdbTransport, "apply", noting)
        yield manager, inserts


@row("ClickHouse, a server: any insert of the kit")
@pytest.mark.parametrize("way", ["columns", "rows", "text", "core"])
def test_an_insert_tells_the_server_not_to_answer_early(
    received: tuple[ClickHouseManager, list[dict[str, Any]]], way: str
) -> None:
    manager, inserts = received
    if way == "columns":
        manager.insert_columns("t", {"n": np.arange(3)})
    elif way == "rows":
        manager.execute_many("INSERT INTO t (n) VALUES", [(1,)])
    elif way == "text":
        manager.execute("INSERT INTO t SELECT 1")
    else:
        table = sa.table("t", sa.column("n", sa.BigInteger))
        manager.execute(sa.insert(table).from_select(["n"], sa.select(sa.literal_column("1"))))
    assert inserts
    for settings in inserts:
        assert str(settings["wait_for_async_insert"]) == "1"
        assert str(settings["distributed_foreground_insert"]) == "1"


@row("ClickHouse, a server: settings that make it answer early")
@pytest.mark.parametrize(
    "name", ["wait_for_async_insert", "distributed_foreground_insert", "insert_distributed_sync"]
)
@pytest.mark.parametrize("value", [0, "0", False, "false"])
def test_settings_that_acknowledge_too_early_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidConfiguration, match=f"{name}.*acknowledged"):
        ClickHouseConfig(settings={name: value})
    with pytest.raises(InvalidConfiguration, match=name):
        ClickHouseConfig.from_url(f"clickhouse://h/jts?setting.{name}=0")
    ClickHouseConfig(settings={name: 1, "async_insert": 1, "insert_quorum": "auto"})


# ---- MongoDB


class Noted(monitoring.CommandListener):
    """What each writing command said of its acknowledgement, and each first read of its level."""

    def __init__(self) -> None:
        self.concerns: list[tuple[str, Any]] = []
        self.levels: list[str | None] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        commands = {"insert", "update", "delete", "findAndModify", "commitTransaction"}
        inside = event.command_name != "commitTransaction" and "autocommit" in event.command
        if event.command_name in commands and not inside:
            self.concerns.append((event.command_name, event.command.get("writeConcern")))
        begins = event.command.get("startTransaction", "autocommit" not in event.command)
        if begins and event.command_name in {"find", "aggregate"}:
            self.levels.append(event.command.get("readConcern", {}).get("level"))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@pytest.fixture
def noted() -> Iterator[Noted]:
    noted = Noted()
    monitoring.register(noted)
    yield noted
    # There is no public way to take it back.
    monitoring._LISTENERS.command_listeners.remove(noted)


@row("MongoDB: documents, journal, events, leases")
def test_mongodb_has_it_in_the_journals_of_a_majority(
    tmp_path: Path, noted: Noted, engine_used: Callable[[str], None]
) -> None:
    engine_used("mongod")
    with Storage.open(StorageSettings(data_dir=tmp_path)) as storage:
        noted.concerns.clear()
        with storage.unit_of_work() as uow:
            uow.formulas.save(make_formula("f"))
            uow.candles.save_many(KEY, make_candles(KEY, 3))
            uow.symbols.save(make_symbol("A"))
            uow.commit()
    assert {"commitTransaction", "insert"} <= {command for command, _ in noted.concerns}
    for command, concern in noted.concerns:
        assert concern is not None, command
        assert (concern["w"], concern["j"]) == ("majority", True), command


@row("MongoDB: what is read")
def test_a_read_shows_what_a_majority_has(tmp_path: Path, noted: Noted) -> None:
    with Storage.open(StorageSettings(data_dir=tmp_path)) as storage:
        noted.levels.clear()
        storage.formulas.list()
        with storage.unit_of_work() as uow:
            uow.formulas.list()
        levels = set(noted.levels)  # at its end, the embedded server is asked by another client
    assert levels == {"majority"}


@row("MongoDB: a client of Motor's that asks for less")
@pytest.mark.parametrize("option", ["w=0", "w=1", "journal=false", "w=2&journal=true", ""])
async def test_a_motor_client_that_asks_for_less_is_not_taken_at_its_word(option: str) -> None:
    motor: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        f"mongodb://localhost:1/?{option}"
    )
    manager = MongoDBManager.from_motor(motor)
    try:
        assert manager.db.write_concern.document == {"w": "majority", "j": True}
        assert manager.db.read_concern.level == "majority"
    finally:
        await manager.close()
        motor.close()


@row("MongoDB: a URI that asks for less")
@pytest.mark.parametrize("option", ["w=0", "w=1", "w=2", "journal=false"])
def test_a_uri_that_asks_for_less_is_refused(option: str) -> None:
    with pytest.raises(InvalidConfiguration, match="acknowledged"):
        MongoDBManager(uri=f"mongodb://h/?{option}")


# ---- SQL


@row("SQLite: bookkeeping")
async def test_sqlite_writes_before_it_answers(tmp_path: Path) -> None:
    pragmas = ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync")
    async with (
        DatabaseManager(str(tmp_path / "jts.db")) as manager,
        manager.engine.connect() as connection,
    ):
        said = [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in pragmas]
    assert said == ["wal", 3, 1, 1]


@pytest.fixture(scope="module")
def postgres(engine_used: Callable[[str], None]) -> Iterator[LocalPostgres]:
    with LocalPostgres.start() as server:
        engine_used("PostgreSQL")
        yield server


async def shown(dsn: str, name: str) -> Any:
    async with DatabaseManager(dsn) as manager, manager.engine.connect() as connection:
        return (await connection.exec_driver_sql(f"SHOW {name}")).scalar()


@row("PostgreSQL: bookkeeping, whatever role, database or server say")
@pytest.mark.parametrize("asked", ["off", "local", "remote_write", "on", "remote_apply"])
async def test_a_role_cannot_have_commits_answered_early(
    postgres: LocalPostgres, asked: str
) -> None:
    async with DatabaseManager(postgres.dsn) as manager, manager.engine.begin() as connection:
        await connection.exec_driver_sql(
            f"ALTER ROLE CURRENT_USER SET synchronous_commit = {asked}"
        )
    kept = asked if asked == "remote_apply" else "on"
    assert await shown(postgres.dsn, "synchronous_commit") == kept


@row("PostgreSQL: a server with `fsync=off`")
async def test_a_server_without_fsync_is_told(
    postgres: LocalPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with DatabaseManager(postgres.dsn) as manager:
            for _ in range(2):
                async with manager.engine.connect():
                    pass
    assert caplog.text.count("fsync=off") == 1
    caplog.clear()
    with LocalPostgres.start(fsync=True) as safe:
        assert await shown(safe.dsn, "fsync") == "on"
    assert "fsync=off" not in caplog.text


# ---- the lake


@row("The lake: a file")
@pytest.mark.parametrize("folders_are_there", [False, True])
def test_a_file_of_the_lake_is_on_disk_with_the_folders_that_lead_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders_are_there: bool
) -> None:
    """A writer that died between making a folder and syncing it leaves it to the next one."""
    lake = ParquetStorageEngine(tmp_path / "lake")
    series = CandleSeries.from_candles(KEY, make_candles(KEY, 5))
    if folders_are_there:
        save(lake, series, "before")
        monkeypatch.setattr(files, "_synced", set())  # as in another process
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(handle: int) -> None:
        fsync(handle)
        done.append(("fsync", os.path.realpath(f"/proc/self/fd/{handle}")))

    def noting_replace(source: Any, target: Any) -> None:
        replace(source, target)
        done.append((str(source), str(target)))

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    save(lake, series, "job")
    (at,) = [n for n, (_, target) in enumerate(done) if target.endswith("job.parquet")]
    temporary, target = done[at]
    assert ("fsync", temporary) in done[:at]
    synced = {path for what, path in done[at:] if what == "fsync"}
    assert {str(folder) for folder in Path(target).parents[:4]} <= synced
    assert str(tmp_path / "lake") in synced


def save(lake: ParquetStorageEngine, series: CandleSeries, job: str) -> None:
    day = series[0].timestamp.date()
    lake.write(series, frame=KEY.timeframe, symbol=KEY.symbol, trading_day=day, job_id=job)


# ---- the page


def test_every_row_of_the_table_has_a_test() -> None:
    section = (
        PAGE.read_text().partition("## What an acknowledgement means")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"^\| (?!store and call|---)([^|]+?) \|", section, re.MULTILINE)
    assert sorted(rows) == sorted(tested)
    for file, test in ELSEWHERE.values():
        assert f"def {test}(" in file.read_text()
