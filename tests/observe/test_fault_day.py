"""A day of faults, one after the other: each store hung, killed, and back again.

Each alert fires once, names the section of the runbook, and is over once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageError, StorageSettings
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.observe import (
    ALERTS,
    Metrics,
    MetricsServer,
    MonitoringService,
    Notice,
    exposition,
)
from jts_storage.observe.state import StorageState
from jts_storage.testing import clickhouse_server
from jts_storage.testing.clickhouse_server import ServerProcess
from tests.observe.prometheus import Stack, running
from tests.observe.test_real_prometheus import seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]
STORES = ("clickhouse", "mongo", "database")
_PATIENCE: Final = 12
"""Seconds that a scrape may take."""
_LONGEST: Final = 300.0
"""Seconds until something that happens is surely told."""


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

    def hang(self, store: str) -> None:
        self._signal(store, signal.SIGSTOP)

    def wake(self, store: str) -> None:
        self._signal(store, signal.SIGCONT)

    def _signal(self, store: str, number: signal.Signals) -> None:
        """To all processes of a server: those of PostgreSQL's connections, too."""
        first = {
            "clickhouse": self.clickhouse.pid,
            "mongo": self.mongod.pid,
            "database": self.postgres.pid,
        }[store]
        children = subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True)
        for pid in (first, *map(int, children.stdout.split())):
            with suppress(ProcessLookupError):  # a connection may end meanwhile
                os.kill(pid, number)

    def kill(self, store: str) -> None:
        if store == "clickhouse":
            self.clickhouse.kill()
        elif store == "mongo":
            os.kill(self.mongod.pid, signal.SIGKILL)
        else:
            self.postgres.kill()

    def start(self, store: str) -> None:
        if store == "clickhouse":
            self.clickhouse._command[self.clickhouse._command.index("--port") + 1] = str(
                self.clickhouse.port
            )
            self.clickhouse.start()
        elif store == "mongo":
            self.mongod.ensure_running(120.0)
        else:
            self.postgres.restart()


@pytest.fixture
def servers(
    tmp_path: Path, engine_used: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Servers]:
    monkeypatch.setattr(clickhouse_server, "PATIENCE", _LONGEST)
    for engine in ("ClickHouse endpoint over chDB", "mongod", "PostgreSQL", "Prometheus"):
        engine_used(engine)
    found = Servers(tmp_path)
    yield found
    for store in STORES:  # one that hangs could not be stopped
        with suppress(RuntimeError, StorageError):
            found.wake(store)
    found.close()


@asynccontextmanager
async def observed(
    servers: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """What watches the servers; what is slow on a busy machine is not down."""
    metrics = Metrics()
    settings = StorageSettings(
        data_dir=folder / "unused",
        env_file=None,
        migrate=True,
        health_timeout=_PATIENCE / 3,
        **servers.settings,
    )
    monkeypatch.setattr(exposition, "_SECONDS_A_REQUEST", 2.0 * _PATIENCE)
    async with Storage.open(settings, observer=metrics) as storage:

        async def health() -> tuple[bool, dict[str, bool]]:
            return True, {}

        state = StorageState(storage, within=_PATIENCE / 2)
        server = MetricsServer(exposition.Exposition(storage, metrics, state=state), health)
        await server.start("127.0.0.1", 0)
        with running(folder, f"127.0.0.1:{server.port}", every=_PATIENCE) as stack:
            yield stack
        await server.stop()


class Day:
    """Faults as they are made, and what was told of each."""

    def __init__(self, stack: Stack) -> None:
        self._told = stack.told
        self._stack = stack
        self.seconds: list[float] = []

    async def begins(self) -> None:
        """Wait until all is well, and the last of what was told says so."""
        up = "jts_storage_up == 1"
        assert await seen(lambda: len(self._stack.query(up)) == len(STORES), _LONGEST), "not well"
        quiet = await seen(lambda: not self._stack.query('ALERTS{alertname="StoreDown"}'), _LONGEST)
        assert quiet, self._told.of("StoreDown")
        ends = await seen(lambda: "firing" not in self._states(), _LONGEST)
        assert ends, self._told.of("StoreDown")

    async def is_told(self, store: str, state: str) -> None:
        """Wait until it is the last that was told of a store."""
        begun = time.time()
        told = await seen(lambda: self._told.last("StoreDown", store=store) == state, _LONGEST)
        assert told, f"{store}: {self._told.of('StoreDown', store=store)}"
        self.seconds.append(round(time.time() - begun, 1))

    def _states(self) -> set[str]:
        return {self._told.last("StoreDown", store=store) for store in STORES}


async def test_each_fault_is_told_once_and_its_end_once(
    tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IT-INFRA-04; PT-INFRA-04.1 of delivery: how long it took is printed, and not judged."""
    async with observed(servers, tmp_path, monkeypatch) as stack:
        day = Day(stack)
        for fault, end in ((servers.hang, servers.wake), (servers.kill, servers.start)):
            for store in STORES:
                await day.begins()
                await asyncio.to_thread(fault, store)
                await day.is_told(store, "firing")
                await asyncio.to_thread(end, store)
                await day.is_told(store, "resolved")
        await day.begins()
        told = {
            store: [state for _, state in stack.told.of("StoreDown", store=store)]
            for store in STORES
        }
        print(f"Seconds until each fault was told, and its end: {day.seconds}; told: {told}")
        for store, states in told.items():
            # On a machine that is busy enough a store looks down now and then: that is told once,
            # and its end once, too.
            assert len(states) >= 4, store
            assert states == ["firing", "resolved"] * (len(states) // 2), store
        down = [post for post in stack.told.posts if post[2]["alertname"] == "StoreDown"]
        runbooks = {annotations["runbook"] for *_, annotations in down}
        assert runbooks == {"docs/how-to/on-call.md#a-store-is-down"}


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
