"""Handlers of clients: each client a stream, on which it gets events to handle, one a key.

The gateway delivers for it as a process does for its own handlers: it holds the leases on keys,
forgets what was handled, and counts what fails. A client that is gone has failed at nothing.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from typing import Any, Final

from grpc import aio

from jts_storage._runtime.steps import carried
from jts_storage._runtime.tasks import run_to_the_end, stopped
from jts_storage.domain.subscriptions import PlainEvent
from jts_storage.errors import InvalidData, StorageError
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote.events import event_message
from jts_storage.remote.protocol import MESSAGE_BYTES
from jts_storage.remote.server.calls import Context, answering, message_of, read_until
from jts_storage.remote.server.served import ServedBackend
from jts_storage.unit_of_work.delivery import PATIENCE, Delivery, UnknownClass

_WHAT: Final = "handlers of events"
_TYPES: Final = 10_000
_KEYS: Final = 10_000
_AT_ONCE: Final = 50
"""Commits whose events are delivered side by side for one client; those of more wait a moment."""

_LARGEST: Final = MESSAGE_BYTES - 2**10

log = logging.getLogger(__name__)


class Listeners:
    """The clients that have handlers."""

    def __init__(self, backend: ServedBackend) -> None:
        self._backend = backend
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """Let all of them go on elsewhere: the gateway is to stop."""
        self._is_over.set()

    async def listen(self, _: Any, context: Context) -> None:
        async with answering(context, _WHAT, is_stream=True):
            client = _Client(context)
            await client.run(self._backend.subscriptions.delivery_to(client), self._is_over)


class _Client:
    """One of them, as its `Delivery` sees it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._types: frozenset[str] = frozenset()
        self._numbers = count(1)
        self._given: dict[int, asyncio.Future[pb.HandledEvent]] = {}
        """What the client was given and has not answered, by numbers that it can only be told."""

        self._delivering: set[asyncio.Task[None]] = set()
        self._answers: asyncio.Queue[pb.HandlersAnswer] = asyncio.Queue()

    def hears(self, event_type: str, /) -> bool:
        return event_type in self._types

    async def publish(self, event: PlainEvent, /) -> int:
        number = next(self._numbers)
        given = pb.GivenEvent(number=number, event=event_message(event), trace=carried.get())
        if given.ByteSize() > _LARGEST:
            raise StorageError(f"Event {event.id} is larger than a message to a client.")
        self._given[number] = asyncio.get_running_loop().create_future()
        self._answers.put_nowait(pb.HandlersAnswer(given=given))
        try:
            handled = await self._given[number]
        except asyncio.CancelledError:
            self._answers.put_nowait(pb.HandlersAnswer(dropped=number))
            raise
        finally:
            del self._given[number]
        if handled.is_unknown:
            raise UnknownClass
        return int(handled.has_failed)

    async def run(self, delivery: Delivery, is_over: asyncio.Event) -> None:
        over = asyncio.create_task(is_over.wait())
        writing = asyncio.create_task(self._write())
        try:
            while (given := await read_until(self._context, over, writing)) is not aio.EOF:
                self._take(message_of(pb.HandlersRequest, given), delivery)
        finally:
            await run_to_the_end(self._end(delivery, over, writing))

    async def _end(self, delivery: Delivery, *tasks: asyncio.Task[Any]) -> None:
        """Free the keys at once: what the client has in hand counts as not attempted."""
        ending = [*self._delivering, *tasks]
        for task in ending:
            task.cancel()
        await delivery.close()
        for task in ending:
            await stopped(task)
            if not task.cancelled():
                task.exception()  # a client that is gone is nothing to tell of

    async def _write(self) -> None:
        while True:
            answer = await self._answers.get()
            # Else all that it is given would be kept here for a client that reads nothing.
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await self._context.write(answer)

    def _take(self, request: pb.HandlersRequest, delivery: Delivery) -> None:
        step = request.WhichOneof("step")
        if step == "hears":
            self._hear(request.hears, delivery)
        elif step == "deliver":
            self._deliver(request.deliver, delivery)
        elif step == "handled":
            waiting = self._given.get(request.handled.number)
            if waiting is not None and not waiting.done():  # else too late, or never given
                waiting.set_result(request.handled)
        else:
            raise InvalidData("is no step that is known here", field="step", value=step)

    def _hear(self, hears: pb.Hears, delivery: Delivery) -> None:
        if len(hears.types) > _TYPES:
            raise InvalidData(f"must be at most {_TYPES:,}", field="types")
        self._types = frozenset(hears.types)
        self._answers.put_nowait(pb.HandlersAnswer(listening=pb.Listening()))
        # Not now: what is asked for next, after a commit, would find its key taken by this look.
        delivery.deliver_soon()

    def _deliver(self, asked: pb.DeliverEvents, delivery: Delivery) -> None:
        if len(asked.keys) > _KEYS:
            raise InvalidData(f"must be at most {_KEYS:,}", field="keys")
        if len(self._delivering) >= _AT_ONCE:
            delivery.deliver_soon()
            self._answers.put_nowait(pb.HandlersAnswer(delivered=asked.number))
            return
        task = asyncio.create_task(self._delivered(asked, delivery))
        self._delivering.add(task)
        task.add_done_callback(self._delivering.discard)

    async def _delivered(self, asked: pb.DeliverEvents, delivery: Delivery) -> None:
        try:
            await delivery.deliver_keys(asked.keys)
        except StorageError:
            log.warning("Events of a client's commit were not delivered yet.", exc_info=True)
            delivery.deliver_soon()
        self._answers.put_nowait(pb.HandlersAnswer(delivered=asked.number))
