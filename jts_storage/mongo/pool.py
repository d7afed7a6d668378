"""What the driver's pools say of themselves, which it tells by events alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final
from weakref import WeakSet

from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutFailedReason,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)

from jts_storage._runtime.pools import PoolStatus
from jts_storage._runtime.steps import WAITED, tell

_DRIVERS_OWN: Final = 100
"""Connections to a server where nothing says how many."""


@dataclass(slots=True)
class _Server:
    """The pool of one server; connections by their number."""

    capacity: float = inf
    open: set[int] = field(default_factory=set)
    in_use: set[int] = field(default_factory=set)


class PoolEvents(ConnectionPoolListener):
    """Counts the connections of one client, which has a pool for each server.

    The client calls it within the event loop, and within the task that wants a connection. Where a
    task is cancelled, some events never come; so connections and tasks are known one by one, and
    the next event of each sets right what it missed.
    """

    def __init__(self) -> None:
        self._servers: defaultdict[object, _Server] = defaultdict(_Server)
        self._waiting: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._timeouts = 0

    @property
    def status(self) -> PoolStatus:
        """The figures now, of all servers together."""
        servers = list(self._servers.values())
        return PoolStatus(
            capacity=sum(each.capacity for each in servers),
            open=sum(len(each.open) for each in servers),
            in_use=sum(len(each.in_use) for each in servers),
            waiting=sum(not each.done() for each in tuple(self._waiting)),
            timeouts=self._timeouts,
        )

    def pool_created(self, event: PoolCreatedEvent) -> None:
        most = (event.options or {}).get("maxPoolSize", _DRIVERS_OWN)
        self._servers[event.address].capacity = most or inf

    def pool_closed(self, event: PoolClosedEvent) -> None:
        self._servers.pop(event.address, None)

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        self._servers[event.address].open.add(event.connection_id)

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        if (server := self._servers.get(event.address)) is not None:
            server.open.discard(event.connection_id)
            server.in_use.discard(event.connection_id)

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        server = self._servers[event.address]
        if len(server.in_use) >= server.capacity:
            tell(WAITED)
        if (task := asyncio.current_task()) is not None:
            self._waiting.add(task)

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        self._waits_no_more()
        self._servers[event.address].in_use.add(event.connection_id)

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        self._waits_no_more()
        self._timeouts += event.reason == ConnectionCheckOutFailedReason.TIMEOUT

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        if (server := self._servers.get(event.address)) is not None:
            server.in_use.discard(event.connection_id)

    def _waits_no_more(self) -> None:
        if (task := asyncio.current_task()) is not None:
            self._waiting.discard(task)

    def pool_ready(self, event: PoolReadyEvent) -> None:
        """Says nothing of how many there are."""

    def pool_cleared(self, event: PoolClearedEvent) -> None:
        """Says nothing of how many there are: those that are closed are told one by one."""

    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        """Says nothing of how many there are."""
