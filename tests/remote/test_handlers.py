"""Handlers of clients: in the order of the commits, at least once, whoever dies in between."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage import sync as blocking
from jts_storage._runtime.steps import carried
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.remote.connection import Connection
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.unit_of_work import delivery
from jts_storage.unit_of_work.delivery import ATTEMPTS
from tests.remote.handlers_net import (
    Counted,
    Net,
    embedded,
    net,
    no_looks,
    noting,
    settings,
    tell,
)
from tests.waiting import until

__all__ = ["embedded", "net", "no_looks", "settings"]  # fixtures


@pytest.mark.usefixtures("no_looks")
async def test_a_commit_returns_after_its_events_were_handled(net: Net) -> None:
    heard: list[int] = []
    client = await net.client(noting(heard))
    await tell(client, 1, 2)
    assert heard == [1, 2]
    assert await net.waiting() == []


@pytest.mark.usefixtures("no_looks")
async def test_an_earlier_event_of_the_key_comes_first(net: Net) -> None:
    heard: list[int] = []
    teller = await net.client()
    await tell(teller, 1)
    assert [number for number, *_ in await net.waiting()] == [1]
    client = await net.client()
    async with client.unit_of_work() as uow:
        uow.events.add(Counted(number=2))
        client.events.register_handler(Counted, noting(heard))
        await uow.commit()
    assert heard == [1, 2]
    assert await net.waiting() == []


async def test_events_of_a_dead_client_reach_those_that_live(net: Net) -> None:
    heard: list[int] = []
    first = await net.client()
    await tell(first, 1, 2)
    await tell(first, 3, about="two")
    await net.client(noting(heard))  # which commits nothing
    await until(lambda: len(heard) == 3)
    assert sorted(heard) == [1, 2, 3]
    assert heard.index(1) < heard.index(2)


async def test_what_fails_is_tried_again_and_parked(net: Net) -> None:
    tried: list[int] = []

    def handler(event: Counted) -> None:
        tried.append(event.number)
        if event.number == 1:
            raise RuntimeError("no")

    client = await net.client(handler)
    await tell(client, 1, 2)
    await until(lambda: 2 in tried)
    assert tried == [1] * ATTEMPTS + [2]
    await until(lambda: _is(net, [(1, ATTEMPTS, True)]))


async def _is(net: Net, expected: list[tuple[int, int, bool]]) -> bool:
    return await net.waiting() == expected


async def test_two_clients_keep_the_order_between_them(net: Net) -> None:
    heard: list[int] = []
    running: list[int] = []
    versions: dict[int, int] = {}

    async def handler(event: Counted) -> None:
        running.append(event.number)
        await asyncio.sleep(0.01)
        assert running == [event.number]
        running.clear()
        heard.append(event.number)

    async def commit(client: Storage, numbers: range) -> None:
        for number in numbers:
            async with client.unit_of_work() as uow:
                uow.events.add(Counted(number=number))
                done = await uow.commit()
            assert done.commit is not None
            versions[number] = done.commit.version

    await net.serve()
    clients = [await net.client(handler) for _ in range(2)]
    await asyncio.gather(commit(clients[0], range(8)), commit(clients[1], range(100, 108)))
    await until(lambda: len(heard) == 16)
    assert heard == sorted(versions, key=versions.__getitem__)
    await until(lambda: _is(net, []))


async def test_a_stream_that_is_cut_is_no_attempt_and_frees_the_key(net: Net) -> None:
    """The handler of the first client is cancelled, and the second gets the event at once."""
    began, heard = asyncio.Event(), list[int]()
    attempts: list[list[tuple[int, int, bool]]] = []

    async def hang(_: Counted) -> None:
        began.set()
        await asyncio.sleep(60)

    async def note(event: Counted) -> None:
        attempts.append(await net.waiting())
        heard.append(event.number)

    proxy = await net.serve()
    first = await net.client(hang)
    telling = asyncio.create_task(tell(first, 1))
    await began.wait()
    await net.serve()
    net.proxies.remove(proxy)
    await net.client(note)
    proxy.faults.refuse()
    await until(lambda: heard == [1])
    assert attempts == [[(1, 0, False)]]
    telling.cancel()
    await asyncio.wait([telling])


@pytest.mark.usefixtures("no_looks")
async def test_a_commit_waits_through_a_cut(net: Net) -> None:
    """The stream is opened anew, and what was in hand comes again."""
    heard: list[int] = []

    async def handler(event: Counted) -> None:
        heard.append(event.number)
        if len(heard) == 1:
            proxy.faults.refuse()
            asyncio.get_running_loop().call_later(0.1, proxy.faults.clear)
            await asyncio.sleep(60)

    proxy = await net.serve()
    client = await net.client(handler)
    await tell(client, 1, 2)
    assert heard == [1, 1, 2]
    assert await net.waiting() == []


async def test_a_gateway_that_stops_hands_its_clients_on(net: Net) -> None:
    heard: list[int] = []
    await net.serve()
    await net.serve()
    client = await net.client(noting(heard))
    await tell(client, 1)
    # Where it stops between the handler and this, the event comes again.
    await until(lambda: _is(net, []))
    await net.gateways[0].stop()
    await tell(client, 2)
    await tell(await net.client(), 3)
    await until(lambda: len(heard) == 3)
    assert heard == [1, 2, 3]


async def test_a_commit_that_no_gateway_heard_goes_to_the_next(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stops after the client has looked whether it is there, and before it sends."""
    await net.serve()
    await net.serve()
    client = await net.client()
    await tell(client, 1)

    async def ready(_: Connection) -> None:
        return None

    monkeypatch.setattr(Connection, "ready", ready)
    await net.gateways[0].stop()
    await tell(client, 2)
    assert [number for number, _, _ in await net.waiting()] == [1, 2]


