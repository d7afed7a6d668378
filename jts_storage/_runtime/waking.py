"""Waking those who wait for something that another task, or another thread, brings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from jts_storage.errors import StorageError


class Waiter:
    """Waits in one event loop; it may be woken from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._is_over = False

    def wake(self, *, for_good: bool = False) -> None:
        """:param for_good: there is nothing to wait for any more."""
        self._is_over |= for_good
        with suppress(RuntimeError):  # its loop is closed, and nobody waits there
            self._loop.call_soon_threadsafe(self._woken.set)

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is woken, or was since it waited last; False if that took too long.

        :raises StorageError: there is nothing to wait for any more.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        if self._is_over:
            raise StorageError("This storage was closed meanwhile.", remedy="Open it again.")
        return True


class Waiters:
    """Those who wait for the same."""

    def __init__(self) -> None:
        self._waiting: set[Waiter] = set()

    @contextmanager
    def one(self) -> Iterator[Waiter]:
        """One more, as long as the block runs."""
        waiter = Waiter()
        self._waiting.add(waiter)
        try:
            yield waiter
        finally:
            self._waiting.discard(waiter)

    def wake(self, *, for_good: bool = False) -> None:
        # A copy made at once: other threads come and go.
        for waiter in tuple(self._waiting):
            waiter.wake(for_good=for_good)
