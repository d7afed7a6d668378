"""Clients that say of events whatever they like: they get no more than they may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from grpc import aio

from jts_storage import DomainEvent
from jts_storage.proto.jts.storage.v1 import work_pb2 as pb
from jts_storage.remote.protocol import path_of
from jts_storage.remote.server import handlers
from tests.remote.handlers_net import (
    Net,
    embedded,
    net,
    no_looks,
    settings,
    tell,
)
from tests.waiting import until

__all__ = ["embedded", "net", "no_looks", "settings"]  # fixtures


@dataclass(frozen=True, kw_only=True)
class Large(DomainEvent):
    """More than a connection holds for somebody who does not read."""

    text: str = "x" * 7_000_000


class Raw:
    """A client that says whatever it likes."""

    def __init__(self, channel: aio.Channel) -> None:
        self.stream: Any = channel.stream_stream(
            path_of("Gateway", "Handle"),
            request_serializer=pb.HandlersRequest.SerializeToString,
            response_deserializer=pb.HandlersAnswer.FromString,
        )()

    async def say(self, **step: Any) -> None:
        await self.stream.write(pb.HandlersRequest(**step))

    async def next(self) -> pb.HandlersAnswer:
        found: pb.HandlersAnswer = await self.stream.read()
        return found


@pytest.fixture
async def raw(net: Net) -> AsyncIterator[Raw]:
    await net.serve()
    async with aio.insecure_channel(net.gateways[0].address) as channel:
        yield Raw(channel)


async def test_what_was_not_given_cannot_be_acknowledged(net: Net, raw: Raw) -> None:
    await tell(await net.client(), 1, 2)
    for number in range(100):
        await raw.say(handled=pb.HandledEvent(number=number))
    await raw.say(deliver=pb.DeliverEvents(number=7, keys=["one"]))
    assert (await raw.next()).delivered == 7  # it hears nothing
    assert [number for number, *_ in await net.waiting()] == [1, 2]
    await raw.say(hears=pb.Hears(types=["counted"]))
    assert (await raw.next()).WhichOneof("step") == "listening"
    given = (await raw.next()).given
    for number in range(100):
        if number != given.number:
            await raw.say(handled=pb.HandledEvent(number=number))
    await raw.say(handled=pb.HandledEvent(number=given.number, is_unknown=True))
    await raw.next()
    assert [number for number, *_ in await net.waiting()] == [1, 2]


@pytest.mark.parametrize(
    "step",
    [
        {"hears": pb.Hears(types=map(str, range(10_001)))},
        {"deliver": pb.DeliverEvents(number=1, keys=map(str, range(10_001)))},
        {},
    ],
)
async def test_what_is_too_much_is_refused(raw: Raw, step: dict[str, Any]) -> None:
    await raw.say(**step)
    with pytest.raises(aio.AioRpcError) as caught:
        await raw.next()
    assert caught.value.code().name == "INVALID_ARGUMENT"


async def test_who_asks_for_much_at_once_is_answered(net: Net, raw: Raw) -> None:
    await tell(await net.client(), *range(3))
    await raw.say(hears=pb.Hears(types=["counted"]))
    for number in range(200):
        await raw.say(deliver=pb.DeliverEvents(number=number, keys=[f"key {number}", "one"]))
    answered: set[int] = set()
    async with asyncio.timeout(30):
        while len(answered) < 200:
            answer = await raw.next()
            if answer.WhichOneof("step") == "delivered":
                answered.add(answer.delivered)
            elif answer.WhichOneof("step") == "given":
                await raw.say(handled=pb.HandledEvent(number=answer.given.number))


async def test_who_takes_nothing_is_let_go(
    net: Net, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """His events are not kept for him; others get them, before they count as failed."""
    monkeypatch.setattr(handlers, "PATIENCE", timedelta(seconds=1))
    client = await net.client()
    async with client.unit_of_work() as uow:
        uow.events.add(Large())
        await uow.commit()
    await raw.say(hears=pb.Hears(types=["large"]))
    await asyncio.sleep(3)
    heard: list[str] = []
    client.events.register_handler(Large, lambda event: heard.append(event.id))
    await until(lambda: len(heard) == 1)
