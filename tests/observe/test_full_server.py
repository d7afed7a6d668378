"""Servers whose disk is full: it is told before, writes raise, and later all goes on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pymongo
import pytest
from pydantic import SecretStr
from pymongo.errors import PyMongoError

from jts_storage import Storage, StorageError, StorageSettings
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.observe import ALERTS, Exposition, Metrics, MetricsServer
from jts_storage.observe.state import StorageState
from jts_storage.testing.factories import make_formula
from tests.observe.prometheus import Stack, running
from tests.observe.test_real_prometheus import seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]
SIZE: Final = 768 << 20
LOW: Final = 128 << 20
_LONGEST: Final = 300.0
_DISK_LOW: Final = next(alert for alert in ALERTS if alert.name == "DiskLow")


class Full:
    """A small disk in memory, and a file that takes its room."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"

    @property
    def free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def leave(self, room: int) -> None:
        """Take all but so many bytes."""
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            while (more := self.free - room) > 0:
                file.write(bytes(min(more, 1 << 20)))

    def free_all(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk() -> Iterator[Full]:
    # Not below pytest's own folder: PostgreSQL runs as a user who may not look into that.
    folder = Path(tempfile.mkdtemp(prefix="jts-disk-"))
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=1777", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("NOT RUN: nobody may mount a disk here")
    yield Full(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture
def postgres(disk: Full, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPostgres]:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(disk.folder))  # where it makes its folder
        server = LocalPostgres.start()
    with server:
        yield server


async def refused(write: Callable[[int], Awaitable[object]]) -> int:
    """Write until that is refused; how many writes were not."""
    for number in range(400):
        try:
            async with asyncio.timeout(60):
                await write(number)
        except (StorageError, PyMongoError, TimeoutError) as exc:
            print(f"{number} writes, then {type(exc).__name__}: {str(exc)[:120]}")
            return number
    raise AssertionError("the disk is full, and nothing is refused")


async def fill(storage: Storage, disk: Full) -> int:
    """Until both servers refuse to write; how many rows PostgreSQL acknowledged."""
    disk.leave(40 << 20)

    async def checkpoint(number: int) -> None:
        half = os.urandom(250_000).hex()  # that no server makes shorter
        async with storage.unit_of_work() as uow:
            await uow.ingestion.checkpoints.save(f"filled {number}", {"text": half})
            await uow.commit()

    async def document(number: int) -> None:
        with pymongo.timeout(20):
            await storage.mongo.db["noise"].insert_one({"_id": number, "data": os.urandom(4 << 20)})

    acknowledged = await refused(checkpoint)
    await refused(document)
    disk.leave(0)
    await refused(document)
    return acknowledged


async def works_again(storage: Storage, mongod: LocalMongod, postgres: LocalPostgres) -> None:
    """What has died is started again, as who runs the servers would."""
    await asyncio.to_thread(mongod.ensure_running, 120.0)
    async with asyncio.timeout(_LONGEST):
        while not all((await storage.health()).values()):
            if not await storage.database.health_check():
                with suppress(StorageError):
                    await asyncio.to_thread(postgres.restart)
            await asyncio.sleep(1)


async def test_a_server_that_is_filled_is_told_and_goes_on(
    tmp_path: Path, disk: Full, postgres: LocalPostgres, engine_used: Callable[[str], None]
) -> None:
    for engine in ("mongod", "chDB", "PostgreSQL", "Prometheus"):
        engine_used(engine)
    with LocalMongod.acquire(disk.folder / "mongo") as mongod:
        settings = StorageSettings(
            data_dir=tmp_path / "jts",
            env_file=None,
            mongo_url=SecretStr(mongod.uri),
            database_url=SecretStr(postgres.dsn),
            migrate=True,
            health_timeout=3.0,
            database={"retry_timeout": 5},
        )
        metrics = Metrics()
        async with Storage.open(settings, observer=metrics) as storage:

            async def health() -> tuple[bool, dict[str, bool]]:
                return True, {}

            # Of two servers that are away at once each is waited for.
            state = StorageState(storage, within=10, every=5)
            exposition = Exposition(storage, metrics, state=state)
            server = await MetricsServer(exposition, health).start("127.0.0.1", 0)
            low = (_DISK_LOW.expression, _DISK_LOW.with_threshold(LOW).expression)
            target = f"127.0.0.1:{server.port}"
            with running(tmp_path, target, every=12, changed=low) as stack:
                await the_day(storage, stack, disk, mongod, postgres)
            await server.stop()


async def the_day(
    storage: Storage, stack: Stack, disk: Full, mongod: LocalMongod, postgres: LocalPostgres
) -> None:
    free = 'jts_storage_disk_free_bytes{store="mongo"}'
    assert await seen(lambda: bool(stack.query(free)), _LONGEST)
    assert disk.free > LOW, "the disk is too small for this"
    async with storage.unit_of_work() as uow:
        identity = (await uow.formulas.save(make_formula("before"))).id or ""
        await uow.commit()
    disk.leave(LOW // 2)
    last = stack.told.last
    assert await seen(lambda: last("DiskLow", store="mongo") == "firing", _LONGEST)
    acknowledged = await fill(storage, disk)
    if not (await storage.health())["mongo"]:  # it dies of a journal that it cannot write
        assert await seen(lambda: last("StoreDown", store="mongo") == "firing", _LONGEST)
    disk.free_all()
    await works_again(storage, mongod, postgres)
    assert await seen(lambda: last("DiskLow", store="mongo") == "resolved", _LONGEST)
    assert await storage.formulas.get_by_id(identity) is not None
    names = {each.name for each in await storage.ingestion.checkpoints.list(limit=1_000)}
    assert {f"filled {number}" for number in range(acknowledged)} <= names
    async with storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula("after"))
        await uow.ingestion.checkpoints.save("after", {"at": 1})
        await uow.commit()
    well = "sum(jts_storage_up) == 3"
    assert await seen(lambda: bool(stack.query(well)), _LONGEST)
    down = ("mongo", "database")
    assert await seen(lambda: all(last("StoreDown", store=n) != "firing" for n in down), _LONGEST)
    told = {
        (alert, store): [state for _, state in stack.told.of(alert, store=store)]
        for alert, store in (("DiskLow", "mongo"), *(("StoreDown", store) for store in down))
    }
    print(f"Told: {told}")
    once = ["firing", "resolved"]
    assert told.pop(("DiskLow", "mongo")) == once
    assert all(states in ([], once) for states in told.values())
