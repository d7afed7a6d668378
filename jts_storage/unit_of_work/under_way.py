"""The commits of this process that have begun and not ended, which closing waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jts_storage.errors import StorageError


class Commits:
    """The commits under way, with the delivery of their events."""

    def __init__(self) -> None:
        self._under_way = 0
        self._none_left = asyncio.Event()
        self._is_over = False
        self._behind: set[asyncio.Task[object]] = set()
        """Kept until they are done: a loop alone does not keep its tasks."""

    @contextmanager
    def one(self) -> Iterator[None]:
        """:raises StorageError: the stores are being closed."""
        if self._is_over:
            raise StorageError(
                "This storage was closed before the commit; nothing of it is stored.",
                remedy="Open it again and repeat.",
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._end()

    def behind(self, work: Coroutine[Any, Any, object]) -> None:
        """Run what a commit leaves to be done behind it; closing waits for it, too."""
        self._under_way += 1
        task = asyncio.create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: asyncio.Task[object]) -> None:
        self._behind.discard(task)
        self._end()

    def _end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._none_left.set()

    async def ended(self, seconds: float) -> None:
        """Let none begin from now on, and wait for the others for so long."""
        self._is_over = True
        if self._under_way:
            self._none_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._none_left.wait()
