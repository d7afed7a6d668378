"""Clients with handlers, and the gateways over stores on disk that deliver to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from jts_storage import DomainEvent, Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.remote import handlers
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.testing.backends import Stack
from jts_storage.testing.fault_proxy import FaultProxy
from jts_storage.unit_of_work import delivery
from tests.prepared import emptied, stack_of


@dataclass(frozen=True, kw_only=True)
class Counted(DomainEvent):
    """What these tests tell."""

    number: int
    about: str = "one"

    @property
    def key(self) -> str:
        return self.about


@dataclass
class Net:
    """Gateways over one set of stores, each behind a proxy, and clients of them."""

    backend: StoreBackend
    stack: AsyncExitStack
    proxies: list[FaultProxy] = field(default_factory=list)
    gateways: list[Gateway] = field(default_factory=list)

    async def serve(self) -> FaultProxy:
        place = Place("127.0.0.1:0", limits=Limits(grace_seconds=0.2))
        gateway = Gateway(self.backend, place)
        await gateway.start()
        self.stack.push_async_callback(gateway.stop)
        host, _, port = gateway.address.rpartition(":")
        proxy = FaultProxy(host, int(port)).start()
        self.stack.callback(proxy.stop)
        self.gateways.append(gateway)
        self.proxies.append(proxy)
        return proxy

    @property
    def settings(self) -> StorageSettings:
        addresses = ",".join(f"{proxy.host}:{proxy.port}" for proxy in self.proxies)
        return StorageSettings(url=f"grpc://{addresses}?retry_base_delay=0.02&timeout=5")

    async def client(self, handler: Callable[[Counted], Any] | None = None) -> Storage:
        if not self.proxies:
            await self.serve()
        storage = await self.stack.enter_async_context(Storage.open(self.settings))
        if handler is not None:
            storage.events.register_handler(Counted, handler)
        return storage

    async def waiting(self) -> list[tuple[int, int, bool]]:
        found = await self.backend.stores.outbox.list()
        return [(each.data["number"], each.attempts, each.is_parked) for each in found]


@pytest.fixture(scope="module")
def embedded(
    shared_mongod: LocalMongod,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Iterator[Stack]:
    engine_used("chDB")
    engine_used("SQLite")
    settings = StorageSettings(mongo_url=SecretStr(shared_mongod.uri), mongo_database="handlers")
    stack = stack_of(settings, tmp_path_factory.mktemp("jts"))
    yield stack
    stack.close()


@pytest.fixture
def settings(embedded: Stack) -> StorageSettings:
    return emptied(embedded)


@pytest.fixture
async def net(settings: StorageSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Net]:
    monkeypatch.setattr(delivery, "_FIRST_PAUSE", timedelta(milliseconds=1))
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", timedelta(milliseconds=20))
    monkeypatch.setattr(delivery, "_PAUSE_BETWEEN_LOOKS", timedelta(milliseconds=200))
    monkeypatch.setattr(handlers, "_LOOK_SECONDS", 0.05)
    backend = StoreBackend(settings)
    async with Storage(backend), AsyncExitStack() as stack:
        yield Net(backend, stack)


@pytest.fixture
def no_looks(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits alone deliver: nothing that is looked for now and then comes before them."""
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", timedelta(days=1))


async def tell(storage: Storage, *numbers: int, about: str = "one") -> None:
    async with storage.unit_of_work() as uow:
        for number in numbers:
            uow.events.add(Counted(number=number, about=about))
        await uow.commit()


def noting(numbers: list[int]) -> Callable[[Counted], None]:
    return lambda event: numbers.append(event.number)
