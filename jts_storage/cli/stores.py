"""The stores that a command works on, opened as the settings say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jts_storage.cli.output import waiting
from jts_storage.cli.served import check_here
from jts_storage.local_servers.extras import check_installed
from jts_storage.migrate import Databases
from jts_storage.settings import StorageSettings
from jts_storage.sharing.folder import make_private

if TYPE_CHECKING:
    from jts_storage.local_servers.mongod import LocalMongod

_RETRIES = 2  # few, because a person waits for the command


def _check_installed(settings: StorageSettings, wanted: set[str]) -> None:
    check_installed(
        engine="clickhouse" in wanted and settings.clickhouse().is_embedded,
        mongod="mongo" in wanted and settings.mongo_url is None and settings.mongod is None,
        postgres="relational" in wanted and not settings.database().is_sqlite,
    )


@asynccontextmanager
async def databases(
    only: Sequence[str], *, partition_by_year: bool = False, folder: Path | None = None
) -> AsyncIterator[Databases]:
    """Managers of all stores, or of some; a local mongod runs as long as the block.

    :param folder: of the service's own migrations, if not where the settings say.
    """
    from jts_storage.models.registry import Models, installed_documents

    settings = StorageSettings.load()
    wanted = set(only) or {"clickhouse", "mongo", "relational"}
    check_here(settings, engine="clickhouse" in wanted)
    _check_installed(settings, wanted)
    make_private(settings.data_dir.absolute())
    async with AsyncExitStack() as stack:
        with waiting("Opening the stores"):
            clickhouse = mongo = database = None
            if "clickhouse" in wanted:
                from jts_storage.clickhouse.manager import ClickHouseManager

                clickhouse = ClickHouseManager(settings.clickhouse())
                stack.callback(clickhouse.close)
            if "mongo" in wanted:
                from jts_storage.mongo.manager import manager_of

                server = None if settings.mongo_url else await _embedded(settings, stack)
                mongo = await stack.enter_async_context(manager_of(settings, server))
                mongo.register(*installed_documents())
            if "relational" in wanted:
                from jts_storage.relational.manager import DatabaseManager

                config = replace(settings.database(), max_retries=_RETRIES)
                database = await stack.enter_async_context(DatabaseManager(config))
        yield Databases(
            clickhouse,
            mongo,
            database,
            partition_by_year,
            models=Models.known(),
            service=folder or settings.migrations,
        )


async def _embedded(settings: StorageSettings, stack: AsyncExitStack) -> LocalMongod:
    """A mongod that runs until the stack is closed."""
    from jts_storage.backend import released
    from jts_storage.local_servers.mongod import LocalMongod

    files = settings.data_dir.absolute() / "mongo"
    server = await asyncio.to_thread(LocalMongod.acquire, files, settings.mongod)
    stack.push_async_callback(asyncio.to_thread, released, server)
    return server
