"""What checking live schemas adds to the opening of a storage whose three stores agree.

The floor opens the same stores without the check. The second line is the check alone, on managers
that are open, against the shortest question to each of the three stores.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from harness import compare, report
from pydantic import SecretStr

from jts_storage import Storage, migrate
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.settings import StorageSettings

LIMIT = 0.3
"""How many seconds the check may add for schemas that agree."""


async def open_and_close(settings: StorageSettings, check: str) -> None:
    async with Storage.open(settings.model_copy(update={"check": check})):
        pass


def opening(settings: StorageSettings) -> None:
    compare(
        "storage opened with its schemas checked",
        lambda: asyncio.run(open_and_close(settings, "error")),
        lambda: asyncio.run(open_and_close(settings, "off")),
    )


async def check_alone(settings: StorageSettings, rounds: int = 15) -> None:
    async with Storage.open(settings) as storage:
        databases = migrate.Databases(storage.clickhouse, storage.mongo, storage.database)
        loop = asyncio.get_running_loop()

        async def ask() -> None:
            await asyncio.gather(
                storage.clickhouse.run(storage.clickhouse.execute, "SELECT 1"),
                storage.mongo.health_check(),
                storage.database.health_check(),
            )

        async def look() -> None:
            assert await migrate.check(databases) == []

        seconds: dict[str, list[float]] = {"floor": [], "ours": []}
        for _ in range(rounds):
            for name, work in (("floor", ask), ("ours", look)):
                started = loop.time()
                await work()
                seconds[name].append(loop.time() - started)
        ours, floor = sorted(seconds["ours"]), sorted(seconds["floor"])
        report(
            "schemas of three stores checked",
            seconds=ours[rounds // 2],
            slowest=ours[-1],
            floor_seconds=floor[rounds // 2],
            ratio=ours[rounds // 2] / floor[rounds // 2],
            limit=LIMIT,
        )


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalMongod.acquire(Path(folder) / "mongod") as server,
    ):
        settings = StorageSettings(
            data_dir=Path(folder), mongo_url=SecretStr(server.uri), migrate=True
        )
        opening(settings)
        asyncio.run(check_alone(settings))


if __name__ == "__main__":
    main()
