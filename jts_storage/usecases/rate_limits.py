"""Waiting for slots of rate limits, and holding them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import random
from secrets import token_hex
from time import monotonic
from types import TracebackType
from typing import Final

from jts_storage._runtime.forks import tell_children
from jts_storage._runtime.tasks import run_to_the_end, stopped
from jts_storage.domain.rate_books import Exhausted, Granted, Refused, SlotRequest
from jts_storage.domain.rate_limits import (
    SECOND,
    Limit,
    LimitKey,
    RateLimits,
    RateLimitState,
    Slot,
    lease,
    moment_of,
    seconds,
)
from jts_storage.errors import ConnectionFailed, QuotaExhausted, RateLimited, StorageError
from jts_storage.ports.rate_limits import RateLimitStore

_LONGEST_SLEEP: Final = 5.0
"""Seconds: a slot that was given back unused may be free earlier than was said."""

_JITTER: Final = 0.002
_AWAY_SECONDS: Final = 0.1
"""The pause before a store that did not answer is asked again."""

_LAPSES: Final = 3
"""Slots whose leases are over when they come, after which a further one makes no sense."""

_RETURN_SECONDS: Final = 0.2
_HEALTH_SECONDS: Final = 0.4

_MOST_TOLD: Final = 50
"""Accounts of which health tells, and whose queues are kept though nobody is in them."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Queue:
    """Those of this process who wait for slots of one account, in the order in which they came.

    Only the first one asks the store: who comes later could not be served before it.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class SharedRateLimiter:
    """A `RateLimiter` over a store."""

    def __init__(self, limits: RateLimits, store: RateLimitStore) -> None:
        self.limits = limits
        self._store = store
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        """Share neither names of slots nor those who wait with the process it was forked from."""
        self._queues: dict[LimitKey, _Queue] = {}
        self._process = token_hex(6)
        self._left: deque[tuple[_Asked, str, float]] = deque()
        self._returning: asyncio.Task[None] | None = None
        self._numbers = count()

    def acquire(
        self,
        name: str,
        account: str = "",
        *,
        cost: int = 1,
        timeout: float | None = 10.0,
        longest: float = 30.0,
    ) -> StoredSlot:
        limits = self.limits.of(name, cost)
        patience = None if timeout is None else seconds(timeout, "timeout")
        asked = _Asked(LimitKey(name, account), limits, cost, patience, lease(longest))
        return StoredSlot(self, asked)

    async def state(self, name: str, account: str = "") -> RateLimitState:
        key = LimitKey(name, account)
        found = await self._store.state(key, self.limits.of(name))
        queue = self._queues.get(key)
        return replace(found, waiting=0 if queue is None else queue.waiting)

    async def accounts(self, name: str) -> Sequence[str]:
        self.limits.of(name)
        return await self._store.accounts(name)

    async def reset(self) -> None:
        await self._store.reset()

    async def told(self) -> tuple[RateLimitState, ...] | None:
        """What counts of those that this process asked for last; None if the store is away."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                keys = list(self._queues)[-_MOST_TOLD:]
                return tuple([await self.state(key.name, key.account) for key in keys])
        except (StorageError, TimeoutError):
            return None

    async def close(self) -> None:
        """Let go of the store's files and connections."""
        returning, self._returning = self._returning, None
        if returning is not None:
            await stopped(returning)
        await self._store.close()

    # ---- for the slots

    def new_name(self) -> str:
        return f"{self._process}-{next(self._numbers)}"

    async def enter(self, asked: _Asked, slot: str) -> Granted:
        queue = self._queue_of(asked.key)
        end = None if asked.timeout is None else monotonic() + asked.timeout
        queue.waiting += 1
        try:
            await self._turn(queue, asked, end)
            try:
                return await self._first_in_line(asked, slot, end)
            finally:
                queue.turn.release()
        finally:
            queue.waiting -= 1

    def _queue_of(self, key: LimitKey) -> _Queue:
        """The queue of an account, which is the last one now; those are dropped that are empty."""
        queue = self._queues[key] = self._queues.pop(key, _Queue())
        if len(self._queues) > 2 * _MOST_TOLD:  # not each time: it looks at all of them
            known = list(self._queues.items())
            for each, old in known[:-_MOST_TOLD]:
                if not old.waiting:
                    del self._queues[each]
        return queue

    async def _turn(self, queue: _Queue, asked: _Asked, end: float | None) -> None:
        # Not turn.locked(): between two turns it is not, however many wait.
        if end is None or queue.waiting == 1:  # a timeout of 0 asks once
            await queue.turn.acquire()
            return
        try:
            async with asyncio.timeout(max(0.0, end - monotonic())):
                await queue.turn.acquire()
        except TimeoutError:
            raise _too_late(asked, f"{queue.waiting - 1} others wait before it", 0) from None

    async def _first_in_line(self, asked: _Asked, slot: str, end: float | None) -> Granted:
        lapsed = 0
        while True:
            begun = monotonic()
            left = None if end is None else end - begun
            try:
                answer = await self._take(asked, slot, left)
            except ConnectionFailed:
                # Whether it was taken is unknown. Under the same name it counts once at most.
                await _pause(_AWAY_SECONDS, left)
                if left is not None and left <= _AWAY_SECONDS:
                    raise
                continue
            if isinstance(answer, Granted):
                if monotonic() - begun < asked.longest:
                    return answer
                # This process was stopped meanwhile, and others may have got the slot since.
                lapsed += 1
                if lapsed == _LAPSES:
                    raise _lapsed(asked)
                continue
            if isinstance(answer, Exhausted):
                raise _exhausted(asked, answer)
            wait = answer.wait / SECOND
            if left is not None and wait >= left:
                await _pause(left, left)
                raise _too_late(asked, "", wait)
            await _pause(min(wait, _LONGEST_SLEEP) + random() * _JITTER, left)

    async def _take(
        self, asked: _Asked, slot: str, left: float | None
    ) -> Granted | Refused | Exhausted:
        """Ask the store; who is cancelled meanwhile leaves no slot taken."""
        answers: list[Granted | Refused | Exhausted] = []

        async def take() -> None:
            patience = None if left is None else max(0.0, left)
            answers.append(await self._store.take(asked.slot(slot), patience=patience))

        try:
            await run_to_the_end(take())
        except asyncio.CancelledError:
            if answers and isinstance(answers[0], Granted):
                await run_to_the_end(self._forget(asked, slot))
            raise
        return answers[0]

    async def _forget(self, asked: _Asked, slot: str) -> None:
        try:
            await self._store.forget(asked.slot(slot))
        except StorageError as exc:
            _tell_lost(asked, exc)

    async def leave(self, asked: _Asked, slot: str) -> None:
        """Give a slot back, also while the caller is being cancelled."""
        if not slot.startswith(self._process):
            return  # the process from which this one was forked holds it
        await run_to_the_end(self._leave(asked, slot))

    async def _leave(self, asked: _Asked, slot: str) -> None:
        if not await self._told(asked, slot):
            self._left.append((asked, slot, monotonic() + asked.longest))
            if self._returning is None or self._returning.done():
                self._returning = asyncio.create_task(self._return())

    async def _return(self) -> None:
        """Tell the store of slots that were left while it was away, as long as they are leased."""
        while self._left:
            await asyncio.sleep(_RETURN_SECONDS)
            asked, slot, end = self._left[0]
            if monotonic() > end or await self._told(asked, slot):
                self._left.popleft()

    async def _told(self, asked: _Asked, slot: str) -> bool:
        """Whether the store knows that a slot is left."""
        try:
            await self._store.leave(asked.slot(slot))
        except StorageError as exc:
            if not self._left:
                _tell_lost(asked, exc)
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Asked:
    key: LimitKey
    limits: tuple[Limit, ...]
    cost: int
    timeout: float | None
    longest: float

    def slot(self, name: str) -> SlotRequest:
        return SlotRequest(self.key, self.limits, name, self.cost, self.longest)


