"""What named subscriptions cost: a commit with an event, and an event on its way.

Figures of commits are taken in turns, so that a machine that is busy now and then does not favour
one; the least of them is what the work takes, the median what it took here.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

from jts_storage import DomainEvent, Storage, StorageSettings
from jts_storage.testing.factories import make_formula

EVENTS = 20_000


@dataclass(frozen=True, kw_only=True)
class Noted(DomainEvent):
    number: int


async def commit(storage: Storage, *numbers: int) -> float:
    begun = time.perf_counter()
    async with storage.unit_of_work() as uow:
        for number in numbers:
            uow.events.add(Noted(number=number))
        if not numbers:
            await uow.formulas.save(make_formula())
        await uow.commit()
    return time.perf_counter() - begun


def show(name: str, **figures: float) -> None:
    print(json.dumps({"name": name} | {k: round(v, 3) for k, v in figures.items()}), flush=True)


async def measure_commits(storage: Storage) -> None:
    taken: dict[str, list[float]] = {}
    for _ in range(6):
        for count in (0, 1, 3):
            async with AsyncExitStack() as stack:
                for number in range(count):
                    listener = storage.subscribe(f"s{number}", Noted, durable=False)
                    await stack.enter_async_context(listener)
                for _ in range(5):
                    with_event = f"commit with an event, {count} subscriptions"
                    taken.setdefault(with_event, []).append(await commit(storage, 1))
                    without = f"commit without events, {count} subscriptions"
                    taken.setdefault(without, []).append(await commit(storage))
    for name, seconds in sorted(taken.items()):
        show(name, least_ms=min(seconds) * 1_000, median_ms=median(seconds) * 1_000)


async def measure_latency(storage: Storage) -> None:
    """From the return of a commit to the event in the consumer, of the same process."""
    heard: asyncio.Queue[float] = asyncio.Queue()
    async with storage.subscribe("waiting", Noted, durable=False) as events:

        async def hear() -> None:
            async for _ in events:
                heard.put_nowait(time.perf_counter())

        hearing = asyncio.create_task(hear())
        waits = []
        for number in range(100):
            await asyncio.sleep(0.005)
            await commit(storage, number)
            begun = time.perf_counter()
            waits.append(max(0.0, await heard.get() - begun))
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
    waits.sort()
    show("a waiting consumer", least_ms=waits[0] * 1_000, p50_ms=median(waits) * 1_000)


async def measure_backlog(storage: Storage) -> None:
    for kind in ("events", "plain", "batch"):
        async with storage.subscribe(kind, Noted):
            for begin in range(0, EVENTS, 1_000):
                await commit(storage, *range(begin, begin + 1_000))
        begun, used = time.perf_counter(), time.process_time()
        async with storage.subscribe(kind, Noted) as events:
            had = 0
            plain = events.plain()
            while had < EVENTS:
                if kind == "batch":
                    had += len(await events.batch(100))
                else:
                    await anext(events if kind == "events" else plain)
                    had += 1
            await events.acknowledge()
        show(
            f"a backlog, by {kind}",
            events_a_second=EVENTS / (time.perf_counter() - begun),
            events_a_second_of_processor=EVENTS / (time.process_time() - used),
        )
        await storage.unsubscribe(kind)


async def measure(name: str, storage: Storage) -> None:
    async with storage:
        print(f"# {name}", flush=True)
        await commit(storage, 0)
        await measure_latency(storage)
        await measure_commits(storage)
        await measure_backlog(storage)


async def main() -> None:
    await measure("in memory", Storage.in_memory())
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        await measure("embedded", Storage.open(StorageSettings(data_dir=folder)))


if __name__ == "__main__":
    asyncio.run(main())
