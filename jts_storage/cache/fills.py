"""One reading of the database for all who ask the same at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from jts_storage._runtime.tasks import stopped
from jts_storage.errors import StorageError

T = TypeVar("T")


class Fills:
    """The readings under way in this process; it belongs to one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._next: dict[Hashable, asyncio.Task[Any]] = {}
        self._begun: dict[Hashable, asyncio.Task[Any]] = {}

    async def one(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives, which is called unless it is under way for the same key already.

        Who is cancelled leaves it to the others.
        """
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.ensure_future(read())
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await _joined(task)

    async def later(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """What a reading gives that begins from now on, for all who wait for it.

        One that has begun may lack what was written since, and where nothing tells whether
        anything was, nobody may take its answer who comes after.
        """
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.ensure_future(self._after_this(key, read))
            task.add_done_callback(lambda done: self._let_go(key, done))
        return await _joined(task)

    async def _after_this(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        if (running := self._begun.get(key)) is not None:
            await asyncio.wait([running])
        del self._next[key]  # whoever comes from now on is too late for this one
        self._begun[key] = task
        return await read()

    def _let_go(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        for tasks in (self._next, self._begun):
            if tasks.get(key) is task:
                del tasks[key]
        _heard(task)

    async def close(self) -> None:
        for task in [*self._next.values(), *self._begun.values(), *self._under_way.values()]:
            await stopped(task)

    def _ended(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._under_way.pop(key, None)
        _heard(task)


def _heard(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # somebody else's, if all who waited have gone


async def _joined(task: asyncio.Task[T]) -> T:
    """Its result. Who is cancelled leaves it to the others."""
    caller = asyncio.current_task()
    before = 0 if caller is None else caller.cancelling()
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as exc:
        is_callers = caller is not None and caller.cancelling() > before
        if is_callers or not task.cancelled():
            raise
        raise StorageError(
            "This storage is not open.", remedy="Use it within `async with`."
        ) from exc
