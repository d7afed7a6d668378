"""A part of a backup beside what is stored: a collection, or candles of a series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from jts_storage.backup.errors import NotEmpty
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.scratch import Scratch, scratch
from jts_storage.backup.stores import clickhouse_tables, mongo
from jts_storage.backup.stores.mongo import MongoRestore
from jts_storage.clickhouse.as_of import CandlesAsOf
from jts_storage.clickhouse.candle_reader import ClickHouseCandleReader
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.moments import version_at
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData, NotFound
from jts_storage.storage import Storage
from jts_storage.unit_of_work.participants import Stores

_OF_CANDLES = ("candles", "candles_history")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Candles of one series.

    :param start: of the range, and `end`; all of it if not given.
    :param into: the series that they are written to; the same if not given.
    :param at: as they were at that moment, where the backup's history reaches back to it.
    """

    key: SeriesKey
    start: datetime = checks.FIRST_TIMESTAMP
    end: datetime = checks.LAST_TIMESTAMP
    into: SeriesKey | None = None
    at: datetime | None = None

    def __post_init__(self) -> None:
        checks.range_ms(self.start, self.end)
        if self.at is not None:
            version_at(self.at, "at")
        if self.into is not None and self.into.timeframe is not self.key.timeframe:
            raise InvalidData("must be of the same timeframe", field="into", value=str(self.into))


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentCollection:
    """The documents of one collection.

    :param into: the collection that they are written to; the same if not given.
    """

    name: str
    into: str | None = None


class PartRestore:
    """Restores parts of backups into a storage that is in use."""

    def __init__(self, storage: Storage, stores: Stores, repository: BackupRepository) -> None:
        self._storage, self._stores, self._repository = storage, stores, repository

    async def collection(
        self, manifest: Manifest, wanted: DocumentCollection, *, replace: bool
    ) -> int:
        """Restore a collection with its indexes; how many documents it has.

        :raises NotFound: the backup has none of that name.
        :raises NotEmpty: there are documents already, and not `replace`.
        """
        contents = manifest.contents(mongo.NAME, wanted.name)
        if contents is None:
            raise NotFound(f"Backup {manifest.id} has no collection {wanted.name!r}.")
        target = wanted.into or wanted.name
        restore = MongoRestore(self._stores.mongo, self._repository)
        if not replace and not await restore.is_empty([target]):
            raise NotEmpty(
                f"Collection {target} has documents already.",
                remedy="Restore it into another name, or with --replace.",
            )
        for piece in contents.pieces:
            self._repository.check(piece.object, piece.stored)
        await restore.fill_one(contents, target)
        return contents.rows

    async def series(self, manifest: Manifest, wanted: Series, *, replace: bool) -> int:
        """Write candles of a series in one commit; how many there are.

        :raises NotEmpty: there are candles in the range already, and not `replace`.
        :raises NotFound: the backup was made before the moment that is asked for.
        """
        if wanted.at is not None and wanted.at > manifest.cut_at:
            raise NotFound(
                f"Backup {manifest.id} was made before {wanted.at.isoformat()}, and knows nothing"
                " of that moment.",
                remedy="Make one now, whose history reaches back to it, or leave the moment out.",
            )
        target = wanted.into or wanted.key
        found = await self._read(manifest, wanted)
        if found.key != target:
            found = CandleSeries.trusted(target, found.columns)
        stored = await self._storage.candles.get_range(target, wanted.start, wanted.end)
        if len(stored) and not replace:
            raise NotEmpty(
                f"{target} has {len(stored)} candles in that range already.",
                remedy="Restore them into another series, or with --replace.",
            )
        source = f"backup {manifest.id}"
        async with self._storage.unit_of_work(source=source) as uow:
            if len(stored):
                await uow.candles.delete_range(target, wanted.start, wanted.end)
            await uow.candles.save_many(target, found)
            await uow.commit()
        return len(found)

    async def _read(self, manifest: Manifest, wanted: Series) -> CandleSeries:
        """The candles, out of a scratch database; what could not be compared is not given out."""
        contents = [
            each
            for each in manifest.stores[clickhouse_tables.NAME].contents
            if each.name in _OF_CANDLES
        ]
        for each in contents:
            for piece in each.pieces:
                self._repository.check(piece.object, piece.stored)
        async with scratch(self._stores, self._repository) as beside:
            restore, run = beside.clickhouse(), self._stores.clickhouse.run
            await run(restore.make_database)
            await run(lambda: restore.fill(contents, merges=False))
            return await self._from(beside, wanted)

    async def _from(self, beside: Scratch, wanted: Series) -> CandleSeries:
        config = replace(self._stores.clickhouse.config, database=beside.name)
        manager = ClickHouseManager(config)
        try:
            tables = self._stores.candles.tables
            reader = ClickHouseCandleReader(manager, cache_bytes=0, tables=tables)
            if wanted.at is None:
                return await reader.get_range(wanted.key, wanted.start, wanted.end)
            as_of = CandlesAsOf(manager, tables, version_at(wanted.at, "at"), reader)
            return await as_of.get_range(wanted.key, wanted.start, wanted.end)
        finally:
            manager.close()
