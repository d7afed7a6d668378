"""Nothing runs here: type checkers prove what the events of a subscription are typed as.

Where a line must not type-check, it says so by `type: ignore`, which is an error of its own where
the checker finds nothing to ignore.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import assert_type

from jts_storage import Storage, sync
from jts_storage.domain.events import CandlesImported, DomainEvent
from jts_storage.domain.subscriptions import PlainEvent
from jts_storage.ports import Subscription


@dataclass(frozen=True, kw_only=True)
class Moved(DomainEvent):
    by: int


async def what_is_heard(storage: Storage) -> None:
    async with storage.subscribe("screen", Moved) as moves:
        assert_type(moves, Subscription[Moved])
        async for move in moves:
            assert_type(move, Moved)
            assert_type(move.by, int)
            move.keys  # type: ignore[attr-defined]  # noqa: B018
        assert_type(await moves.next(within=1), Moved | None)
        assert_type(moves.plain(), AsyncIterator[PlainEvent])

    assert_type(storage.subscribe("x", Moved, from_="stored", durable=False), Subscription[Moved])
    assert_type(storage.subscribe("all"), Subscription[DomainEvent])
    assert_type(storage.subscribe("by name", "moved"), Subscription[DomainEvent])
    assert_type(storage.subscribe("both", "moved", Moved), Subscription[DomainEvent])
    two = storage.subscribe("two", Moved, CandlesImported)
    assert_type(two, Subscription[Moved | CandlesImported])
    any_of_three: Subscription[DomainEvent] = storage.subscribe("3", Moved, Moved, CandlesImported)
    wrong: Subscription[CandlesImported] = storage.subscribe("x", Moved)  # type: ignore[assignment]
    storage.subscribe("no event", int)  # type: ignore[type-var]
    del any_of_three, wrong


def what_is_heard_and_waited_for(storage: sync.Storage) -> None:
    with storage.subscribe("screen", Moved) as moves:
        for move in moves:
            assert_type(move, Moved)
        assert_type(iter(moves), Iterator[Moved])
        assert_type(moves.next(within=1), Moved | None)

    with storage.subscribe("all") as events:
        assert_type(next(events), DomainEvent)
