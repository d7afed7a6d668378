"""Subscriptions of clients: each a stream, which consumes one of this process's stores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from grpc import aio

from jts_storage._runtime.tasks import stopped
from jts_storage.domain.subscriptions import Interest
from jts_storage.errors import InvalidData
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote import problems, values
from jts_storage.remote.events import delivery_of, message_of
from jts_storage.remote.parts import PIECE_BYTES
from jts_storage.remote.server.calls import Context, answering, as_known, read_until
from jts_storage.remote.server.calls import message_of as decoded
from jts_storage.remote.server.served import ServedBackend
from jts_storage.unit_of_work.subscription import Delivery, Source

_WHAT: Final = "a subscription"


class Consumers:
    """The subscriptions of all clients."""

    def __init__(self, backend: ServedBackend) -> None:
        self._backend = backend
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """Let all of them go on elsewhere: the gateway is to stop."""
        self._is_over.set()

    async def subscribe(self, _: Any, context: Context) -> None:
        await self._consume(context, is_durable=True)

    async def listen(self, _: Any, context: Context) -> None:
        await self._consume(context, is_durable=False)

    async def _consume(self, context: Context, *, is_durable: bool) -> None:
        async with answering(context, _WHAT, is_stream=True):
            given = await context.read()
            if given is aio.EOF:
                return
            first = decoded(pb.SubscriptionRequest, given)
            if first.WhichOneof("step") != "interest":
                raise InvalidData("must say its interest first", field="step")
            asked = first.interest
            interest = Interest.checked(
                asked.name,
                list(asked.types),
                "stored" if asked.from_stored else "now",
                durable=is_durable,
            )
            source = self._backend.subscriptions.source(interest)
            await source.begin()
            try:
                await context.write(pb.SubscriptionAnswer(number=first.number))
                await _Consumer(source, context).run(self._is_over)
            finally:
                await source.end()


class _Consumer:
    """One of them. Who waits for events may acknowledge others meanwhile."""

    def __init__(self, source: Source, context: Context) -> None:
        self._source, self._context = source, context
        self._waiting: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    async def run(self, is_over: asyncio.Event) -> None:
        over = asyncio.create_task(is_over.wait())
        try:
            while (given := await read_until(self._context, over)) is not aio.EOF:
                request = decoded(pb.SubscriptionRequest, given)
                if request.WhichOneof("step") == "wait":
                    task = asyncio.create_task(self._answer(request))
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
                else:
                    await self._answer(request)
        finally:
            ending: list[asyncio.Task[Any]] = [over, *self._waiting]
            for task in ending:
                await stopped(task)

    async def _answer(self, request: pb.SubscriptionRequest) -> None:
        try:
            found = await self._taken(request)
        except Exception as exc:  # noqa: BLE001 - the subscription goes on
            problem = problems.problem_of(as_known(exc, _WHAT))
            await self._write(pb.SubscriptionAnswer(number=request.number, problem=problem))
            return
        await self._send(request.number, [message_of(each) for each in found])

    async def _taken(self, request: pb.SubscriptionRequest) -> Sequence[Delivery]:
        step = request.WhichOneof("step")
        if step == "read":
            return await self._source.read()
        if step == "wait":
            await self._source.wait()
        elif step == "acknowledge":
            await self._source.acknowledge(
                [values.read(each) for each in request.acknowledge.places]
            )
        elif step == "park":
            await self._source.park(delivery_of(request.park))
        else:
            raise InvalidData("is no step that is known here", field="step", value=step)
        return ()

    async def _send(self, number: int, deliveries: Sequence[pb.StoredDelivery]) -> None:
        """Answer, in several messages if need be."""
        together: list[pb.StoredDelivery] = []
        size = 0
        for each in deliveries:
            size += each.ByteSize()
            if together and size > PIECE_BYTES:
                part = pb.SubscriptionAnswer(number=number, deliveries=together, goes_on=True)
                await self._write(part)
                together, size = [], each.ByteSize()
            together.append(each)
        await self._write(pb.SubscriptionAnswer(number=number, deliveries=together))

    async def _write(self, answer: pb.SubscriptionAnswer) -> None:
        async with self._writing:
            await self._context.write(answer)
