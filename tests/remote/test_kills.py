"""Gateways and clients are killed at every step: each commit is there once, or never will be."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Strategy, Timeframe, new_unit_id
from jts_storage.errors import ConnectionFailed, OutcomeUnknown, StorageError
from jts_storage.remote import session
from jts_storage.testing.contracts.samples import FOREVER, candle
from tests.histories.servers import Servers
from tests.remote.client_processes import MOST_IN_MEMORY, ClientProcess, Job, Way
from tests.remote.gateway_processes import (
    COMMIT_POINTS,
    LEASE_SECONDS,
    SESSION_POINTS,
    GatewayProcess,
)

KEY = SeriesKey("COUNT", Timeframe.M1, "KRX")
POINTS = (*COMMIT_POINTS, *SESSION_POINTS)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[Servers]:
    for engine in ("mongod", "ClickHouse endpoint over chDB", "SQLite"):
        engine_used(engine)
    with Servers(tmp_path_factory.mktemp("kills")) as servers:
        yield servers


@dataclass
class Counter:
    """A number that stands in every store, and who counted it."""

    storage: Storage
    strategy: str
    name: str
    asked: int = 0
    unknown: list[str] = field(default_factory=list)
    committed: list[int] = field(default_factory=list)
    never: int = 0
    errors: list[str] = field(default_factory=list)

    async def count(self, *, with_documents: bool = True) -> None:
        """Count once; whatever happens, say afterwards what became of it."""
        identity, number = new_unit_id(), self.asked
        self.asked += 1
        told: bool | None = None
        try:
            async with self.storage.unit_of_work(id=identity) as uow:
                if with_documents:
                    found = await uow.strategies.get_by_id(self.strategy)
                    assert found is not None
                    more = str(int(found.description or 0) + 1)
                    await uow.strategies.save(replace(found, description=more))
                checkpoint = await uow.ingestion.checkpoints.get(self.name)
                before = checkpoint.data["count"] if checkpoint else 0
                await uow.ingestion.checkpoints.save(self.name, {"count": before + 1})
                await uow.candles.save_many(self.key, [candle(number)])
                await uow.commit()
            told = True
        except OutcomeUnknown:
            self.unknown.append(identity)
        except StorageError as exc:
            self.errors.append(str(exc))
            told = None if "is decided" in str(exc) else False
        outcome = await self.settled(identity)
        assert told in (None, outcome), (told, outcome, identity)
        if outcome:
            self.committed.append(number)
        else:
            self.never += 1

    async def settled(self, identity: str) -> bool:
        first = await self.storage.outcome(identity)
        assert first == await self.storage.outcome(identity)
        return first.is_committed

    @property
    def key(self) -> SeriesKey:
        return replace(KEY, symbol=self.name)

    async def check(self, *, with_documents: bool = True) -> None:
        stored = await self.storage.ingestion.checkpoints.get(self.name)
        assert (stored.data["count"] if stored else 0) == len(self.committed)
        candles = await self.storage.candles.get_range(self.key, *FOREVER)
        assert list(candles) == [candle(number) for number in sorted(self.committed)]
        if with_documents:
            strategy = await self.storage.strategies.get_by_id(self.strategy)
            assert strategy is not None
            assert strategy.description == str(len(self.committed))


@pytest.fixture
def pair(servers: Servers, tmp_path: Path) -> Iterator[list[GatewayProcess]]:
    """Two gateways over the same stores."""
    gateways = [GatewayProcess(servers.urls, tmp_path) for _ in range(2)]
    for each in gateways:
        each.begin()
    for each in gateways:
        each.wait_until_served()
    yield gateways
    for each in gateways:
        each.kill()


@pytest.fixture
def gateway(servers: Servers, tmp_path: Path) -> Iterator[GatewayProcess]:
    """One that lets staged rows wait in files."""
    with GatewayProcess(servers.urls, tmp_path, most_in_memory=MOST_IN_MEMORY) as gateway:
        yield gateway


def client(*gateways: GatewayProcess, **fields: str) -> StorageSettings:
    addresses = ",".join(each.address for each in gateways)
    options = "&".join(f"{name}={value}" for name, value in fields.items())
    return StorageSettings(url=f"grpc://{addresses}?{options}")


@asynccontextmanager
async def counter_of(*gateways: GatewayProcess, **options: str) -> AsyncIterator[Counter]:
    async with Storage.open(client(*gateways, **options)) as storage:
        name = f"K{random.randrange(10**9)}"
        async with storage.unit_of_work() as uow:
            strategy = await uow.strategies.save(Strategy(name=name, description="0"))
            await uow.commit()
        yield Counter(storage, strategy.id or "", name)


@pytest.fixture
async def counter(pair: list[GatewayProcess]) -> AsyncIterator[Counter]:
    async with counter_of(*pair) as counter:
        yield counter


async def killed_at(
    counter: Counter, pair: list[GatewayProcess], points: list[str], *, with_documents: bool = True
) -> int:
    """Count while the gateway that is used dies, each time at another point."""
    missed, connection = [], counter.storage._backend._connection  # type: ignore[attr-defined]
    returning: asyncio.Task[None] | None = None
    for point in points:
        used = next(each for each in pair if each.address == connection.address)
        if returning is not None:  # there is always one to go on with
            await returning
        used.die_at(point)
        await counter.count(with_documents=with_documents)
        if used.has_died(within=2):
            used.kill()
            returning = asyncio.create_task(asyncio.to_thread(used.start))
        else:
            missed.append(point)
            used.die_at("nowhere")
    if returning is not None:
        await returning
    await counter.check(with_documents=with_documents)
    assert not missed
    return len(points)


@pytest.mark.slow
async def test_a_gateway_dies_at_every_point(counter: Counter, pair: list[GatewayProcess]) -> None:
    await killed_at(counter, pair, list(POINTS))
    assert counter.committed
    assert counter.never
    assert not counter.unknown  # the other gateway tells


@pytest.mark.slow
@pytest.mark.parametrize("is_small", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_a_gateway_dies_while_nothing_is_in_its_hands(
    counter: Counter,
    pair: list[GatewayProcess],
    monkeypatch: pytest.MonkeyPatch,
    is_small: bool,
) -> None:
    """Without documents a unit of work is a single request if it is small, or else a stream."""
    if not is_small:
        monkeypatch.setattr(session, "WHOLE_BYTES", 0)
    points = ["begun", "staged", "to commit", "decided", "committed"]
    await killed_at(counter, pair, points, with_documents=False)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_two_hundred_kills(counter: Counter, pair: list[GatewayProcess]) -> None:
    points = [point for point, _ in zip(cycle(POINTS), range(210), strict=False)]
    random.Random(1).shuffle(points)
    kills = await killed_at(counter, pair, points)
    print(f"kills={kills} committed={len(counter.committed)} never={counter.never}")


async def everything_is_stored(storage: Storage) -> None:
    """Wait until no commit is under way any more, nor waits for somebody to finish it."""
    for _ in range(300):
        with suppress(StorageError):
            if (await storage.health()).unfinished == 0:
                return
        await asyncio.sleep(0.1)
    raise AssertionError("a commit is not finished")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("with_documents", [True, False])
async def test_a_gateway_stalls_past_its_leases(
    pair: list[GatewayProcess], with_documents: bool
) -> None:
    """The other one has taken over by the time it goes on, and finds nothing left to do."""
    async with (
        counter_of(*pair, timeout="15", commit_timeout="3") as counter,
        Storage.open(client(pair[0])) as first,
        Storage.open(client(pair[1])) as second,
    ):
        connection = counter.storage._backend._connection  # type: ignore[attr-defined]
        for point in COMMIT_POINTS if with_documents else ("entry written", "decided"):
            used = next(each for each in pair if each.address == connection.address)
            used.die_at(point, how=signal.SIGSTOP)
            await counter.count(with_documents=with_documents)
            assert connection.address != used.address, point
            await asyncio.sleep(LEASE_SECONDS + 1)
            await counter.count(with_documents=with_documents)
            used.signal(signal.SIGCONT)
            await everything_is_stored(first)
            for storage in (first, second):
                of_gateway = replace(counter, storage=storage)
                await of_gateway.check(with_documents=with_documents)
    print(f"stalls: committed={len(counter.committed)} never={counter.never}")


async def test_documents_of_a_dead_gateway_are_free_at_once(
    counter: Counter, pair: list[GatewayProcess]
) -> None:
    """Its transaction would hold them for a minute: another gateway ends its session."""
    storage = counter.storage
    connection = storage._backend._connection  # type: ignore[attr-defined]
    used = next(each for each in pair if each.address == connection.address)
    with pytest.raises(ConnectionFailed):
        async with storage.unit_of_work() as uow:
            found = await uow.strategies.get_by_id(counter.strategy)
            assert found is not None
            await uow.strategies.save(replace(found, description="of the dead"))
            used.kill()
            died = time.monotonic()
            await uow.strategies.list()
    assert found is not None
    # Once, and not again: a document that is held is a conflict.
    async with storage.unit_of_work() as uow:
        await uow.strategies.save(replace(found, description="of the living"))
        await uow.commit()
    print(f"free after {time.monotonic() - died:.2f} s")
    used.start()
    stored = await storage.strategies.get_by_id(counter.strategy)
    assert stored is not None
    assert stored.description == "of the living"


GATEWAY_POINTS: dict[Way, tuple[str, ...]] = {
    "documents": POINTS,
    "stream": ("begun", "staged", "to commit", "decided", "committed", "answered"),
    "whole": ("begun", "decided", "committed", "answered"),
}
"""Where the gateway is when its client dies."""

BY_DAY: dict[Way, tuple[tuple[str, int], ...]] = {
    "documents": (("call sent", 2), ("chunk sent", 2), ("commit sent", 1)),
    "stream": (("chunk sent", 2),),
    "whole": (),
}
"""After which steps a client dies by day; by night after each that it takes."""


class Watched:
    """What a gateway holds for its clients, as the system and MongoDB say it."""

    def __init__(self, gateway: GatewayProcess, mongo: str) -> None:
        self._gateway = gateway
        self._mongo: Any = pymongo.MongoClient(mongo)

    def held(self) -> dict[str, int]:
        process, names = psutil.Process(self._gateway.pid), []
        for each in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                names.append(str(each.readlink()))
        clients = [
            each
            for each in process.net_connections("tcp")
            if each.status == psutil.CONN_ESTABLISHED and each.laddr.port == self._gateway.port
        ]
        status = self._mongo.admin.command("serverStatus", repl=0, metrics=0)
        return {
            "staged files": sum("(deleted)" in name for name in names),
            "clients": len(clients),
            "transactions": int(status["transactions"]["currentOpen"]),
        }

    async def until_freed(self, before: dict[str, int]) -> float:
        """Wait until it holds no more than before; after how many seconds."""
        began = time.monotonic()
        while True:
            held = self.held()
            if all(count <= before[name] for name, count in held.items()):
                return time.monotonic() - began
            assert time.monotonic() - began < 30, (held, before)
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self._mongo.close()


async def sees_what_is_held(watched: Watched, counter: Counter) -> None:
    before = watched.held()
    async with counter.storage.unit_of_work() as uow:
        await uow.strategies.get_by_id(counter.strategy)
        assert watched.held()["transactions"] == before["transactions"] + 1
    await watched.until_freed(before)


async def clients_killed(
    counter: Counter, gateway: GatewayProcess, mongo: str, way: Way, *, by_day: bool
) -> None:
    """Count by clients that die, each at another step of its own or of the gateway's."""
    watched, with_documents = Watched(gateway, mongo), way == "documents"

    async def counts(*, dies_at: tuple[str, int] = ("", 1), point: str = "") -> Any:
        """Let a client count, and look what became of it; the steps it took, if it lived."""
        unit_id, number = new_unit_id(), counter.asked
        counter.asked += 1
        job = Job(
            *(gateway.address, way, unit_id, counter.key, counter.strategy, counter.name, number),
            dies_at=dies_at,
        )
        before = watched.held()
        client = await asyncio.to_thread(ClientProcess, job)
        try:
            if point:
                gateway.die_at(point, victim=client.pid)
            steps = await asyncio.to_thread(client.work)
        finally:
            await asyncio.to_thread(client.close)
        freed.append(await watched.until_freed(before))
        assert not gateway.has_died()
        if await counter.settled(unit_id):
            counter.committed.append(number)
        else:
            counter.never += 1
        # Once, and not again: a document that is held is a conflict.
        committed = len(counter.committed)
        await counter.count(with_documents=with_documents)
        assert len(counter.committed) == committed + 1, counter.errors
        return steps

    await sees_what_is_held(watched, counter)
    freed: list[float] = []
    steps: list[tuple[str, int]] = list(BY_DAY[way])
    try:
        if not by_day:
            steps = await counts()
            assert counter.committed == [0, 1]
        for step in steps:
            assert await counts(dies_at=step) is None, step
        points = ("decided",) if by_day else GATEWAY_POINTS[way]
        for point in points:
            assert await counts(point=point) is None, point
        gateway.die_at("nowhere")
        await counter.check(with_documents=with_documents)
    finally:
        watched.close()
    kills = len(steps) + len(points)
    print(f"{way}: kills={kills} never={counter.never} freed within {max(freed):.2f} s")


@pytest.mark.parametrize("way", ["documents", "stream", "whole"])
@pytest.mark.parametrize("by_day", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_a_client_dies_at_every_step(
    servers: Servers, gateway: GatewayProcess, way: Way, by_day: bool
) -> None:
    async with counter_of(gateway) as counter:
        await clients_killed(counter, gateway, servers.urls["mongo_url"], way, by_day=by_day)
