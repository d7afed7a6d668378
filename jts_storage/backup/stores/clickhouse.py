"""ClickHouse: parts of the embedded engine, rows of a server."""

from __future__ import annotations

from collections.abc import Sequence

from jts_storage.backup.copying import StoreBackup
from jts_storage.backup.manifest import Contents
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.stores.clickhouse_parts import KIND, PartsBackup, PartsRestore
from jts_storage.backup.stores.clickhouse_rows import RowsBackup, RowsRestore
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import StorageError


def backup_of(manager: ClickHouseManager, scratch: str) -> StoreBackup:
    """How the database of a manager is backed up.

    :param scratch: a database that does not exist, for what is only needed meanwhile.
    """
    kind = PartsBackup if manager.is_embedded else RowsBackup
    return kind(manager, scratch)


class ClickHouseRestore:
    """Fills a database from a backup, whatever it was taken from."""

    def __init__(
        self,
        manager: ClickHouseManager,
        repository: BackupRepository | None,
        database: str | None = None,
    ) -> None:
        self._manager = manager
        self._parts = PartsRestore(manager, repository, database)
        self._rows = RowsRestore(manager, repository, database)

    def make_database(self) -> None:
        self._parts.make_database()

    def drop_database(self) -> None:
        self._parts.drop_database()

    def counts(self) -> dict[str, int]:
        return self._parts.counts()

    def fill(self, contents: Sequence[Contents], *, merges: bool = True) -> None:
        of_parts = [each for each in contents if each.kind == KIND]
        if of_parts and not self._manager.is_embedded:
            raise StorageError(
                "The backup holds parts of an embedded ClickHouse, which a server does not take.",
                remedy="Restore it into an embedded storage, and export from there.",
            )
        self._parts.fill(of_parts, merges=merges)
        self._rows.fill([each for each in contents if each.kind != KIND], merges=merges)

    def differing(self, contents: Sequence[Contents]) -> list[str]:
        return self._parts.differing(contents)
