"""One process of clients of a broker: it is given its task as JSON, and writes when each request
arrived, in nanoseconds of the machine's clock, to a file that others write to, too."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from jts_storage.domain.rate_limits import RateLimits
from jts_storage.errors import ConnectionFailed, QuotaExhausted, RateLimited
from jts_storage.memory.rate_limits import InMemoryRateLimits
from jts_storage.ports.rate_limits import RateLimitStore
from jts_storage.settings.rate_limits import read_limits
from jts_storage.usecases.rate_limits import SharedRateLimiter


def store_of(url: str) -> RateLimitStore:
    if url.startswith("redis"):
        from jts_storage.redis.rate_limits import RedisRateLimits, manager_for
        from jts_storage.settings.redis import RedisConfig

        return RedisRateLimits(manager_for(RedisConfig(url)))
    if url == "memory":
        return InMemoryRateLimits()
    from jts_storage.relational.rate_limits import SqliteRateLimits

    return SqliteRateLimits(Path(url))


async def clients(task: dict[str, Any]) -> None:
    limits: RateLimits = read_limits(task["limits"])
    limiter = SharedRateLimiter(limits, store_of(task["store"]))
    arrivals = os.open(task["arrivals"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    end = time.monotonic() + task["seconds"]
    chance = random.Random(task["seed"])

    async def client() -> None:
        while (left := end - time.monotonic()) > 0:
            try:
                async with limiter.acquire("broker", timeout=left, longest=task["longest"]):
                    await asyncio.sleep(chance.uniform(0, task["delay"]))
                    os.write(arrivals, f"{time.monotonic_ns()}\n".encode())
                    await asyncio.sleep(chance.uniform(0, task["delay"]))
            except (RateLimited, QuotaExhausted, ConnectionFailed):
                await asyncio.sleep(0.05)

    await asyncio.gather(*(client() for _ in range(task["clients"])))
    await limiter.close()


if __name__ == "__main__":
    asyncio.run(clients(json.loads(sys.argv[1])))
