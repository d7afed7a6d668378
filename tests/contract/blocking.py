"""Blocking twins behind the asynchronous interface, so that the contracts can use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any


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
