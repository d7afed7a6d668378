"""A runner of migrations in a process of its own, which may kill itself at a given statement.

Its only argument is JSON: where the databases are, ``kill_at`` (the beginning of a statement for
ClickHouse, and which occurrence of it), and ``chunk_rows``. It prints the steps it took.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from jts_storage import migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.migrate import clickhouse, runner
from jts_storage.migrate.plan import Goal
from jts_storage.mongo import MongoDBManager
from jts_storage.relational.manager import DatabaseManager


def die_at(beginning: str, occurrence: int, *, sent: bool) -> None:
    """Replace how statements are sent by what kills this process, before or after sending one."""
    make_sender = clickhouse._sender
    seen = 0

    def sender(connection: Any) -> Any:
        send = make_sender(connection)

        def send_or_die(sql: str, **options: Any) -> Any:
            nonlocal seen
            fatal = sql.startswith(beginning)
            seen += fatal
            fatal = fatal and seen == occurrence
            if fatal and not sent:
                os.kill(os.getpid(), signal.SIGKILL)
            rows = send(sql, **options)
            if fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return rows

        return send_or_die

    clickhouse._sender = sender


async def main(wanted: dict[str, Any]) -> list[str]:
    if kill := wanted.get("kill_at"):
        die_at(kill[0], kill[1], sent=kill[2])
    steps: list[migrate.Step] = []
    goal = Goal()
    if "clickhouse" in wanted:
        with ClickHouseManager(**wanted["clickhouse"]) as manager:
            chunk_rows = wanted.get("chunk_rows", 1_000_000)
            migrations = clickhouse.ClickHouseMigrations(manager, chunk_rows=chunk_rows)
            steps += await migrations.go(goal, patience=30)
    if "mongo" in wanted:
        async with MongoDBManager(**wanted["mongo"]) as mongo:
            steps += await runner.up(migrate.Databases(mongo=mongo), patience=30)
    if "database" in wanted:
        async with DatabaseManager(wanted["database"]) as database:
            steps += await runner.up(migrate.Databases(database=database), patience=30)
    return [str(step) for step in steps]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
