"""A runner of both chains in a process of its own. Its only argument is JSON: what is where."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from jts_storage import migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.mongo import MongoDBManager
from jts_storage.relational.manager import DatabaseManager


async def main(places: dict[str, Any]) -> list[str]:
    clickhouse = mongo = database = None
    async with AsyncExitStack() as stack:
        if "clickhouse" in places:
            clickhouse = stack.enter_context(ClickHouseManager(**places["clickhouse"]))
        if "mongo" in places:
            mongo = await stack.enter_async_context(MongoDBManager(**places["mongo"]))
        if "database" in places:
            database = await stack.enter_async_context(DatabaseManager(places["database"]))
        service = Path(places["service"])
        given = migrate.Databases(clickhouse, mongo, database, service=service)
        return [str(step) for step in await migrate.up(given, patience=30)]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
