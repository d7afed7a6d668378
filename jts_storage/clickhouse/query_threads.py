"""Threads for the blocking work of one pool of connections."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from jts_storage.errors import StorageError

_T = TypeVar("_T")


class QueryThreads:
    """Two queues: reads of candles, and all else, so that no write waits behind a crowd of readers.

    :param connections: those of the pool; one of them is left to what is no read of candles.
    :param is_embedded: whether the engine's work is done on the processors of this host, which
        more threads at once would only make slower.
    """

    def __init__(self, connections: int, *, is_embedded: bool) -> None:
        readers = max(connections - 1, 1)
        if is_embedded:
            readers = min(readers, (os.cpu_count() or 1) + 1)
        self._sizes = {"clickhouse": connections, "clickhouse-reads": readers}
        self._is_closed = False
        self.begin_in_child()

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, ThreadPoolExecutor] = {}

    async def run(self, call: Callable[[], _T], *, is_read: bool = False) -> _T:
        name = "clickhouse-reads" if is_read else "clickhouse"
        # Traces and what observes the call go along.
        work = partial(copy_context().run, call)
        return await asyncio.get_running_loop().run_in_executor(self._pool(name), work)

    def close(self) -> None:
        """Wait for what is under way; nothing begins after it."""
        with self._lock:
            self._is_closed = True
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.shutdown(wait=True)

    def _pool(self, name: str) -> ThreadPoolExecutor:
        with self._lock:
            if self._is_closed:
                raise StorageError(
                    "ClickHouse is closed.",
                    remedy="Open the storage again, or make a new ClickHouseManager.",
                )
            if name not in self._pools:
                self._pools[name] = ThreadPoolExecutor(self._sizes[name], name)
            return self._pools[name]