async def test_a_handler_may_commit_events_of_its_own_key(net: Net) -> None:
    heard: list[int] = []

    async def handler(event: Counted) -> None:
        heard.append(event.number)
        if event.number == 1:
            await tell(client, 2)

    client = await net.client(handler)
    await tell(client, 1)
    await until(lambda: len(heard) == 2)
    assert heard == [1, 2]


@pytest.mark.usefixtures("no_looks")
async def test_a_handler_that_takes_too_long_has_failed(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", timedelta(seconds=0.2))
    monkeypatch.setattr(delivery, "_FIRST_PAUSE", timedelta(days=1))
    ended: list[str] = []

    async def hang(_: Counted) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    client = await net.client(hang)
    await tell(client, 1)
    assert await net.waiting() == [(1, 1, False)]
    await until(lambda: ended == ["cancelled"])


async def test_who_hears_no_more_gets_no_more(net: Net) -> None:
    heard: list[int] = []
    handler = noting(heard)
    client = await net.client(handler)
    await tell(client, 1)
    await until(lambda: heard == [1])
    client.events.unregister_handler(Counted, handler)
    await asyncio.sleep(0.5)  # until that is said
    await tell(await net.client(), 2)
    await asyncio.sleep(0.5)
    assert heard == [1]
    assert await net.waiting() == [(2, 0, False)]


async def test_the_trace_of_the_commit_is_known(net: Net) -> None:
    heard: list[str | None] = []
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with net.backend.unit_of_work("", None) as uow:
        token = carried.set(trace)
        uow.events.add(Counted(number=1))
        await uow.commit()
        carried.reset(token)
    await net.client(lambda _: heard.append(carried.get()))
    await until(lambda: heard == [trace])


@pytest.mark.usefixtures("no_looks")
async def test_the_blocking_storage_hears(net: Net) -> None:
    heard: list[int] = []
    await net.serve()

    def use() -> None:
        with blocking.Storage.open(net.settings) as storage:
            storage.events.register_handler(Counted, noting(heard))
            with storage.unit_of_work() as uow:
                uow.events.add(Counted(number=2))
                uow.commit()

    await tell(await net.client(), 1)
    await asyncio.to_thread(use)
    assert heard == [1, 2]


async def test_stores_in_memory_deliver_as_before() -> None:
    heard: list[int] = []
    backend = InMemoryBackend()
    async with Storage(backend):
        gateway = Gateway(backend, Place("127.0.0.1:0", limits=Limits(grace_seconds=0.2)))
        await gateway.start()
        async with Storage.open(StorageSettings(url=f"grpc://{gateway.address}")) as client:
            client.events.register_handler(Counted, noting(heard))
            await tell(client, 1)
        await gateway.stop()
    assert heard == [1]
