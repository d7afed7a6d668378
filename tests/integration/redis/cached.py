"""Repositories behind a cache, which write as commits do and read everything twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jts_storage.cache.backend import Cache
from jts_storage.cache.repositories import CachedCandles, CachedSymbols
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import series_name
from jts_storage.settings import RedisConfig

BOUND = 5.0
"""Seconds for a command: these tests are about answers, on busy machines, too."""


class FixedNotes:
    """Of stores without MongoDB."""

    def __init__(self) -> None:
        self.kept: dict[Any, list[str]] = {}

    async def identity(self) -> str:
        return "these stores"

    async def add(self, names: Any, everything: Any) -> None:
        self.kept[len(self.kept)] = list(names)

    async def all(self) -> dict[Any, list[str]]:
        return dict(self.kept)

    async def remove(self, notes: Any) -> None:
        for note in list(notes):
            self.kept.pop(note, None)


def cache_on(url: str | None, **fields: Any) -> Cache:
    cache = Cache(None if url is None else RedisConfig(url, **{"timeout": BOUND} | fields))
    cache.belongs_to(FixedNotes())
    return cache


class _Untimed:
    """Takes an `as_of` that is None, which a repository of the present does not."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._repository, name)

        def call(*args: Any, as_of: None = None, **keywords: Any) -> Any:
            return method(*args, **keywords)

        return call


async def _nothing() -> None:
    return None


class Twice:
    """
    :param between: what happens between the two readings.
    """

    def __init__(
        self,
        repository: Any,
        cache: Cache,
        between: Callable[[], Awaitable[object]] = _nothing,
    ) -> None:
        self._repository, self._cache, self._between = repository, cache, between
        kind: Any = CachedCandles if hasattr(repository, "get_range") else CachedSymbols
        self._cached = kind(_Untimed(repository), cache.answers)

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("save", "delete", "import")):
            return self._writing(getattr(self._repository, name))
        if name.startswith("stream"):
            return getattr(self._cached, name)
        return self._twice(getattr(self._cached, name), getattr(self._repository, name))

    def _writing(self, write: Any) -> Any:
        async def call(*args: Any, **keywords: Any) -> Any:
            is_symbols = isinstance(self._cached, CachedSymbols)
            named = [series_name(each) for each in args if isinstance(each, SeriesKey)]
            series = [] if is_symbols else (named or None)
            async with self._cache.writing(series, symbols=is_symbols):
                return await write(*args, **keywords)

        return call

    def _twice(self, read: Any, bare: Any) -> Any:
        async def call(*args: Any, **keywords: Any) -> Any:
            args = tuple(_several(each) for each in args)
            keywords = {name: _several(each) for name, each in keywords.items()}
            first = await read(*args, **keywords)
            await self._between()
            second = await read(*args, **keywords)
            plain = await bare(*args, **keywords)
            assert _as_plain(first) == _as_plain(second) == _as_plain(plain)
            assert type(first) is type(second) is type(plain)
            return second

        return call


def _several(given: Any) -> Any:
    return list(given) if hasattr(given, "__next__") else given


def _as_plain(found: Any) -> Any:
    return (list(found), found.has_more) if hasattr(found, "has_more") else found