class StoredSlot:
    """An `AcquiredSlot` of a `SharedRateLimiter`."""

    def __init__(self, limiter: SharedRateLimiter, asked: _Asked) -> None:
        self._limiter, self._asked = limiter, asked
        self._slot = ""
        self._is_used = False

    async def __aenter__(self) -> Slot:
        if self._is_used:
            raise StorageError(
                "This slot was entered before.", remedy="Acquire another one for each request."
            )
        self._is_used = True
        self._slot = self._limiter.new_name()  # not before: it may be entered in a fork
        began = monotonic()
        granted = await self._limiter.enter(self._asked, self._slot)
        ends = granted.resets_at
        return Slot(
            self._asked.key.name,
            self._asked.key.account,
            self._asked.cost,
            waited=monotonic() - began,
            remaining=granted.remaining,
            resets_at=None if ends is None else moment_of(ends),
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        await self._limiter.leave(self._asked, self._slot)


async def _pause(wanted: float, left: float | None) -> None:
    await asyncio.sleep(wanted if left is None else max(0.0, min(wanted, left)))


def _too_late(asked: _Asked, why: str, wait: float) -> RateLimited:
    limits = " and ".join(map(str, asked.limits))
    reason = why or f"none can become free for another {wait:.3g} s"
    return RateLimited(
        f"No slot of {asked.key} became free within {asked.timeout:g} s: {limits} are allowed, and"
        f" {reason}",
        wait=wait,
        remedy="Wait for longer with timeout=, or ask for less.",
    )


def _lapsed(asked: _Asked) -> ConnectionFailed:
    return ConnectionFailed(
        f"Slots of {asked.key} came later than their lease of {asked.longest:g} s ends",
        hosts=(),
        remedy="Give a longer one with longest=, or see why answers take so long.",
    )


def _exhausted(asked: _Asked, answer: Exhausted) -> QuotaExhausted:
    resets_at = moment_of(answer.resets_at)
    return QuotaExhausted(
        f"The quota of {asked.key} is used up: {answer.limit} are allowed",
        resets_at=resets_at,
        remedy=f"Go on at {resets_at.isoformat()}, when the next day begins there.",
    )


def _tell_lost(asked: _Asked, exc: StorageError) -> None:
    log.warning(
        "A slot of %s could not be given back, and counts until it is or its %g s are over: %s",
        asked.key,
        asked.longest,
        exc,
    )
