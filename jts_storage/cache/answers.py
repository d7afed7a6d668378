"""Answers that are kept, in the process and in Redis, as long as they are what the stores give."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar

from jts_storage._runtime.tasks import stopped
from jts_storage.cache.fills import Fills
from jts_storage.cache.held import Held, HeldAnswers
from jts_storage.cache.values import Codec, Unusable, packed, unpacked
from jts_storage.domain.cache_statistics import Counters
from jts_storage.redis.coherence import Lasting, Look

T = TypeVar("T")

_PAUSE: Final = 0.02
_PAUSES: Final = 2
"""Who finds another process reading the same waits so often, and then reads itself."""

_JITTER: Final = 0.1
_NEGATIVE_SECONDS: Final = 60.0
"""That there is nothing is not believed for longer."""

_MOST_SENDING: Final = 16
"""Values on their way to Redis at once, of a megabyte at most; who reads a further one waits."""

_CLOSING: Final = 0.5
"""Seconds that closing waits for them at most."""

_NOTHING: Final = 8
"""Bytes; an answer that is shorter says that there is nothing."""


class Shared(Protocol):
    """What is known of generations and values; None where that is not known now."""

    async def look(self, scopes: Sequence[str], name: str, known: bytes) -> Look | None: ...

    async def fill(
        self, scopes: Sequence[str], name: str, look: Look, value: bytes, lasts: Lasting
    ) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class _Question(Generic[T]):
    """What is asked.

    :param scopes: what its answer depends on; that which changes most often first.
    :param name: tells it from others of the same scopes.
    """

    scopes: Sequence[str]
    name: str
    ask: Callable[[], Awaitable[T]]
    codec: Codec[T]

    @property
    def key(self) -> str:
        return f"{self.scopes[0]}\0{self.name}"


@dataclass(frozen=True, slots=True)
class _Found(Generic[T]):
    value: T


class Answers:
    """
    :param max_stale: seconds for which any answer is kept at most.
    """

    def __init__(
        self,
        shared: Shared,
        counters: Counters,
        max_stale: float,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._shared, self._counters, self._max_stale = shared, counters, max_stale
        self._clock = clock
        self.held = HeldAnswers(clock=clock)
        self._fills = Fills()
        self._sending: set[asyncio.Task[None]] = set()

    async def get(
        self, scopes: Sequence[str], name: str, ask: Callable[[], Awaitable[T]], codec: Codec[T]
    ) -> T:
        """An answer that is kept, or else that of the stores."""
        question = _Question(scopes, name, ask, codec)
        held = self.held.get(question.key)
        begun = self._clock()
        look = await self._shared.look(scopes, name, held.token if held is not None else b"")
        if look is None:
            self._counters.bypassed += 1
            return codec.given(await self._fills.later(question.key, ask))
        if look.token is None:
            self._counters.written_meanwhile += 1
            return codec.given(await self._fills.later(question.key, ask))
        if held is not None and held.token == look.token:
            return await self._held(held, question)
        if (found := self._stored(question, look, begun)) is not None:
            return codec.given(found.value)
        # Not that of whoever began to read before the present generations were there.
        flight = (question.key, look.token)
        value = await self._fills.one(flight, lambda: self._read(question, look, begun))
        return codec.given(value)

    async def settle(self, seconds: float) -> None:
        """Wait so long at most until Redis has what was read."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=seconds)

    async def close(self) -> None:
        await self._fills.close()
        await self.settle(_CLOSING)
        for task in list(self._sending):
            await stopped(task)
        self.held.clear()

    async def _held(self, held: Held, question: _Question[T]) -> T:
        if held.is_too_large:
            return await question.ask()
        self._counters.hits += 1
        return question.codec.given(held.value)

    def _stored(self, question: _Question[T], look: Look, begun: float) -> _Found[T] | None:
        """The value that a look found, if it can be read."""
        if look.value is None or look.token is None:
            return None
        try:
            value, at = unpacked(look.token, look.value, question.codec)
        except Unusable:
            self._counters.unusable += 1
            return None
        age = (look.at - at) / 1000
        # Whoever stored it may allow more than this process does; and from a clock that was set
        # back, nobody knows how old it is.
        if not 0 <= age < self._max_stale:
            self._counters.unusable += 1
            return None
        self._counters.shared_hits += 1
        until = begun + min(look.lasts, self._max_stale - age)
        self.held.put(question.key, Held(look.token, value, len(look.value), until))
        return _Found(value)

    async def _read(self, question: _Question[T], look: Look, begun: float) -> T:
        for _ in range(_PAUSES):
            if look.is_first:
                break
            await asyncio.sleep(_PAUSE)
            begun = self._clock()
            again = await self._shared.look(question.scopes, question.name, b"")
            if again is None or again.token is None:
                self._counters.bypassed += 1
                return await question.ask()
            look = again
            if (found := self._stored(question, look, begun)) is not None:
                return found.value
        self._counters.misses += 1
        value = await question.ask()
        await self._keep(question, look, value, begun)
        return value

    async def _keep(self, question: _Question[T], look: Look, value: T, begun: float) -> None:
        """
        :param begun: before the look, and so before the stores were asked: it lasts from then on.
        """
        token = look.token
        assert token is not None, "somebody was writing"
        data = question.codec.encode(value)
        if data is None:
            self._counters.too_large += 1
            until = begun + self._max_stale
            self.held.put(question.key, Held(token, None, 0, until, is_too_large=True))
            return
        whole = self._lasts(len(data))
        until = begun + whole
        left = until - self._clock()
        if left <= 0:
            return
        kept: Any = question.codec.given(value)  # the caller may change its own
        # It counts while the generations are those of the look: had anybody written since, they
        # would be gone. So it need not wait for Redis, and nor does the caller.
        self.held.put(question.key, Held(token, kept, len(data), until))
        sending = self._send(question, look, data, Lasting(left, whole))
        if len(self._sending) >= _MOST_SENDING:
            await sending
            return
        task = asyncio.create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(
        self, question: _Question[Any], look: Look, data: bytes, lasts: Lasting
    ) -> None:
        """Let Redis have it, for the other processes."""
        assert look.token is not None, "somebody was writing"
        value = packed(look.token, look.at, data)
        stored = await self._shared.fill(question.scopes, question.name, look, value, lasts)
        if stored is False:
            self._counters.stale_refused += 1

    def _lasts(self, size: int) -> float:
        most = min(self._max_stale, _NEGATIVE_SECONDS) if size < _NOTHING else self._max_stale
        return most * (1 - _JITTER * random.random())
