"""Handlers of this process whose events a gateway delivers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from jts_storage._runtime.tasks import stopped
from jts_storage.domain.events import DomainEvent
from jts_storage.errors import StorageError
from jts_storage.ports.events import EventPublisher
from jts_storage.remote import problems
from jts_storage.remote.connection import Connection
from jts_storage.remote.handler_stream import HandlerStream
from jts_storage.remote.parts import PIECE_BYTES
from jts_storage.remote.protocol import HANDLERS
from jts_storage.remote.repositories import RemoteStorage
from jts_storage.remote.target import Target
from jts_storage.unit_of_work.delivery import published
from jts_storage.unit_of_work.staged.events import known_types

_LOOK_SECONDS: Final = 1.0
_LONGEST_PAUSE: Final = 15.0
_ATTEMPTS: Final = 5
_KEYS_A_PIECE: Final = 1_000

log = logging.getLogger(__name__)


class RemoteHandlers:
    """The handlers of this process, to which a gateway delivers by a stream while there are any.

    A publisher says of any type whether it hears it, and of none when it begins to. So it is asked
    for those whose classes are known: now and then, and before each delivery.
    """

    def __init__(self, connection: Connection, publisher: EventPublisher) -> None:
        self._connection, self._publisher = connection, publisher
        self._stream: HandlerStream | None = None
        self._opening = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self._process = os.getpid()

    def begin(self) -> None:
        """Listen from now on, as soon as there are handlers."""
        self._process = os.getpid()
        if self._is_offered:
            self._keeping = asyncio.create_task(self._keep())

    async def end(self) -> None:
        keeping, self._keeping = self._keeping, None
        stream, self._stream = self._stream, None
        if os.getpid() != self._process:  # both are its parent's
            return
        if keeping is not None:
            await stopped(keeping)
        if stream is not None:
            await stream.end()

    async def deliver(self, events: Sequence[DomainEvent]) -> None:
        """Return once the handlers have had what is heard of these events, or it waits.

        :raises StorageError: no gateway can be reached; what is stored waits.
        """
        heard = self._heard(events)
        if not heard:
            return
        if not self._is_offered:
            await self._deliver_here(heard)
            return
        try:
            await self._ask_to_deliver(_keys(heard))
        except problems.UnknownCall:
            await self._deliver_here(heard)

    def deliver_soon(self, events: Sequence[DomainEvent]) -> None:
        """Have them delivered, and do not wait; without a stream they are found when it opens."""
        stream = self._stream
        heard = self._heard(events)
        if heard and stream is not None and not stream.is_lost:
            for piece in _pieces(_keys(heard)):
                stream.deliver_soon(piece)

    @property
    def _is_offered(self) -> bool:
        """Whether the gateway's stores keep events, and it is of a release that delivers them."""
        return HANDLERS in self._connection.capabilities

    def _heard(self, events: Iterable[DomainEvent]) -> list[DomainEvent]:
        return [event for event in events if self._publisher.hears(event.event_type)]

    def _types(self) -> frozenset[str]:
        return frozenset(filter(self._publisher.hears, known_types()))

    async def _ask_to_deliver(self, keys: Sequence[str]) -> None:
        attempts = _ATTEMPTS
        while self._keeping is not None:
            stream = await self._opened()
            attempts -= 1
            try:
                for piece in _pieces(keys):
                    await stream.deliver(piece)
            except (problems.GatewayAway, problems.GatewaySilent):
                self._connection.use_next(stream.address)
                if not attempts:
                    raise
            else:
                return

    async def _opened(self) -> HandlerStream:
        """The stream, on which the gateway knows what is heard now."""
        async with self._opening:
            if self._stream is None or self._stream.is_lost:
                if self._stream is not None:
                    await self._stream.end()
                self._stream = await self._connection.repeat("opening a stream", self._begun)
            self._stream.hear(self._types())
            return self._stream

    async def _begun(self) -> HandlerStream:
        stream = HandlerStream(self._connection, self._publisher)
        try:
            await stream.begin(self._types())
        except BaseException:
            await stream.end()
            raise
        return stream

    async def _keep(self) -> None:
        pause = _LOOK_SECONDS
        while True:
            try:
                if self._stream is not None or self._types():
                    stream = await self._opened()
                    await stream.lost(within=_LOOK_SECONDS)
                    if stream.is_lost:
                        self._connection.use_next(stream.address)
                        await asyncio.sleep(self._connection.config.retry_base_delay)
                else:
                    await asyncio.sleep(_LOOK_SECONDS)
                pause = _LOOK_SECONDS
            except Exception:
                level = logging.WARNING if pause == _LOOK_SECONDS else logging.DEBUG
                log.log(level, "No events come for the handlers.", exc_info=True)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _deliver_here(self, heard: Sequence[DomainEvent]) -> None:
        """What stores in memory have is delivered by who committed it, and forgotten then."""
        handled = [event.id for event in heard if await published(self._publisher, event)]
        if not handled:
            return
        try:
            await RemoteStorage(Target(self._connection, "Storage")).delivered(handled)
        except StorageError:
            log.warning("Events that were handled may come again.", exc_info=True)


def _keys(events: Iterable[DomainEvent]) -> list[str]:
    return list(dict.fromkeys(event.key for event in events))


def _pieces(keys: Sequence[str]) -> Iterator[list[str]]:
    """So many keys as one message may have."""
    piece: list[str] = []
    size = 0
    for key in keys:
        size += 4 * len(key) + 8
        if piece and (size > PIECE_BYTES or len(piece) == _KEYS_A_PIECE):
            yield piece
            piece, size = [], 4 * len(key) + 8
        piece.append(key)
    if piece:
        yield piece
