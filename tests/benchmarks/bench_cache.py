"""Warm reads and misses with the cache in Redis, beside none, cashews and aiocache.

All in one process, alternating, medians in milliseconds. Peers that are not installed are named;
`pip install cashews aiocache` adds them.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

from harness import report
from pydantic import SecretStr

from jts_storage import CandleSeries, Storage, StorageSettings, Timeframe
from jts_storage.cache.backend import Cache
from jts_storage.cache.values import SeriesCodec
from jts_storage.local_servers.redis import LocalRedis
from jts_storage.testing.factories import make_candles

RUNS = 200
Read = Callable[[], Awaitable[Any]]
DAY = make_candles(390)
FIRST, LAST = DAY[0].timestamp, DAY[-1].timestamp


async def _milliseconds(read: Read) -> float:
    begun = perf_counter()
    await read()
    return (perf_counter() - begun) * 1_000


async def _nothing() -> None:
    return None


async def _alternating(
    reads: dict[str, Read], runs: int = RUNS, after: Read = _nothing
) -> dict[str, list[float]]:
    """
    :param after: is done after each, and takes no time of it.
    """
    for read in reads.values():
        await read()
        await after()
    gc.collect()
    gc.disable()
    try:
        taken: dict[str, list[float]] = {name: [] for name in reads}
        for _ in range(runs):
            for name, read in reads.items():
                taken[name].append(await _milliseconds(read))
                await after()
    finally:
        gc.enable()
    return taken


async def _of_peers(url: str, stack: AsyncExitStack) -> dict[str, Read]:
    """The same day, kept as each keeps values by itself."""
    reads: dict[str, Read] = {}
    host, port = url.removeprefix("redis://").partition("/")[0].split(":")
    if find_spec("cashews") is None:
        sys.stderr.write("NOT COMPARED: cashews is not installed\n")
    else:
        from cashews import Cache as Cashews

        cashews = Cashews()
        cashews.setup(url)
        stack.push_async_callback(cashews.close)
        await cashews.set("day", DAY, expire="1h")
        reads["cashews"] = lambda: cashews.get("day")
    if find_spec("aiocache") is None:
        sys.stderr.write("NOT COMPARED: aiocache is not installed\n")
    else:
        from aiocache import RedisCache
        from aiocache.serializers import PickleSerializer

        aiocache = RedisCache(endpoint=host, port=int(port), serializer=PickleSerializer())
        stack.push_async_callback(aiocache.close)
        await aiocache.set("day", DAY)
        reads["aiocache"] = lambda: aiocache.get("day")
    return reads


def _cache(storage: Storage) -> Cache:
    cache: Cache = storage._backend.cache  # type: ignore[attr-defined]
    return cache


def _bare(storage: Storage) -> Any:
    """The candles of a storage that has no cache."""
    backend: Any = storage._backend
    kept, backend.cache = backend.cache, None
    candles = storage.candles
    backend.cache = kept
    return candles


def _of(candles: Any) -> dict[str, Read]:
    key, frame = DAY.key, DAY.key.timeframe
    return {
        "day": lambda: candles.get_range(key, FIRST, LAST),
        "latest": lambda: candles.get_latest(key),
        "hours": lambda: candles.resample(key, Timeframe.H1, FIRST, LAST),
        "panel": lambda: candles.get_panel(frame, FIRST, LAST),
        "coverage": lambda: candles.get_coverage(key),
    }


def _tell(name: str, taken: dict[str, list[float]]) -> None:
    report(f"cache: {name}, milliseconds", **{n: median(each) for n, each in taken.items()})
    report("cache: the quickest of them", **{n: min(each) for n, each in taken.items()})


async def measure(url: str, folder: str) -> None:
    # A machine that is busy with something else takes more than 50 ms now and then.
    own: dict[str, Any] = {"redis_url": SecretStr(url), "redis": {"timeout": 2.0}}
    settings = StorageSettings(data_dir=folder, env_file=None, **own)
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(Storage.open(settings))
        await storage.run(lambda uow: uow.candles.save_many(DAY.key, DAY))
        cache, candles = _cache(storage), storage.candles
        client = cache.redis.get_cache_client()  # type: ignore[union-attr]
        await client.set("a value", pickle.dumps(DAY))

        async def shared() -> None:
            cache.answers.held.clear()
            await candles.get_range(DAY.key, FIRST, LAST)

        reads = {"get": lambda: client.get("a value"), "day_from_redis": shared}
        _tell("warm reads", await _alternating(reads | _of(candles) | await _of_peers(url, stack)))
        _tell("held by the one process that has them", await _alternating(_of(_bare(storage))))
        asking = StorageSettings(data_dir=folder, env_file=None, cache_bytes=0)
        stores = await stack.enter_async_context(Storage.open(asking))
        _tell("asked of the stores", await _alternating(_of(stores.candles), runs=RUNS // 4))
        # Of a question whose answer is there at once: all else is the cache's.
        numbers = count()

        async def day() -> CandleSeries:
            return DAY

        async def missed() -> CandleSeries:
            name = f"never asked before {next(numbers)}"
            return await cache.answers.get(("a", "b"), name, day, SeriesCodec(DAY.key))

        async def settle() -> None:
            await cache.answers.settle(5)

        misses: dict[str, Read] = {"bare": day, "miss": missed}
        _tell("what a miss costs over no cache", await _alternating(misses, after=settle))
        _tell("misses, one right after the other", await _alternating(misses))


def main() -> None:
    server = LocalRedis.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(server.url, folder))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
