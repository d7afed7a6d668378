"""The migrations that a backup was made at, and how stores get there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jts_storage import migrate
from jts_storage.backup.manifest import Manifest
from jts_storage.errors import SchemaDrift
from jts_storage.migrate import Databases, Goal
from jts_storage.settings import StorageSettings
from jts_storage.unit_of_work.participants import Stores


def databases_of(settings: StorageSettings, stores: Stores) -> Databases:
    return Databases(
        stores.clickhouse,
        stores.mongo,
        stores.database,
        models=stores.models,
        service=settings.migrations,
    )


async def revisions_of(databases: Databases) -> dict[str, dict[str, str]]:
    """By store and chain the latest migration that is applied."""
    found: dict[str, dict[str, str]] = {}
    for each in migrate.opened(databases):
        current = (await each.history()).current
        if current is not None:
            found.setdefault(each.store, {})[each.chain.name] = current
    return found


async def led_back(databases: Databases, manifest: Manifest) -> None:
    """Bring ClickHouse and PostgreSQL, which are empty, to where a backup was made.

    MongoDB's log of migrations, and SQLite's, is in the backup itself.

    :raises SchemaDrift: the backup is of a later schema.
    """
    live = await revisions_of(databases)
    for store, copy in manifest.stores.items():
        for chain, revision in copy.revisions.items():
            here = live.get(store, {}).get(chain)
            if here is not None and revision > here:
                raise SchemaDrift(
                    f"Backup {manifest.id} is of migration {revision} of {store}; this one is at"
                    f" {here}.",
                    remedy="Use the release that made it, or a later one.",
                )
            if here is None or revision == here or store == "mongo":
                continue
            if store == "database" and _is_sqlite(databases):
                continue
            only = _only(databases, store)
            await migrate.go(only, Goal("down", revision, chain=_chain(chain)))


def _is_sqlite(databases: Databases) -> bool:
    return databases.database is not None and databases.database.config.is_sqlite


def _only(databases: Databases, store: str) -> Databases:
    return replace(
        databases,
        clickhouse=databases.clickhouse if store == "clickhouse" else None,
        mongo=databases.mongo if store == "mongo" else None,
        database=databases.database if store == "database" else None,
    )


def _chain(name: str) -> migrate.ChainName:
    return "service" if name == "service" else "kit"


def with_revisions(revisions: Mapping[str, Mapping[str, str]], manifest: Manifest) -> Manifest:
    """The manifest with the migrations of each store."""
    stores = {
        name: replace(copy, revisions=dict(revisions.get(name, {})))
        for name, copy in manifest.stores.items()
    }
    return replace(manifest, stores=stores)
