"""PT-INFRA-03.1 with processes: writers are killed at any moment, or stopped for longer than their
lease, and readers see what was acknowledged."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from jts_storage.cache import values
from jts_storage.cache.backend import Cache
from tests.integration.redis.cached import cache_on

_NUMBERS = struct.Struct("<qq")
_WRITER = """
import sys
from tests.integration.redis.test_deaths import Shared, live_and_die
live_and_die(sys.argv[1], Shared(sys.argv[2]))
"""
SERIES = "candles AAPL/1m"


class Shared:
    """A database of one number, and the highest one that was acknowledged, in shared memory."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _NUMBERS.size)

    @property
    def stored(self) -> int:
        return int(_NUMBERS.unpack(self._memory[:])[0])

    @stored.setter
    def stored(self, number: int) -> None:
        self._memory[:8] = struct.pack("<q", number)

    @property
    def acknowledged(self) -> int:
        return int(_NUMBERS.unpack(self._memory[:])[1])

    @acknowledged.setter
    def acknowledged(self, number: int) -> None:
        self._memory[8:] = struct.pack("<q", number)


def live_and_die(url: str, shared: Shared) -> None:
    """Write in one child after the other; each is killed, and then recovered."""
    while True:
        if (child := os.fork()) == 0:
            asyncio.run(write_until_killed(url, shared))
        os.waitpid(child, 0)
        asyncio.run(_recovered(url, shared))


def _pause() -> None:
    """Stop this process for some leases."""
    process = os.getpid()
    if os.fork() == 0:
        try:
            for _ in range(40):  # the first one may come before the process has stopped
                time.sleep(0.1)
                os.kill(process, signal.SIGCONT)
        finally:
            os._exit(0)
    os.kill(process, signal.SIGSTOP)


async def write_until_killed(url: str, shared: Shared) -> None:
    """Commit one number after the other; now and then die in the middle."""
    cache = cache_on(url)
    # Shorter than settings allow, so that readers do not wait for the dead most of the time.
    object.__setattr__(cache._writers._config, "lease", 0.05)
    chance = random.Random(os.getpid())
    while True:
        async with cache.writing([SERIES], symbols=False):
            number = shared.stored + 1
            await asyncio.sleep(chance.random() / 500)
            if chance.random() < 0.03:
                os.kill(os.getpid(), signal.SIGKILL)
            if chance.random() < 0.05:
                _pause()
            shared.stored = number
            await asyncio.sleep(chance.random() / 500)
            if chance.random() < 0.05:
                os.kill(os.getpid(), signal.SIGKILL)
            if chance.random() < 0.05:
                _pause()
        shared.acknowledged = number
        await asyncio.sleep(chance.random() / 50)


async def _read(url: str, shared: Shared, until: float) -> tuple[int, int]:
    """How many reads there were, and how many of them the cache gave; none is stale."""
    cache = cache_on(url)
    reads, give_up = 0, until + 60

    async def ask() -> int:
        found = shared.stored
        await asyncio.sleep(random.random() / 500)
        return found

    def has_seen_enough() -> bool:
        return _kept(cache) > 0 and reads > 20 and shared.acknowledged > 3

    # On a busy machine the first moment may pass before anything is written.
    while (now := time.monotonic()) < until or (now < give_up and not has_seen_enough()):
        least = shared.acknowledged
        scopes = (SERIES, "many series")
        found = await cache.answers.get(scopes, "number", ask, values.COUNT)
        assert found >= least, f"{found} was read, and {least} acknowledged before"
        reads += 1
        await asyncio.sleep(0)
    kept = _kept(cache)
    await cache.close()
    return reads, kept


def _kept(cache: Cache) -> int:
    told = cache.statistics()
    return told.hits + told.shared_hits


@pytest.mark.parametrize(
    "seconds", [0.8, pytest.param(30.0, marks=pytest.mark.slow)], ids=["a moment", "long"]
)
async def test_pt_infra_03_1_writers_that_are_killed(
    seconds: float, redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(bytes(_NUMBERS.size))
    shared = Shared(str(path))

    writer = subprocess.Popen(  # noqa: ASYNC220 - which takes a moment
        [sys.executable, "-c", _WRITER, redis_url, str(path)], start_new_session=True
    )
    try:
        async with asyncio.timeout(60):
            while shared.acknowledged == 0:  # noqa: ASYNC110 - another process sets it
                await asyncio.sleep(0.01)
        until = time.monotonic() + seconds
        found = await asyncio.gather(*(_read(redis_url, shared, until) for _ in range(3)))
    finally:
        os.killpg(writer.pid, signal.SIGKILL)
        writer.wait()
    assert sum(reads for reads, _ in found) > 50
    assert sum(kept for _, kept in found) > 0
    assert shared.acknowledged > 3


async def _recovered(url: str, shared: Shared) -> None:
    cache = cache_on(url)
    async with cache.writing([SERIES], symbols=False, is_decided=True):
        shared.stored = shared.stored
    shared.acknowledged = shared.stored
    await cache.close()
