"""Blocking twins behind the asynchronous interface, so that the contracts can use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

from jts_storage import sync
from jts_storage.sync.repositories import RateLimiter


class Awaitable:
    """A blocking repository behind the asynchronous interface, so that the suites can use it."""

    def __init__(self, blocking: object) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._blocking, name)
        if name in {"stream", "stream_panels", "trades"}:
            return lambda *args, **kwargs: _items(method(*args, **kwargs))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return call


async def _items(items: Iterator[Any]) -> AsyncIterator[Any]:
    nothing = object()
    while (item := await asyncio.to_thread(next, items, nothing)) is not nothing:
        yield item


class AwaitableStorage:
    """A blocking storage behind the asynchronous interface, as far as suites use it."""

    def __init__(self, storage: sync.Storage) -> None:
        self._storage = storage

    @property
    def events(self) -> Any:
        return self._storage.events

    def subscribe(self, *args: Any, **kwargs: Any) -> AwaitableBlock:
        return AwaitableBlock(self._storage.subscribe(*args, **kwargs))

    def unit_of_work(self, **kwargs: Any) -> AwaitableBlock:
        return AwaitableBlock(self._storage.unit_of_work(**kwargs))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return Awaitable(self._storage).__getattr__(name)


class AwaitableBlock:
    """What is used in a ``with`` block: a blocking unit of work, or a subscription."""

    def __init__(self, blocking: Any) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        if name == "events":
            return self._blocking.events  # a collector waits for nothing
        if name == "plain":
            return lambda: _items(self._blocking.plain())
        return Awaitable(self._blocking).__getattr__(name)

    def __aiter__(self) -> AsyncIterator[Any]:
        return _items(iter(self._blocking))

    async def __anext__(self) -> Any:
        return await asyncio.to_thread(next, self._blocking)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._blocking.__enter__)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.to_thread(self._blocking.__exit__, *error)


class AwaitableLimiter:
    """A blocking limiter, whose slots are used in ``with`` blocks."""

    def __init__(self, blocking: RateLimiter) -> None:
        self._blocking = blocking

    def acquire(self, *args: Any, **kwargs: Any) -> AwaitableSlot:
        return AwaitableSlot(self._blocking.acquire(*args, **kwargs))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return Awaitable(self._blocking).__getattr__(name)


class AwaitableSlot(AwaitableBlock):
    async def __aenter__(self) -> Any:
        return await asyncio.to_thread(self._blocking.__enter__)
