"""The cache's Redis, which may be away at any time: nothing fails for that, and nothing waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import Final

from jts_storage._runtime.tasks import stopped
from jts_storage.cache.repositories import CANDLES, MANY, SYMBOLS
from jts_storage.domain.cache_statistics import CacheState, Counters
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.redis.breaker import Breaker, State
from jts_storage.redis.coherence import Lasting, Look, RedisCoherence
from jts_storage.redis.manager import RedisManager
from jts_storage.settings.redis import RedisConfig
from jts_storage.unit_of_work.announcing import Notes

MEMORY_SECONDS: Final = 60.0
EVERYTHING: Final = (MANY, CANDLES, SYMBOLS)
_MOST_NAMES: Final = 200
_PROBE: Final = ("probe",)
_PATIENCE: Final = 0.5
"""How long the first reads wait at most until it is known what Redis has missed."""

_PAUSE: Final = 1.0
_CLIENTS: Final = "jts_storage.redis.clients"

log = logging.getLogger(__name__)


class RedisSharing:
    """What `redis.coherence` says, as long as Redis answers.

    After three failures it is left alone, and asked again by nobody's read: by a task of its own.
    Before it is used again, it is told of the writes that it has missed.
    """

    def __init__(self, config: RedisConfig, counters: Counters) -> None:
        self.manager = RedisManager(config)
        self._counters, self._max_stale = counters, config.max_stale
        self._breaker = Breaker(self._told)
        self._notes: Notes | None = None
        self._coherence = RedisCoherence(self.manager, self._breaker, _no_stores)
        self._untold: dict[str, float] = {}
        self._waking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._is_away = self._is_nearly_full = self._knows_notes = False
        self._next_try = 0.0

    @property
    def state(self) -> CacheState:
        return "ready" if self._breaker.state == "closed" else "away"

    @property
    def open_seconds(self) -> float:
        return self._breaker.open_seconds

    @property
    def untold(self) -> int:
        return len(self._untold)

    def belongs_to(self, notes: Notes) -> None:
        self._notes, self._knows_notes = notes, False
        self._coherence = RedisCoherence(self.manager, self._breaker, notes.identity)

    def open(self) -> None:
        self._watching = asyncio.create_task(self._watch_memory())

    async def close(self) -> None:
        for task in (self._watching, self._telling, self._waking):
            if task is not None:
                await stopped(task)
        self._watching = self._telling = self._waking = None
        await self.manager.close()

    # ---- readers

    async def look(self, scopes: Sequence[str], name: str, known: bytes) -> Look | None:
        if not self._is_ready() and not await self._is_ready_now():
            return None
        try:
            return await self._coherence.look(scopes, name, known)
        except StorageError:
            self._counters.errors += 1
            return None

    async def fill(
        self, scopes: Sequence[str], name: str, look: Look, value: bytes, lasts: Lasting
    ) -> bool | None:
        if not self._is_ready():
            return None
        try:
            return await self._coherence.fill(scopes, name, look, value, lasts)
        except StorageError:
            self._counters.errors += 1
            return None

    # ---- writers

    async def begin(self, scopes: Sequence[str], writer: str, lease: float) -> None:
        await self._coherence.begin(scopes, writer, lease)

    async def end(self, scopes: Sequence[str], writer: str, landing: float = 0.0) -> None:
        await self._coherence.end(scopes, writer, landing)

    async def tell_later(self, scopes: Sequence[str]) -> None:
        """Note what Redis was not told; what it holds of it now will be gone after `max_stale`."""
        names = scopes
        if len(self._untold) + len(scopes) > _MOST_NAMES:
            self._untold, names = {}, EVERYTHING
        self._untold |= dict.fromkeys(names, monotonic() + self._max_stale)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_until_told())
        if self._notes is not None:
            with suppress(StorageError):  # then it is known to this process alone
                await self._notes.add(names, EVERYTHING)

    async def _tell_until_told(self) -> None:
        """A process that only writes has no reads that would begin it."""
        while self._untold:
            await asyncio.sleep(_PAUSE)
            self._is_ready()
            if self._waking is not None:
                await asyncio.wait([self._waking])

    # ---- to come back

    def _is_ready(self) -> bool:
        """Whether Redis can be asked; if not, and it is time, a task sees whether it can again."""
        if self._breaker.state == "closed" and not self._untold and self._knows_notes:
            return True
        is_awake = self._waking is None or self._waking.done()
        if is_awake and self._breaker.is_due and monotonic() >= self._next_try:
            self._waking = asyncio.create_task(self._wake())
        return False

    async def _is_ready_now(self) -> bool:
        """The same for the first reads, which wait until it is seen what Redis has missed."""
        if self._next_try or self._waking is None or self._breaker.state != "closed":
            return False
        await asyncio.wait([self._waking])
        return self._is_ready()

    async def _wake(self) -> None:
        """Ask whether Redis is there again, and tell it what it has missed."""
        try:
            async with asyncio.timeout(_PATIENCE):
                if self._breaker.state != "closed":
                    await self._probe()
                await self._tell()
        except (StorageError, TimeoutError) as exc:
            self._counters.errors += 1
            self._next_try = monotonic() + _PAUSE
            log.debug("The cache is not used yet: %s", exc)
        else:
            self._next_try = 0.0

    async def _probe(self) -> None:
        """Ask for what the cache needs: a user who may PING may not run scripts."""
        from jts_storage.redis.errors import RedisFull

        with suppress(RedisFull):  # one that is full is there
            await self._coherence.look(_PROBE, "probe", b"")

    async def _tell(self) -> None:
        notes = {} if self._notes is None else await self._notes.all()
        told = dict(self._untold)
        scopes = list(dict.fromkeys([*told, *(name for names in notes.values() for name in names)]))
        await self._coherence.end(scopes, "nobody")
        if notes and self._notes is not None:
            await self._notes.remove(notes.keys())
        # Not what came meanwhile.
        for scope, end in told.items():
            if self._untold.get(scope) == end:
                del self._untold[scope]
        self._knows_notes = True

    def _told(self, state: State) -> None:
        if state == "open" and not self._is_away:
            self._is_away = True
            where = ", ".join(self.manager.hosts)
            reason = self._breaker.reason
            if reason is not None and not isinstance(reason, ConnectionFailed):
                log.warning(
                    "Redis refuses what the cache needs: all is read from the stores. %s",
                    reason,
                )
            else:
                log.warning("Redis (%s) does not answer: all is read from the stores.", where)
        elif state == "closed" and self._is_away:
            self._is_away = False
            log.warning("Redis (%s) answers again.", ", ".join(self.manager.hosts))

    # ---- memory

    async def _watch_memory(self) -> None:
        await asyncio.to_thread(import_module, _CLIENTS)  # which takes a while, and no read waits
        while True:
            await asyncio.sleep(MEMORY_SECONDS)
            with suppress(StorageError):
                await self.look_at_memory()

    async def look_at_memory(self) -> None:
        """Warn where Redis is nearly full, once for each time that it becomes so."""
        if self._breaker.state != "closed":
            return
        report = await self.manager.memory()
        if report.is_nearly_full and not self._is_nearly_full:
            log.warning(
                "Redis uses %d of its %d bytes; its eviction policy is %s.",
                *(report.used, report.most, report.policy),
            )
        self._is_nearly_full = report.is_nearly_full


async def _no_stores() -> str:
    raise StorageError("The cache belongs to no stores.")
