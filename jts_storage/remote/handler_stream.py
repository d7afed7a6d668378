"""One stream on which a gateway gives events to the handlers of this process."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Any, Final

import grpc
from grpc import aio

from jts_storage._runtime.steps import carried
from jts_storage._runtime.tasks import stopped
from jts_storage.ports.events import EventPublisher
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote import problems
from jts_storage.remote.connection import Connection
from jts_storage.remote.protocol import path_of
from jts_storage.unit_of_work.delivery import published
from jts_storage.unit_of_work.staged import event_of

_END_SECONDS: Final = 2.0
_WHAT: Final = "handlers of events"

log = logging.getLogger(__name__)


class HandlerStream:
    """It belongs to one gateway, and is of no use once that is lost.

    Handlers that run then are cancelled: the gateway frees their keys, and who hears them next may
    be elsewhere.
    """

    def __init__(self, connection: Connection, publisher: EventPublisher) -> None:
        self._connection, self._publisher = connection, publisher
        self.address = connection.address
        self._types: frozenset[str] | None = None
        self._failure: aio.AioRpcError | None = None
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._handling: dict[int, asyncio.Task[None]] = {}
        self._last_of: dict[str, asyncio.Task[None]] = {}
        """By key, whose events are handled one after the other."""

        loop = asyncio.get_running_loop()
        self._listens: asyncio.Future[None] = loop.create_future()
        self._moved_at = loop.time()
        self._requests: asyncio.Queue[pb.HandlersRequest | None] = asyncio.Queue()
        opened = connection.channel.stream_stream(
            path_of("Gateway", "Handle"),
            request_serializer=pb.HandlersRequest.SerializeToString,
            response_deserializer=pb.HandlersAnswer.FromString,
        )
        self._call: Any = opened(self._written(), metadata=connection.metadata)
        self._reading = asyncio.create_task(self._read())

    @property
    def is_lost(self) -> bool:
        return self._reading.done()

    async def lost(self, within: float) -> None:
        """Return once it is lost, or after so many seconds."""
        await asyncio.wait([self._reading], timeout=within)

    async def begin(self, types: frozenset[str]) -> None:
        """Return once the gateway listens.

        :raises AioRpcError: it does not.
        :raises UnknownCall: it is of an earlier release.
        :raises GatewaySilent: it did not say so in time.
        """
        self.hear(types)
        try:
            await self._told(self._listens)
        except aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise problems.UnknownCall("The gateway delivers to no handlers.") from exc
            raise

    def hear(self, types: frozenset[str]) -> None:
        if types != self._types:
            self._types = types
            self._send(hears=pb.Hears(types=sorted(types)))

    async def deliver(self, keys: Sequence[str]) -> None:
        """Return once the gateway has delivered the first events of these keys, or left them.

        :raises GatewayAway: the stream was lost.
        :raises GatewaySilent: nothing comes, although no handler runs.
        """
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self.deliver_soon(keys, number)
        try:
            await self._told(answer)
        except aio.AioRpcError as exc:
            raise self._connection.error_of(exc, "delivering events", self.address) from exc
        finally:
            self._asked.pop(number, None)

    def deliver_soon(self, keys: Sequence[str], number: int = 0) -> None:
        self._send(deliver=pb.DeliverEvents(number=number, keys=keys))

    async def end(self) -> None:
        """Free the keys of what is handled: it comes again, to whoever hears it."""
        handling = list(self._handling.values())
        for task in handling:
            task.cancel()
        for task in handling:
            await stopped(task)
        self._requests.put_nowait(None)
        await self.lost(_END_SECONDS)
        self._call.cancel()
        await stopped(self._reading)

    async def _told(self, answer: asyncio.Future[None]) -> None:
        seconds = self._connection.config.timeout
        loop = asyncio.get_running_loop()
        while not answer.done() and not self.is_lost:
            await asyncio.wait(
                [answer, self._reading], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            is_idle = not self._handling and loop.time() - self._moved_at >= seconds
            if is_idle and not answer.done() and not self.is_lost:
                self._call.cancel()
                raise problems.too_slow(self.address, seconds)
        if answer.done():
            return
        if self._failure is not None:
            raise self._failure
        raise problems.away(f"The gateway at {self.address} ended a stream.", self.address)

    def _send(self, **step: Any) -> None:
        self._moved_at = asyncio.get_running_loop().time()
        self._requests.put_nowait(pb.HandlersRequest(**step))

    async def _written(self) -> AsyncIterator[pb.HandlersRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _read(self) -> None:
        try:
            async for answer in self._call:
                self._moved_at = asyncio.get_running_loop().time()
                self._take(answer)
        except aio.AioRpcError as exc:
            self._failure = exc
        finally:
            for task in self._handling.values():
                task.cancel()

    def _take(self, answer: pb.HandlersAnswer) -> None:
        step = answer.WhichOneof("step")
        if step == "listening":
            if not self._listens.done():
                self._listens.set_result(None)
        elif step == "given":
            self._begin_handling(answer.given)
        elif step == "dropped":
            task = self._handling.get(answer.dropped)
            if task is not None:
                task.cancel()
        elif step == "delivered":
            waiting = self._asked.get(answer.delivered)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    def _begin_handling(self, given: pb.GivenEvent) -> None:
        number, key = given.number, given.event.key
        task = asyncio.create_task(self._handle(given, self._last_of.get(key)))
        self._handling[number] = self._last_of[key] = task

        def ended(_: object) -> None:
            del self._handling[number]
            if self._last_of.get(key) is task:
                del self._last_of[key]

        task.add_done_callback(ended)

    async def _handle(self, given: pb.GivenEvent, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # it was dropped, but may take a moment to end
            await asyncio.wait([before])
        handled = pb.HandledEvent(number=given.number)
        carried.set(given.trace or None)  # this task is the event's alone
        about = {"event_id": given.event.id}
        try:
            event = event_of(given.event.class_name, json.loads(given.event.data))
        except Exception:
            # The class is the service's own, and its next release may raise anything for old data.
            log.warning("A stored event is refused by its class.", exc_info=True, extra=about)
            handled.has_failed = True
        else:
            if event is None:
                handled.is_unknown = True
            else:
                handled.has_failed = not await published(self._publisher, event)
        self._send(handled=handled)
