"""Rate limits of one process."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from jts_storage.domain.rate_books import (
    Book,
    Clock,
    Exhausted,
    Granted,
    Refused,
    SlotRequest,
    present,
)
from jts_storage.domain.rate_limits import Limit, LimitKey, RateLimitState


class InMemoryRateLimits:
    """A `RateLimitStore` that lives and dies with the object.

    :param clock: what time it is.
    """

    def __init__(self, clock: Clock = present) -> None:
        self._clock = clock
        self._books: dict[LimitKey, Book] = {}

    async def take(
        self, slot: SlotRequest, *, patience: float | None = None
    ) -> Granted | Refused | Exhausted:
        return self._book(slot.key).take(slot, self._clock())

    async def leave(self, slot: SlotRequest) -> None:
        self._book(slot.key).leave(slot, self._clock())

    async def forget(self, slot: SlotRequest) -> None:
        self._book(slot.key).forget(slot, self._clock())

    async def state(self, key: LimitKey, limits: Sequence[Limit]) -> RateLimitState:
        book = deepcopy(self._books.get(key, Book()))
        return book.report(key, limits, self._clock())

    async def accounts(self, name: str) -> Sequence[str]:
        return sorted(key.account for key in self._books if key.name == name)

    async def reset(self) -> None:
        self._books.clear()

    async def close(self) -> None:
        """Nothing is open."""

    def _book(self, key: LimitKey) -> Book:
        return self._books.setdefault(key, Book())
