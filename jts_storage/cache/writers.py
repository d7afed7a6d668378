"""Writers say what they write before they do, and again when the stores have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol, runtime_checkable
from uuid import uuid4

from jts_storage._runtime.tasks import run_to_the_end, stopped
from jts_storage.domain.cache_statistics import Counters
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.settings.redis import RedisConfig

LANDING_SECONDS: Final = 5.0
"""How long what a failed writer sent may still be on its way to ClickHouse."""


class WriteNotKnown(ConnectionFailed):
    """A commit was refused since Redis could not be told of it; nothing of it is stored."""

    transient = True


class Generations(Protocol):
    async def begin(self, scopes: Sequence[str], writer: str, lease: float) -> None: ...

    async def end(self, scopes: Sequence[str], writer: str, landing: float = 0.0) -> None: ...


@runtime_checkable
class TellsLater(Protocol):
    """Generations that note what could not be told, and tell it once they can."""

    async def tell_later(self, scopes: Sequence[str]) -> None: ...


class Writers:
    """
    :param generations: raise a `StorageError` for what they could not be told of.
    """

    def __init__(self, generations: Generations, counters: Counters, config: RedisConfig) -> None:
        self._generations, self._counters, self._config = generations, counters, config

    @asynccontextmanager
    async def writing(self, scopes: Sequence[str], *, may_refuse: bool) -> AsyncIterator[None]:
        """Write what changes these scopes within the block.

        :raises WriteNotKnown: Redis could not be told before, and the settings are strict.
        """
        if not scopes:
            yield
            return
        writer = uuid4().hex
        try:
            await self._begin(scopes, writer, may_refuse=may_refuse)
        except asyncio.CancelledError:
            await run_to_the_end(self._withdraw(scopes, writer))
            raise
        renewing = asyncio.create_task(self._renew(scopes, writer))
        landing = LANDING_SECONDS
        try:
            yield
            landing = 0.0
        finally:
            try:
                await stopped(renewing)  # a mark that came after the end would stay for a lease
            finally:
                # Also for one that is cancelled: what it wrote is decided.
                await run_to_the_end(self._end(scopes, writer, landing))

    async def _begin(self, scopes: Sequence[str], writer: str, *, may_refuse: bool) -> None:
        try:
            await self._generations.begin(scopes, writer, self._config.lease)
        except StorageError as exc:
            self._counters.errors += 1
            if may_refuse and self._config.coherence == "strict":
                raise WriteNotKnown(
                    f"Redis could not be told of a commit, and nothing of it is stored: {exc}",
                    remedy='Repeat it, or set JTS_REDIS_COHERENCE to "bounded".',
                ) from exc

    async def _renew(self, scopes: Sequence[str], writer: str) -> None:
        """Keep the mark of a write that takes longer than its lease."""
        while True:
            await asyncio.sleep(self._config.lease / 3)
            try:
                await self._generations.begin(scopes, writer, self._config.lease)
            except StorageError:
                self._counters.errors += 1

    async def _withdraw(self, scopes: Sequence[str], writer: str) -> None:
        """Nothing is written: a mark would keep readers away for a lease."""
        try:
            await self._generations.end(scopes, writer)
        except StorageError:
            self._counters.errors += 1

    async def _end(self, scopes: Sequence[str], writer: str, landing: float) -> None:
        try:
            await self._generations.end(scopes, writer, landing)
        except StorageError:
            self._counters.errors += 1
            # Also one whose beginning Redis was told of: its mark may have been lost since.
            self._counters.unannounced_writes += 1
            if isinstance(self._generations, TellsLater):
                await self._generations.tell_later(scopes)
