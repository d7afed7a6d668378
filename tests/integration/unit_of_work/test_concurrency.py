"""Many writers of the same things in two processes: every commit counts once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings, SymbolBars
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import make_strategy

SERVICE = Path(__file__).with_name("counting_service.py")
FIRST_DAY = date(2024, 1, 1)


async def count_in_two_processes(settings: StorageSettings, commits: int) -> None:
    async with Storage.open(settings) as storage:
        async with storage.unit_of_work() as uow:
            strategies = [await uow.strategies.save(make_strategy(f"s{n}")) for n in range(10)]
            for n in range(10):
                bars = SymbolBars("COUNT", FIRST_DAY + timedelta(days=n)).start_collection()
                await uow.ingestion.symbol_bars.save(bars)
            await uow.commit()
        identities = [strategy.id or "" for strategy in strategies]
        environment = os.environ | {
            f"JTS_{name.upper()}": value.get_secret_value()
            for name in ("clickhouse_url", "mongo_url", "database_url")
            if (value := getattr(settings, name)) is not None
        }
        command = [sys.executable, str(SERVICE), str(commits // 2), *identities]
        processes = [
            await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE)
            for _ in range(2)
        ]
        async with asyncio.timeout(500):
            told = [json.loads((await process.communicate())[0]) for process in processes]
        assert [one["errors"] for one in told] == [[], []]
        succeeded = sum(one["commits"] for one in told)
        assert succeeded == commits
        versions = [
            found.version
            for identity in identities
            if (found := await storage.strategies.get_by_id(identity)) is not None
        ]
        aggregates = await storage.ingestion.symbol_bars.list("COUNT")
        assert sum(versions) - 10 == succeeded
        assert sum(bars.version for bars in aggregates) - 10 == succeeded
        assert sum(bars.bar_count for bars in aggregates) == succeeded


async def run_it(tmp_path: Path, engine_used: Callable[[str], None], commits: int) -> None:
    with (
        LocalMongod.acquire(tmp_path / "mongo") as mongod,
        ClickHouseServer() as clickhouse,
        LocalPostgres.start() as postgres,
    ):
        for engine in ("mongod", "PostgreSQL", "ClickHouse endpoint over chDB"):
            engine_used(engine)
        settings = StorageSettings(
            clickhouse_url=SecretStr(f"clickhouse://127.0.0.1:{clickhouse.port}/default"),
            mongo_url=SecretStr(mongod.uri),
            database_url=SecretStr(postgres.dsn),
            migrate=True,
        )
        await count_in_two_processes(settings, commits)


async def test_every_commit_of_two_processes_counts_once(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    await run_it(tmp_path, engine_used, commits=40)


@pytest.mark.slow
async def test_two_thousand_commits_of_two_processes_count_once(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    await run_it(tmp_path, engine_used, commits=2_000)
