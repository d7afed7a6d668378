"""A service that commits events, and one that hears them through a durable subscription.

``python subscribing_service.py write FIRST [POINT NTH]`` commits numbers from FIRST on and tells
each on its standard output once it is acknowledged; at the NTH time it reaches POINT it kills
itself. ``hear`` writes each event that comes to the file ``JTS_TEST_EVENTS``, and what it has
acknowledged; ``drain`` does so until none waits. Both see that the commit of each event is stored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jts_storage import SeriesKey, Storage, Timeframe
from jts_storage.domain.events import DomainEvent
from jts_storage.ports import Subscription
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work import commit as commit_points

NAME = "crashing"
KEY = SeriesKey("CRASH", Timeframe.M1, exchange="KRX")
START = datetime(2024, 1, 2, tzinfo=UTC)
KEYS = 3
ACKNOWLEDGED_EVERY = 7


@dataclass(frozen=True, kw_only=True)
class Committed(DomainEvent):
    number: int

    @property
    def key(self) -> str:
        return f"key {self.number % KEYS}"


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


async def write(first: int) -> None:
    async with Storage.open() as storage:
        for number in range(first, first + 10_000):
            async with storage.unit_of_work() as uow:
                await uow.candles.save_many(KEY, make_candles(KEY, 1, start=minute(number)))
                await uow.ingestion.checkpoints.save("crash", {"number": number})
                uow.events.add(Committed(number=number))
                await uow.commit()
            os.write(1, f"{number}\n".encode())


async def hear(*, until_empty: bool) -> None:
    told = os.open(os.environ["JTS_TEST_EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with Storage.open() as storage, storage.subscribe(NAME, Committed) as events:
        os.write(told, b"entered\n")
        os.write(1, b"entered\n")
        heard = 0
        while not (until_empty and await is_empty(storage, events)):
            event = await events.next(within=1)
            if isinstance(event, Committed):
                at = minute(event.number)
                is_stored = len(await storage.candles.get_range(KEY, at, at)) == 1
                os.write(told, f"{event.number if is_stored else 'not stored'}\n".encode())
                heard += 1
                if heard % ACKNOWLEDGED_EVERY == 0:
                    await events.acknowledge()
                    os.write(told, b"acknowledged\n")


async def is_empty(storage: Storage, events: Subscription[Any]) -> bool:
    await storage.recover()
    await events.acknowledge()
    return all(each.waiting == 0 for each in await storage.subscriptions())


def die_at(point: str, nth: int) -> None:
    seen = 0

    def reached(name: str) -> None:
        nonlocal seen
        seen += name == point
        if name == point and seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    commit_points.reached = reached


if __name__ == "__main__":
    if sys.argv[1] == "write":
        if len(sys.argv) > 3:
            die_at(sys.argv[3], int(sys.argv[4]))
        asyncio.run(write(int(sys.argv[2])))
    else:
        asyncio.run(hear(until_empty=sys.argv[1] == "drain"))
