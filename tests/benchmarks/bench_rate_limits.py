"""What a slot costs, and what a broker sees of 64 clients that may ask it 15 times a second.

The broker counts arrivals: the worst second of them, and how much of the limit is used. The others
are `limits`, `pyrate-limiter` and `aiolimiter`, as far as they are installed: pip install limits
pyrate-limiter aiolimiter.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from jts_storage import PerDay, PerSecond, RateLimits, StorageSettings
from jts_storage.limiting import limiter_of
from jts_storage.local_servers.redis import LocalRedis
from jts_storage.memory.rate_limits import InMemoryRateLimits
from jts_storage.usecases.rate_limits import SharedRateLimiter

HERE = Path(__file__).parent
SECOND = 1_000_000_000
SECONDS = 8.0
RUNS = 500
FREE = RateLimits(broker=[PerSecond(1_000_000), PerDay(100_000_000, timezone="Asia/Seoul")])
PEERS = {"limits": "limits", "pyrate-limiter": "pyrate_limiter", "aiolimiter": "aiolimiter"}


def show(name: str, **figures: float) -> None:
    print(json.dumps({"name": name} | {k: round(v, 3) for k, v in figures.items()}), flush=True)


async def measure_cost(name: str, limiter: SharedRateLimiter) -> None:
    """Of entering and of leaving, where slots are free and few count."""
    entering, leaving = [], []
    await limiter.reset()
    for number in range(RUNS):
        slot = limiter.acquire("broker", f"account {number % 50}")
        begun = time.perf_counter()
        await slot.__aenter__()
        entered = time.perf_counter()
        await slot.__aexit__(None, None, None)
        leaving.append(time.perf_counter() - entered)
        entering.append(entered - begun)
    await limiter.close()
    show(
        f"unhindered, {name}",
        enter_ms=median(entering) * 1_000,
        enter_least_ms=min(entering) * 1_000,
        leave_ms=median(leaving) * 1_000,
    )


def worst_second(times: list[int]) -> int:
    worst = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - SECOND:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def measure_arrivals(name: str, limiter: str, where: str, delay: float, processes: int) -> None:
    tasks = [
        {
            "limiter": limiter,
            "where": where,
            "delay": delay,
            "clients": 64 // processes,
            "seconds": SECONDS,
            "seed": number,
        }
        for number in range(processes)
    ]
    running = [
        subprocess.Popen(
            [sys.executable, str(HERE / "rate_limit_clients.py"), json.dumps(task)],
            stdout=subprocess.PIPE,
        )
        for task in tasks
    ]
    times = sorted(each for one in running for each in json.loads(one.communicate()[0]))
    # Slots come in bursts of the limit: whole ones, from the beginning of one to that of another.
    whole = (len(times) - 1) // 15 * 15
    a_second = whole / ((times[whole] - times[0]) / SECOND)
    show(
        f"15 a second, answers in up to {2_000 * delay:.0f} ms, {name}",
        worst_second=worst_second(times),
        used=a_second / 15,
    )


def main() -> None:
    redis = LocalRedis.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _measure(redis, Path(folder))
    finally:
        redis.stop()


def _measure(redis: LocalRedis, folder: Path) -> None:
    def settings(where: str) -> StorageSettings:
        return StorageSettings(rate_limits=FREE, rate_limits_url=where, env_file=None)

    file = f"sqlite:///{folder}"
    asyncio.run(measure_cost("memory", SharedRateLimiter(FREE, InMemoryRateLimits())))
    asyncio.run(measure_cost("SQLite", limiter_of(settings(f"{file}/free.db"), None)))
    asyncio.run(measure_cost("Redis", limiter_of(settings(redis.url), None)))
    missing = [name for name, module in PEERS.items() if importlib.util.find_spec(module) is None]
    for name in missing:
        print(json.dumps({"name": name, "missing": f"pip install {name}"}), flush=True)
    for delay in (0.025, 0.1):
        sqlite = f"{file}/{round(delay * 1_000)}.db"
        cases = [
            ("jts_storage on SQLite, 4 processes", "jts_storage", sqlite, 4),
            ("jts_storage on Redis, 4 processes", "jts_storage", redis.url, 4),
            ("limits, moving window on Redis, 4 processes", "limits", redis.url, 4),
            ("pyrate-limiter on Redis, 4 processes", "pyrate-limiter", redis.url, 4),
            ("aiolimiter, 1 process", "aiolimiter", "", 1),
        ]
        for name, limiter, where, processes in cases:
            if limiter not in missing:
                measure_arrivals(name, limiter, where, delay, processes)


if __name__ == "__main__":
    main()
