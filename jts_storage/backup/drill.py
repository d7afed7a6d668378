"""A drill: a backup restored into a storage of its own, which is opened, checked and used."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import perf_counter

from jts_storage import migrate
from jts_storage.backend import StoreBackend
from jts_storage.backup import schema
from jts_storage.backup.copying import Report, unheard
from jts_storage.backup.manager import BackupManager
from jts_storage.backup.repository import LATEST, BackupRepository
from jts_storage.backup.results import Restored
from jts_storage.backup.scratch import FOLDER
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.migrate.checks import check
from jts_storage.ports.schema import STATES
from jts_storage.settings import StorageSettings
from jts_storage.storage import Storage

_KEY = SeriesKey("JTSBACKUPDRILL", Timeframe.D1)
_AT = datetime(2000, 1, 3, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What came of a drill.

    :param faults: what was found; nothing, if the backup is one to rely on.
    """

    restored: Restored
    seconds: float
    faults: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        return not self.faults


async def drill(
    repository: BackupRepository,
    settings: StorageSettings,
    backup_id: str = LATEST,
    *,
    previous_if_damaged: bool = False,
    report: Report = unheard,
) -> Drilled:
    """Restore a backup into embedded stores in a temporary folder, and use these.

    This process must have no other embedded storage open.

    :param settings: of the storage that was backed up: its migrations and whether it has a history.
    """
    begun = perf_counter()
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=FOLDER))
    try:
        backend = StoreBackend(_elsewhere(settings, folder))
        async with Storage(backend) as storage:
            manager = BackupManager(storage, repository, report=report)
            restored = await manager.restore(backup_id, previous_if_damaged=previous_if_damaged)
            faults = await _faults(storage, backend)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return Drilled(restored=restored, seconds=perf_counter() - begun, faults=tuple(faults))


def _elsewhere(settings: StorageSettings, folder: Path) -> StorageSettings:
    fields = StorageSettings.model_fields
    nested = {name: fields[name].default for name in fields if name.endswith("_fields")}
    return settings.model_copy(
        update={
            "data_dir": folder,
            "lake_dir": None,
            "share": False,
            "url": None,
            "clickhouse_url": None,
            "mongo_url": None,
            "database_url": None,
            "migrate": None,
            "check": "off",
            **nested,
        }
    )


async def _faults(storage: Storage, backend: StoreBackend) -> list[str]:
    databases = schema.databases_of(backend.settings, backend.stores)
    found = await check(databases)
    faults = [str(each) for each in found if each.what not in STATES and not each.is_note]
    health = await storage.health()
    faults += [f"{name} does not answer" for name, answers in health.items() if not answers]
    if health.unfinished:
        faults.append(f"{health.unfinished} commits are unfinished")
    if health.broken_parts:
        faults.append(f"{health.broken_parts} parts of ClickHouse tables are broken")
    if await migrate.planned(databases, migrate.Goal()):
        faults.append("migrations are pending")
    return faults + await _unusable(storage)


async def _unusable(storage: Storage) -> list[str]:
    """Commit something over all stores, and read it."""
    price = Decimal(1)
    candle = Candle(_AT, price, price, price, price, 1)
    async with storage.unit_of_work(source="backup drill") as uow:
        await uow.candles.save_many(_KEY, [candle])
        await uow.ingestion.checkpoints.save(_KEY.symbol, {"drill": True})
        await uow.commit()
    read = await storage.candles.get_range(_KEY, _AT, _AT)
    return [] if list(read) == [candle] else ["what was committed after it is not read"]
