"""asyncpg beside psycopg 3 at the work of the bookkeeping, on one PostgreSQL.

`python tests/benchmarks/compare_postgres_drivers.py`, where `psycopg[binary]` is installed too.
Each driver prepares its statements and uses its quickest form; they take turns.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import asyncpg
import numpy as np
from harness import report

from jts_storage.local_servers.postgres import LocalPostgres

SINGLE_ROUNDS = 1_000
BLOCK_ROUNDS = 9
ROWS = 100_000
_TABLES = (
    "CREATE TABLE states (name text PRIMARY KEY, data text, version int)",
    "INSERT INTO states VALUES ('a', '{\"page\": 1}', 1)",
    "CREATE TABLE bars (t bigint PRIMARY KEY, o bigint, h bigint, l bigint, c bigint, v bigint)",
)
_LOAD = "SELECT name, data, version FROM states WHERE name = {}"
_SAVE = "UPDATE states SET version = version + 1 WHERE name = {} RETURNING version"
_COPY_IN = "COPY bars FROM STDIN (FORMAT binary)"
_COPY_OUT = "SELECT t, o, h, l, c, v FROM bars"


def block() -> bytes:
    fields = [("n", ">i2")]
    for n in range(6):
        fields += [(f"size{n}", ">i4"), (f"value{n}", ">i8")]
    rows = np.zeros(ROWS, fields)
    rows["n"], rows["value0"] = 6, np.arange(ROWS)
    for n in range(6):
        rows[f"size{n}"] = 8
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"


BLOCK = block()


class WithAsyncpg:
    def __init__(self, connection: asyncpg.Connection[Any], load: Any, save: Any) -> None:
        self.connection, self._load, self._save = connection, load, save

    @classmethod
    async def open(cls, dsn: str) -> WithAsyncpg:
        connection = await asyncpg.connect(dsn)
        prepare = connection.prepare
        return cls(connection, await prepare(_LOAD.format("$1")), await prepare(_SAVE.format("$1")))

    async def load(self) -> object:
        return await self._load.fetchrow("a")

    async def save(self) -> object:
        return await self._save.fetchrow("a")

    async def write(self) -> None:
        await self.connection.copy_to_table("bars", source=io.BytesIO(BLOCK), format="binary")

    async def read(self) -> None:
        parts: list[bytes] = []

        async def keep(data: bytes) -> None:
            parts.append(data)

        await self.connection.copy_from_query(_COPY_OUT, output=keep, format="binary")

    async def clear(self) -> None:
        await self.connection.execute("TRUNCATE bars")


class WithPsycopg:
    def __init__(self, connection: Any) -> None:
        self.connection, self.cursor = connection, connection.cursor(binary=True)

    @classmethod
    async def open(cls, dsn: str) -> WithPsycopg:
        psycopg: Any = importlib.import_module("psycopg")
        return cls(await psycopg.AsyncConnection.connect(dsn, autocommit=True))

    async def _row(self, statement: str) -> object:
        await self.cursor.execute(statement.format("%s"), ("a",), prepare=True)
        return await self.cursor.fetchone()

    async def load(self) -> object:
        return await self._row(_LOAD)

    async def save(self) -> object:
        return await self._row(_SAVE)

    async def write(self) -> None:
        async with self.cursor.copy(_COPY_IN) as copy:
            await copy.write(BLOCK)

    async def read(self) -> None:
        parts = []
        async with self.cursor.copy(f"COPY ({_COPY_OUT}) TO STDOUT (FORMAT binary)") as copy:
            while part := await copy.read():
                parts.append(part)

    async def clear(self) -> None:
        await self.connection.execute("TRUNCATE bars")


async def compare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in _TABLES:
        await connection.execute(statement)
    await connection.close()
    drivers: dict[str, WithAsyncpg | WithPsycopg] = {
        "asyncpg": await WithAsyncpg.open(dsn),
        "psycopg": await WithPsycopg.open(dsn),
    }

    async def alternate(name: str, works: dict[str, Callable[[], Awaitable[object]]]) -> None:
        rounds = BLOCK_ROUNDS if name.startswith("block") else SINGLE_ROUNDS
        seconds: dict[str, list[float]] = {driver: [] for driver in works}
        for number in range(rounds + 2):
            for driver, work in sorted(works.items(), reverse=bool(number % 2)):
                if name == "block written":
                    await drivers[driver].clear()
                begun = time.perf_counter()
                await work()
                seconds[driver].append(time.perf_counter() - begun)
        report(name, **{driver: median(taken[2:]) for driver, taken in seconds.items()})

    await alternate("row loaded", {name: one.load for name, one in drivers.items()})
    await alternate("row saved", {name: one.save for name, one in drivers.items()})
    await alternate("block written", {name: one.write for name, one in drivers.items()})
    await alternate("block read", {name: one.read for name, one in drivers.items()})
    for one in drivers.values():
        await one.connection.close()


def main() -> None:
    with LocalPostgres.start(fsync=True) as server:
        asyncio.run(compare(server.dsn))


if __name__ == "__main__":
    main()
