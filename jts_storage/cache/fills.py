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

    async def one(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives, which is called unless it is under way for the same key already.

        Who is cancelled leaves it to the others.
        """
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.ensure_future(read())
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        caller = asyncio.current_task()
        before = 0 if caller is None else caller.cancelling()
        try:
            found: T = await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            is_callers = caller is not None and caller.cancelling() > before
            if is_callers or not task.cancelled():
                raise
            raise StorageError(
                "This storage is not open.", remedy="Use it within `async with`."
            ) from exc
        return found

    async def close(self) -> None:
        for task in list(self._under_way.values()):
            await stopped(task)

    def _ended(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # somebody else's, if all who waited have gone
