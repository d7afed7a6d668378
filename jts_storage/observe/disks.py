"""How much room the disks of the stores have.

PostgreSQL tells nobody that by SQL; whoever runs it looks at its disk by other means.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from jts_storage.errors import StorageError
from jts_storage.observe import catalogue
from jts_storage.observe.catalogue import Sample
from jts_storage.observe.watched import Watched

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.mongo.manager import MongoDBManager

T = TypeVar("T")

_SAME: Final = 0.001
"""Two disks whose sizes differ by less than that share are one."""

log = logging.getLogger(__name__)


def of_files(storage: Watched) -> Iterator[Sample]:
    """Of the stores whose files are this machine's; one disk is told once."""
    seen: set[int] = set()
    for store, folder in (("clickhouse", _embedded(storage)), ("database", _sqlite(storage))):
        if folder is None or not folder.exists():
            continue
        disk = folder.stat().st_dev
        if disk in seen:
            continue
        seen.add(disk)
        yield Sample(catalogue.DISK_FREE, shutil.disk_usage(folder).free, (store,))


class ServerDisks:
    """Of the stores that are servers, each as it was when it last answered."""

    def __init__(self, storage: Watched) -> None:
        self._storage = storage
        self._free: dict[str, int] = {}

    @property
    def samples(self) -> list[Sample]:
        return [Sample(catalogue.DISK_FREE, free, (store,)) for store, free in self._free.items()]

    async def look(self) -> None:
        """Ask each; of one that cannot tell, or whose user may not know, nothing is told."""
        for store, look in (("ClickHouse", self._of_clickhouse), ("MongoDB", self._of_mongo)):
            try:
                await look()
            except (StorageError, OSError, KeyError) as exc:
                log.debug("%s does not tell of its disk: %s", store, exc)

    async def _of_clickhouse(self) -> None:
        clickhouse = reached(lambda: self._storage.clickhouse)
        if clickhouse is None or clickhouse.is_embedded:
            return
        free = await clickhouse.run(_free_of_clickhouse, clickhouse)
        if free is not None:
            self._free["clickhouse"] = free

    async def _of_mongo(self) -> None:
        mongo = reached(lambda: self._storage.mongo)
        if mongo is None:
            return
        found = await _sizes_of_mongo(mongo)
        if found is None:
            return
        size, used = found
        folder = _embedded(self._storage)
        if folder is not None and abs(shutil.disk_usage(folder).total - size) < _SAME * size:
            return  # that of the other embedded stores, which is told already
        self._free["mongo"] = size - used


def _free_of_clickhouse(manager: ClickHouseManager) -> int | None:
    from jts_storage.clickhouse.usage import free_bytes

    return free_bytes(manager)


async def _sizes_of_mongo(manager: MongoDBManager) -> tuple[int, int] | None:
    """The size of its disk, and how much of it is in use; None of servers that do not tell."""
    found = await manager.retries.once(
        "looking at the disk", lambda: manager.db.command("dbStats", freeStorage=0)
    )
    if not found.get("fsTotalSize"):
        return None
    return int(found["fsTotalSize"]), int(found["fsUsedSize"])


def _embedded(storage: Watched) -> Path | None:
    clickhouse = reached(lambda: storage.clickhouse)
    is_embedded = clickhouse is not None and clickhouse.is_embedded
    return Path(clickhouse.config.hosts[0]) if clickhouse is not None and is_embedded else None


def _sqlite(storage: Watched) -> Path | None:
    database = reached(lambda: storage.database)
    path = None if database is None else database.config.path
    return None if path is None else path.absolute().parent


def reached(get: Callable[[], T]) -> T | None:
    """What `get` gives; None where a storage is in memory or behind a gateway."""
    try:
        return get()
    except StorageError:
        return None
