"""A pool of connections with figures.

Taking a free connection costs a microsecond and no turn of the event loop; SQLAlchemy's
asynchronous pool costs more than a round trip to the database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

from jts_storage._runtime.pools import PoolStatus
from jts_storage._runtime.steps import WAITED, tell
from jts_storage.errors import PoolTimeout, StorageError
from jts_storage.relational.link import Link

L = TypeVar("L", bound=Link)


class ConnectionPool(Generic[L]):
    """At most `max_connections`, handed out in the order they were asked for.

    It belongs to the event loop it was made in.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[L]],
        *,
        max_connections: int,
        connection_timeout: float,
        recycle: float,
        target: str,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._connect = connect
        self._max = max_connections
        self._timeout = connection_timeout
        self._recycle = recycle
        self._target = target
        self._idle: list[L] = []
        self._active: set[L] = set()
        self._reserved = self._timeouts = 0
        self._waiting: deque[asyncio.Future[L | None]] = deque()
        self._endings: set[asyncio.Task[None]] = set()
        self._drained: asyncio.Future[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"ConnectionPool({self._target!r}, max_connections={self.max_connections}, "
            f"active_connections={self.active_connections}, "
            f"available_connections={self.available_connections})"
        )

    @property
    def max_connections(self) -> int:
        return self._max

    @property
    def active_connections(self) -> int:
        """Connections in use, being opened or being closed."""
        return len(self._active) + self._reserved

    @property
    def available_connections(self) -> int:
        """How many more callers get a connection without waiting."""
        return self._max - self.active_connections

    @property
    def open_connections(self) -> int:
        return len(self._active) + self._reserved + len(self._idle)

    @property
    def status(self) -> PoolStatus:
        """All the figures at this moment."""
        return PoolStatus(
            capacity=self._max,
            open=self.open_connections,
            in_use=self.active_connections,
            waiting=sum(not waiter.done() for waiter in self._waiting),
            timeouts=self._timeouts,
        )

    @property
    def connection_timeout(self) -> float:
        """Seconds a caller waits for a free connection before `PoolTimeout`."""
        return self._timeout

    @property
    def is_closed(self) -> bool:
        return self._closed

    def take_idle(self) -> L | None:
        """A connection that is open and free; None when one has to be opened or waited for."""
        while self._idle and not self._closed:
            link = self._idle.pop()
            self._active.add(link)
            if self._is_fit(link):
                return link
            self.discard(link)
        return None

    async def acquire(self) -> L:
        """:raises PoolTimeout: all stayed busy for `connection_timeout` seconds."""
        if (link := self.take_idle()) is not None:
            return link
        if self._closed:
            raise self._closed_error()
        if self.open_connections < self._max:
            self._reserved += 1
        elif (handed := await self._wait()) is not None:
            return handed
        return await self._open()

    def release(self, link: L) -> None:
        """Take back a connection that is fit for the next caller."""
        link.idle_since = monotonic()
        if self._closed or not self._is_fit(link):
            self.discard(link)
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(link)
        else:
            self._active.discard(link)
            self._idle.append(link)

    def discard(self, link: L) -> None:
        """Take back a broken connection and close it in the background."""
        self._active.discard(link)
        # Its place stays taken until it is closed: the server may allow no connection more.
        self._reserved += 1
        ending = self.loop.create_task(self._end(link))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def close(self, timeout: float) -> bool:
        """Refuse new callers, wait for the running ones, then close.

        :returns: whether all of them finished within `timeout` seconds.
        """
        self._closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(self._closed_error())
        graceful = await self._drain(timeout)
        for link in [*self._active]:
            self.discard(link)
        while self._idle:
            link = self._idle.pop()
            self.discard(link)
        if self._endings:
            await asyncio.wait([*self._endings], timeout=timeout)
        return graceful

    def abandon(self) -> None:
        """Drop all connections, from another event loop than the pool's."""
        self._closed = True
        for link in [*self._idle, *self._active]:
            link.abandon()
        self._idle.clear()
        self._active.clear()

    def _is_fit(self, link: L) -> bool:
        """Whether the next caller may have it: it is open, and not too old."""
        return link.is_open and monotonic() - link.opened_at < self._recycle

    async def _drain(self, timeout: float) -> bool:
        if self.active_connections:
            self._drained = self.loop.create_future()
            await asyncio.wait([self._drained], timeout=timeout)
        return not self.active_connections

    async def _open(self) -> L:
        """Open a connection; its place in the pool is reserved already."""
        try:
            link = await self._connect()
        except BaseException:
            self._free_place()
            raise
        self._reserved -= 1
        link.opened_at = link.idle_since = monotonic()
        self._active.add(link)
        return link

    async def _end(self, link: L) -> None:
        try:
            await link.break_off()
        finally:
            self._free_place()

    async def _wait(self) -> L | None:
        """A connection handed over, or None for a place to open one in."""
        tell(WAITED)
        waiter: asyncio.Future[L | None] = self.loop.create_future()
        self._waiting.append(waiter)
        alarm = self.loop.call_later(self._timeout, self._expire, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._hand_on(waiter.result())
            raise
        finally:
            alarm.cancel()

    def _hand_on(self, handed: L | None) -> None:
        if handed is None:
            self._free_place()
        else:
            self.release(handed)

    def _expire(self, waiter: asyncio.Future[L | None]) -> None:
        if not waiter.done():
            self._waiting.remove(waiter)
            self._timeouts += 1
            waiter.set_exception(
                PoolTimeout(
                    f"No free database connection within {self._timeout:g} s: all {self._max} "
                    f"to {self._target} stayed busy.",
                    remedy="Raise pool_size or pool_timeout, or hold connections for less long.",
                )
            )

    def _free_place(self) -> None:
        if (waiter := self._next_waiter()) is not None:
            waiter.set_result(None)
        else:
            self._reserved -= 1
            self._note_drained()

    def _next_waiter(self) -> asyncio.Future[L | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _note_drained(self) -> None:
        if self._drained is not None and not self.active_connections and not self._drained.done():
            self._drained.set_result(None)

    def _closed_error(self) -> StorageError:
        return StorageError(
            f"The pool of {self._target} is closed.", remedy="Open it again before using it."
        )
