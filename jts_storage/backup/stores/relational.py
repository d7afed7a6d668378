"""The bookkeeping: a SQLite file, or the tables of PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from jts_storage.backup.copying import StoreBackup
from jts_storage.backup.manifest import StoreCopy
from jts_storage.backup.stores.postgres import PostgresBackup, PostgresRestore
from jts_storage.backup.stores.sqlite import KIND, SqliteBackup
from jts_storage.relational.manager import DatabaseManager

__all__ = ["PostgresRestore", "backup_of", "is_sqlite"]


def backup_of(manager: DatabaseManager, scratch: Path) -> StoreBackup:
    """How the database of a manager is backed up.

    :param scratch: a folder for what has to be written down meanwhile.
    """
    if manager.config.is_sqlite:
        return SqliteBackup(manager.config, scratch)
    return PostgresBackup(manager)


def is_sqlite(copy: StoreCopy) -> bool:
    return any(contents.kind == KIND for contents in copy.contents)
