"""Named subscriptions whose events come through a gateway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Any, Final

from grpc import aio

from jts_storage.domain.events import DomainEvent
from jts_storage.domain.subscriptions import From, Interest, SubscriptionState, subscription_name
from jts_storage.errors import InUse, StorageError
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote import problems, values
from jts_storage.remote.connection import Connection
from jts_storage.remote.events import delivery_of, message_of
from jts_storage.remote.protocol import path_of
from jts_storage.remote.repositories import RemoteStorage
from jts_storage.remote.target import Target
from jts_storage.unit_of_work.subscription import Delivery, EventSubscription

_END_SECONDS: Final = 5.0
_ATTEMPTS: Final = 20
_LEASE_SECONDS: Final = 70.0
"""For so long a lost gateway may still count as the consumer: its lease, and a little."""

_PAUSE_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class RemoteSubscriptions:
    """The `Subscriptions` of a gateway."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._storage = RemoteStorage(Target(connection, "Storage"))

    def subscribe(
        self, name: str, *types: str | type[DomainEvent], from_: From, durable: bool
    ) -> EventSubscription:
        interest = Interest.checked(name, types, from_, durable=durable)
        return EventSubscription(interest, RemoteSource(self._connection, interest))

    async def unsubscribe(self, name: str) -> bool:
        return await self._storage.unsubscribe(subscription_name(name))

    async def list(self) -> Sequence[SubscriptionState]:
        return await self._storage.subscriptions()


class RemoteSource:
    """What a gateway stores for one subscription.

    Where the gateway is lost, a durable one goes on at the next: what was not acknowledged comes
    again. One that is not durable has missed events by then, and says so.
    """

    def __init__(self, connection: Connection, interest: Interest) -> None:
        self._connection, self._interest = connection, interest
        self._stream: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[list[pb.StoredDelivery]]] = {}
        self._came: dict[int, list[pb.StoredDelivery]] = {}
        self._opening = asyncio.Lock()
        self._address = connection.address

    async def begin(self) -> None:
        await self._connection.repeat("subscribing", self._begin)

    async def end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        with suppress(aio.AioRpcError, asyncio.InvalidStateError, TimeoutError, StorageError):
            await stream.done_writing()
            if self._reading is not None:
                async with asyncio.timeout(_END_SECONDS):
                    await asyncio.wait([self._reading])
        stream.cancel()
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def read(self) -> Sequence[Delivery]:
        return [delivery_of(each) for each in await self._ask(read=pb.ReadEvents())]

    async def wait(self) -> None:
        await self._ask(wait=pb.WaitForEvents())

    async def acknowledge(self, places: Sequence[Any]) -> None:
        step = pb.AcknowledgeEvents()
        for place in places:
            values.fill(step.places.add(), place, "place")
        await self._ask(acknowledge=step)

    async def park(self, delivery: Delivery) -> None:
        await self._ask(park=message_of(delivery))

    async def _ask(self, **step: Any) -> list[pb.StoredDelivery]:
        """Ask, and again of the next gateway: each step may be taken twice."""
        for _ in range(_ATTEMPTS):
            stream = self._stream
            try:
                return await self._ask_once(**step)
            except problems.GatewayAway as exc:
                if self._connection.is_closed:
                    raise StorageError(
                        "This storage was closed.", remedy="Open it again, and subscribe again."
                    ) from exc
                if not self._interest.is_durable:
                    exc.args = (f"Events may have been missed: {exc.args[0]}",)
                    raise
                self._connection.use_next(self._address)
                async with self._opening:
                    if self._stream is stream:  # nobody else has opened it again meanwhile
                        await self._begin_elsewhere()
        return await self._ask_once(**step)

    async def _begin_elsewhere(self) -> None:
        """Go on at the next gateway. Where the host of the one before is gone, its lease is not."""
        end = monotonic() + _LEASE_SECONDS
        while True:
            try:
                await self.begin()
            except InUse as exc:
                if monotonic() > end:
                    raise
                log.warning("A subscription goes on once it is free: %s", exc)
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _begin(self) -> None:
        """Open the stream, and have the gateway take the subscription."""
        if self._reading is not None:
            # When it ends it fails all that is asked, which must not be what is asked from now on.
            self._stream.cancel()
            await asyncio.wait([self._reading])
        method = "Subscribe" if self._interest.is_durable else "Listen"
        opened = self._connection.channel.stream_stream(
            path_of("Gateway", method),
            request_serializer=pb.SubscriptionRequest.SerializeToString,
            response_deserializer=pb.SubscriptionAnswer.FromString,
        )
        self._address = self._connection.address
        self._stream = opened(metadata=self._connection.metadata)
        self._reading = asyncio.create_task(self._read_answers(self._stream))
        interest = self._interest
        try:
            await self._ask_once(
                interest=pb.Interest(
                    name=interest.name,
                    types=sorted(interest.types),
                    from_stored=interest.from_stored,
                )
            )
        except BaseException:
            # Or the gateway would hold the subscription for somebody who has given up.
            self._stream.cancel()
            raise

    async def _ask_once(self, **step: Any) -> list[pb.StoredDelivery]:
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            if self._reading is None or self._reading.done():
                raise self._lost()
            await self._stream.write(pb.SubscriptionRequest(number=number, **step))
        except (aio.AioRpcError, asyncio.InvalidStateError) as exc:
            self._asked.pop(number)
            raise self._lost(exc) from exc
        except StorageError:
            self._asked.pop(number)
            raise
        # For events it may have to wait as long as there are none.
        seconds = None if "wait" in step else self._connection.config.timeout
        try:
            async with asyncio.timeout(seconds):
                found: list[pb.StoredDelivery] = await answer
        except TimeoutError:
            # Not used again: what it still sends would be taken for told.
            self._stream.cancel()
            raise problems.too_slow(self._address, self._connection.config.timeout) from None
        return found

    async def _read_answers(self, stream: Any) -> None:
        failure: StorageError | None = None
        try:
            while (answer := await stream.read()) is not aio.EOF:
                self._take(answer)
        except aio.AioRpcError as exc:
            failure = self._lost(exc)
        finally:
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(failure or self._lost())
            self._asked.clear()
            self._came.clear()

    def _take(self, answer: pb.SubscriptionAnswer) -> None:
        if answer.goes_on:
            self._came.setdefault(answer.number, []).extend(answer.deliveries)
            return
        came = [*self._came.pop(answer.number, []), *answer.deliveries]
        waiting = self._asked.pop(answer.number, None)
        if waiting is None or waiting.done():  # whoever asked was cancelled
            return
        if answer.HasField("problem"):
            waiting.set_exception(problems.error_of(answer.problem))
        else:
            waiting.set_result(came)

    def _lost(self, exc: BaseException | None = None) -> StorageError:
        if isinstance(exc, aio.AioRpcError):
            error = self._connection.error_of(exc, "a subscription", self._address)
            if not isinstance(error, problems.GatewayAway):
                return error
        return problems.away(f"The gateway at {self._address} ended a subscription.", self._address)
