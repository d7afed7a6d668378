"""The tables of declared models, made where they are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jts_storage.migrate.files import stores_of

if TYPE_CHECKING:
    from jts_storage.migrate.runner import Databases


async def create_missing(databases: Databases) -> None:
    """Create the tables and collections of declared models that are not there yet.

    What is there stays as it is, whatever the models say: `check` tells the difference. A store
    for which the service has migrations of its own is left to them.
    """
    models = databases.models
    if models is None:
        return
    migrated = stores_of(databases.service)
    clickhouse = None if "clickhouse" in migrated else databases.clickhouse
    database = None if "relational" in migrated else databases.database
    mongo = None if "mongo" in migrated else databases.mongo
    if clickhouse is not None and models.tables:
        from jts_storage.clickhouse.declared import create_statements

        for model in models.tables:
            for statement in create_statements(model, clickhouse.config.cluster):
                await clickhouse.run(clickhouse.execute, statement, idempotent=True)
    if database is not None and models.records:
        async with database.engine.begin() as connection:
            for record in models.records:
                await connection.run_sync(record.table.create, checkfirst=True)
    if mongo is not None and models.documents:
        from jts_storage.mongo import schema
        from jts_storage.mongo.model import with_declared

        documents = with_declared(models)
        await mongo.retries.repeat(
            "making collections", lambda: schema.create_missing(mongo.db, documents)
        )
