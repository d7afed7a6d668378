"""One process of clients of a broker of 15 a second, behind one of several limiters.

It is given its task as JSON, and prints when each request arrived, in nanoseconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

Slots: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]

LIMIT = 15


async def ours(where: str) -> Slots:
    from jts_storage import PerSecond, RateLimits, StorageSettings
    from jts_storage.limiting import limiter_of

    settings = StorageSettings(
        rate_limits=RateLimits(broker=[PerSecond(LIMIT)]), rate_limits_url=where, env_file=None
    )
    limiter = limiter_of(settings, None)
    return lambda: limiter.acquire("broker", timeout=None)


async def limits_moving_window(where: str) -> Slots:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    storage = RedisStorage(f"async+{where}", implementation="redispy")
    limiter = MovingWindowRateLimiter(storage)
    item = RateLimitItemPerSecond(LIMIT)

    @asynccontextmanager
    async def slot() -> AsyncIterator[None]:
        while not await limiter.hit(item, "broker"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        yield

    return slot


async def pyrate_limiter(where: str) -> Slots:
    from pyrate_limiter import Limiter, Rate, RedisBucket
    from redis.asyncio import Redis

    rates = [Rate(LIMIT, 1_000)]
    made: Any = RedisBucket.init(rates, Redis.from_url(where), "broker")
    limiter = Limiter(await made)

    @asynccontextmanager
    async def slot() -> AsyncIterator[None]:
        while not await limiter.try_acquire_async("broker"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        yield

    return slot


async def aiolimiter(_: str) -> Slots:
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(LIMIT, 1.0)
    return lambda: limiter


LIMITERS = {
    "jts_storage": ours,
    "limits": limits_moving_window,
    "pyrate-limiter": pyrate_limiter,
    "aiolimiter": aiolimiter,
}


async def arrivals(task: dict[str, Any]) -> list[int]:
    slot = await LIMITERS[task["limiter"]](task["where"])
    end = time.monotonic() + task["seconds"]
    chance = random.Random(task["seed"])
    found: list[int] = []

    async def client() -> None:
        while time.monotonic() < end:
            async with slot():
                await asyncio.sleep(chance.uniform(0, task["delay"]))
                found.append(time.monotonic_ns())
                await asyncio.sleep(chance.uniform(0, task["delay"]))

    tasks = [asyncio.create_task(client()) for _ in range(task["clients"])]
    await asyncio.wait(tasks, timeout=task["seconds"])
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(arrivals(json.loads(sys.argv[1])))))
