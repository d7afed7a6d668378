"""A day of faults, one after the other: each store hung, killed, and back again.

Each alert fires once, names the section of the runbook, and is over once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.observe import (
    ALERTS,
    Exposition,
    Metrics,
    MetricsServer,
    MonitoringService,
    Notice,
)
from jts_storage.observe.state import StorageState
from jts_storage.testing.clickhouse_server import ServerProcess
from tests.observe.prometheus import Stack, running
from tests.observe.test_real_prometheus import seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STORES = ("clickhouse", "mongo", "database")


class Servers:
    """The three servers, each of which can be paused, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._open = ExitStack()
        self.clickhouse = self._open.enter_context(ServerProcess(folder / "clickhouse"))
        self.postgres = self._open.enter_context(LocalPostgres.start())
        self.mongod = self._open.enter_context(LocalMongod.acquire(folder / "mongo"))

    def close(self) -> None:
        self._open.close()

    @property
    def settings(self) -> dict[str, SecretStr]:
        clickhouse = f"clickhouse://127.0.0.1:{self.clickhouse.port}/default"
        return {
            "clickhouse_url": SecretStr(clickhouse),
            "mongo_url": SecretStr(self.mongod.uri),
            "database_url": SecretStr(self.postgres.dsn),
        }

    def pids(self, store: str, mongod: int) -> list[int]:
        """The processes of a server: those of PostgreSQL's connections, too."""
        first = {
            "clickhouse": self.clickhouse.pid,
            "mongo": mongod,
            "database": self.postgres.pid,
        }[store]
        children = subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True)
        return [first, *map(int, children.stdout.split())]

    def kill(self, store: str) -> None:
        self.clickhouse.kill() if store == "clickhouse" else self.postgres.kill()

    def start(self, store: str) -> None:
        if store == "clickhouse":
            self.clickhouse._command[self.clickhouse._command.index("--port") + 1] = str(
                self.clickhouse.port
            )
            self.clickhouse.start()
        else:
            self.postgres.restart()


@pytest.fixture
def servers(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[Servers]:
    for engine in ("ClickHouse endpoint over chDB", "mongod", "PostgreSQL", "Prometheus"):
        engine_used(engine)
    found = Servers(tmp_path)
    yield found
    found.close()


@asynccontextmanager
async def observed(servers: Servers, folder: Path) -> AsyncIterator[tuple[Storage, Stack]]:
    metrics = Metrics()
    settings = StorageSettings(
        data_dir=folder / "unused",
        env_file=None,
        migrate=True,
        health_timeout=1.5,
        **servers.settings,
    )
    async with Storage.open(settings, observer=metrics) as storage:

        async def health() -> tuple[bool, dict[str, bool]]:
            return True, {}

        # What is slow on a busy machine is not down.
        state = StorageState(storage, within=4.0)
        exposition = Exposition(storage, metrics, state=state)
        server = await MetricsServer(exposition, health).start("127.0.0.1", 0)
        with running(folder, f"127.0.0.1:{server.port}") as stack:
            yield storage, stack
        await server.stop()


async def test_each_fault_is_told_once_and_its_end_once(tmp_path: Path, servers: Servers) -> None:
    async with observed(servers, tmp_path) as (storage, stack):
        mongod = (await storage.mongo.client.admin.command("serverStatus"))["pid"]
        for store in STORES:
            pids = servers.pids(store, mongod)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            await told(stack, store, 1)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            await told(stack, store, 2)
        for store in ("clickhouse", "database"):
            await asyncio.to_thread(servers.kill, store)
            await told(stack, store, 3)
            await asyncio.to_thread(servers.start, store)
            await told(stack, store, 4)
        assert [
            (store, [state for _, state in stack.told.of("StoreDown", store=store)])
            for store in STORES
        ] == [
            ("clickhouse", ["firing", "resolved"] * 2),
            ("mongo", ["firing", "resolved"]),
            ("database", ["firing", "resolved"] * 2),
        ]
        down = [post for post in stack.told.posts if post[2]["alertname"] == "StoreDown"]
        runbooks = {annotations["runbook"] for *_, annotations in down}
        assert runbooks == {"docs/how-to/on-call.md#a-store-is-down"}


async def told(stack: Stack, store: str, posts: int) -> None:
    """Wait until so many posts have come about a store."""
    found = await seen(lambda: len(stack.told.of("StoreDown", store=store)) >= posts, 120)
    assert found, f"{store}: {stack.told.of('StoreDown', store=store)}"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own: no machine is filled for this."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("NOT RUN: nobody may mount a disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_disk_that_fills_is_told(disk: Path) -> None:
    notices: list[Notice] = []
    low = next(alert for alert in ALERTS if alert.name == "DiskLow").with_threshold(64e6)
    settings = StorageSettings(data_dir=disk / "jts", env_file=None)
    async with Storage.open(settings) as storage:
        service = MonitoringService(storage, alerts=[low], handler=notices.append)
        service._state = StorageState(storage, within=30)
        await service.look()
        assert notices == []
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "other").write_bytes(bytes(int(free - 32e6)))
        await service.look()
        await service.look()
        (disk / "other").unlink()
        await service.look()
    assert [notice.is_over for notice in notices] == [False, True]
    assert notices[0].alert.runbook.endswith("#the-disk-is-filling")
