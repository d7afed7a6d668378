"""The cache of one storage: told of every write, and in front of its readers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from jts_storage.cache.answers import Answers
from jts_storage.cache.local import LocalCoherence, coherence_of
from jts_storage.cache.repositories import CachedCandles, CachedSymbols, scopes_written
from jts_storage.cache.sharing import RedisSharing
from jts_storage.cache.writers import Writers
from jts_storage.domain.cache_statistics import CacheStatistics, Counters
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings.redis import RedisConfig

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from jts_storage.ports.candles import CandleStore
    from jts_storage.ports.symbols import SymbolReader
    from jts_storage.readable import Readable
    from jts_storage.redis.manager import RedisManager
    from jts_storage.settings import StorageSettings
    from jts_storage.unit_of_work.announcing import Notes


class Cache:
    """What `StoreBackend` has where a cache is turned on: the `Announcer` of its commits, and what
    its readers are decorated with.

    :param config: of the Redis; None keeps answers in this process alone.
    :param folder: of the embedded stores, whose writes all storages on it in this process see.
    """

    def __init__(self, config: RedisConfig | None, folder: Path | None = None) -> None:
        self.counters = Counters()
        limits = config or RedisConfig()
        self._sharing = None if config is None else RedisSharing(config, self.counters)
        alone = LocalCoherence() if folder is None else coherence_of(folder)
        sharing = self._sharing or alone
        self._writers = Writers(sharing, self.counters, limits)
        self.answers = Answers(sharing, self.counters, limits.max_stale)

    @property
    def redis(self) -> RedisManager | None:
        """The Redis that holds it, if any."""
        return None if self._sharing is None else self._sharing.manager

    def belongs_to(self, notes: Notes) -> None:
        """
        :param notes: of the stores: what they are called, and what Redis could not be told.
        """
        if self._sharing is not None:
            self._sharing.belongs_to(notes)

    def open(self) -> None:
        """Begin to watch the memory of Redis. Nothing is connected before it is needed."""
        if self._sharing is not None:
            self._sharing.open()

    async def close(self) -> None:
        await self.answers.close()
        if self._sharing is not None:
            await self._sharing.close()

    def writing(
        self, series: Collection[str] | None, *, symbols: bool, is_decided: bool = False
    ) -> AbstractAsyncContextManager[None]:
        return self._writers.writing(
            scopes_written(series, symbols=symbols), may_refuse=not is_decided
        )

    def over(self, readable: Readable) -> Readable:
        """The same readers, with answers that are kept."""
        return cast("Readable", CachedReadable(readable, self.answers))

    def statistics(self) -> CacheStatistics:
        counted = {name: getattr(self.counters, name) for name in Counters.__slots__}
        held = self.answers.held
        sharing = self._sharing
        return CacheStatistics(
            where="local" if sharing is None else "redis",
            state="ready" if sharing is None else sharing.state,
            open_seconds=0.0 if sharing is None else sharing.open_seconds,
            untold=0 if sharing is None else sharing.untold,
            held=len(held),
            held_bytes=held.bytes,
            **counted,
        )


class CachedReadable:
    """A `Readable` whose candles and symbols are kept."""

    def __init__(self, readable: Readable, answers: Answers) -> None:
        self._readable, self._answers = readable, answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._readable, name)

    @property
    def candles(self) -> CandleStore:
        return CachedCandles(self._readable.candles, self._answers)

    @property
    def symbols(self) -> SymbolReader:
        return CachedSymbols(self._readable.symbols, self._answers)


def cache_of(settings: StorageSettings) -> Cache | None:
    """The cache that settings ask for; None if they ask for none.

    :raises InvalidConfiguration: they contradict each other.
    """
    config = settings.redis()
    wanted = settings.cache if settings.cache != "auto" else ("redis" if config else "off")
    if wanted == "off":
        return None
    if settings.cache_max_age:
        raise InvalidConfiguration(
            "cache_max_age is set, and a cache would keep what is out of date by then",
            remedy="Leave it out, or set JTS_CACHE=off.",
        )
    if wanted == "redis":
        if find_spec("redis") is None:
            raise InvalidConfiguration(
                "a cache in Redis needs its client, which is not installed",
                remedy="Run pip install 'jts-storage[redis]', or set JTS_CACHE=off.",
            )
        return Cache(config)
    if not settings.clickhouse().is_embedded:
        raise InvalidConfiguration(
            "cache is 'local', and other processes write to a ClickHouse server",
            remedy="Set JTS_REDIS_URL.",
        )
    return Cache(None, settings.data_dir)
