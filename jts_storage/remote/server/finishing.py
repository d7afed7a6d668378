"""What dead processes left undone, finished for those who ask what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from jts_storage.errors import StorageError

_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


class Finishing:
    """Recoveries, one at a time, in the background.

    An outcome is certain whether every store has the commit or not: what keeps it from one of them,
    such as a store that is away or the lock of a process that hangs, must not keep the answer.

    :param recover: finishes all that can be.
    """

    def __init__(self, recover: Callable[[], Awaitable[object]]) -> None:
        self._recover = recover
        self._next: asyncio.Task[bool] | None = None
        self._running = asyncio.Lock()
        self._tasks: set[asyncio.Task[bool]] = set()

    async def for_a_moment(self) -> bool:
        """Wait for one that begins from now on, for some seconds; whether nothing is left."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        done, _ = await asyncio.wait([self._next], timeout=_SECONDS)
        if not done:
            log.warning("Commits are being finished in the background.")
        return bool(done) and all(task.result() for task in done)

    async def _run(self) -> bool:
        async with self._running:
            self._next = None  # who comes later may know of commits that this one does not see
            try:
                await self._recover()
            except StorageError:
                log.warning("Not all commits could be finished.", exc_info=True)
                return False
        return True
