"""What is said of a commit whose answer was lost, and in which order its events arrive."""

from __future__ import annotations

import asyncio
import random
import shlex
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from jts_storage import DomainEvent, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.errors import ConnectionFailed
from jts_storage.local_servers.mongod import LocalMongod, find_mongod
from jts_storage.mongo import manager as mongo_manager
from jts_storage.mongo import transaction
from jts_storage.testing.factories import START, make_candles, make_formula
from jts_storage.unit_of_work.outbox import EVENTS

ROWS = 10
HEADER = 16
"""Bytes in front of each message of MongoDB: length, id, the id it answers, and its kind."""

numbers = count()


class LossyLine:
    """Passes messages of MongoDB on, but for those about `command` while `loses` says so.

    :param loses: the question never reaches the server; its answer never comes back; the answer is
        lost and with it the way to the server, until `heal`; or the question reaches it only once
        `deliver_late` is called, its sender being cut off.
    """

    def __init__(self, port: int, command: bytes) -> None:
        self.port = 0
        self.lost = 0
        self.most = 1_000
        self.loses: Literal["question", "answer", "way", "time"] | None = None
        self._late: list[bytes] = []
        self._target = port
        self._command = command
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[LossyLine]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()
        self._cut()

    def heal(self) -> None:
        self.loses, self._is_cut = None, False

    async def deliver_late(self) -> None:
        """Hand the server what was kept back, and wait until it has answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        for message in self._late:
            writer.write(message)
            assert await _message(reader)
        writer.close()
        await writer.wait_closed()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, to_server}
        awaited: set[bytes] = set()
        answering = asyncio.create_task(self._answer(from_server, writer, awaited))
        try:
            while message := await _message(reader):
                if self.loses is not None and self.lost < self.most and self._command in message:
                    self.lost += 1
                    if self.loses == "time":
                        self._late.append(message)
                    if self.loses in ("question", "time"):
                        break
                    awaited.add(message[4:8])
                to_server.write(message)
        finally:
            for each in (writer, to_server):
                each.transport.abort()
            await asyncio.wait([answering])
            self._writers -= {writer, to_server}

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, awaited: set[bytes]
    ) -> None:
        while message := await _message(reader):
            if message[8:12] in awaited:
                if self.loses == "way":
                    self._is_cut = True
                    self._cut()
                break
            writer.write(message)
        writer.transport.abort()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """The next message, empty when there is none."""
    try:
        header = await reader.readexactly(HEADER)
        return header + await reader.readexactly(int.from_bytes(header[:4], "little") - HEADER)
    except (asyncio.IncompleteReadError, OSError):
        return b""


class Commands(CommandListener):
    """The commands that the clients of this test have sent, in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append((event.command_name, dict(event.command)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Numbered(DomainEvent):
    number: int
    about: str

    @property
    def key(self) -> str:
        return self.about


@dataclass
class Scene:
    """A storage behind a lossy line, and a name that nothing stored has yet."""

    storage: Storage
    line: LossyLine
    commands: Commands
    uri: str
    name: str = field(default_factory=lambda: f"DECISION{next(numbers)}")

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.name, Timeframe.M1)

    async def commit(self, *, candles: bool) -> None:
        async with self.storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula(self.name))
            if candles:
                await uow.candles.save_many(self.key, make_candles(self.key, ROWS))
            await uow.commit()

    async def stored(self) -> tuple[int, int]:
        """How many formulas and candles there are of that name."""
        async with AsyncMongoClient[dict[str, Any]](self.uri) as direct:
            formulas = await direct["jts"]["formulas"].count_documents({"name": self.name})
        rows = await self.storage.candles.get_range(self.key, START, START.replace(year=2100))
        assert list(rows) in ([], list(make_candles(self.key, ROWS)))
        return formulas, len(rows)

    async def heal_and_recover(self) -> None:
        self.line.heal()
        async with asyncio.timeout(30):
            while True:
                try:
                    await self.storage.recover()
                except (
                    ConnectionFailed
                ):  # the driver looks for a server that was gone only at times
                    await asyncio.sleep(0.05)
                else:
                    return


@pytest.fixture(scope="module")
def mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    """One that fails on command, too."""
    folder = tmp_path_factory.mktemp("decisions")
    program = folder / "mongod"
    real = shlex.quote(str(find_mongod()))
    program.write_text(f'#!/bin/sh\nexec {real} "$@" --setParameter enableTestCommands=1\n')
    program.chmod(0o755)
    with LocalMongod.acquire(folder / "data", program) as server:
        for engine in ("mongod", "chDB", "SQLite"):
            engine_used(engine)
        yield server


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decisions")


@pytest.fixture
def patience() -> int:
    """Milliseconds to look for a server. A driver that was cut off looks again after 500."""
    return 10_000


@pytest.fixture
async def scene(
    mongod: LocalMongod, data_dir: Path, patience: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    commands = Commands()

    def client(*arguments: Any, event_listeners: Sequence[Any] = (), **options: Any) -> Any:
        return AsyncMongoClient(*arguments, event_listeners=[*event_listeners, commands], **options)

    monkeypatch.setattr(mongo_manager, "AsyncMongoClient", client)
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(LossyLine(mongod.port, b"commitTransaction").open())
        options = f"directConnection=true&serverSelectionTimeoutMS={patience}"
        settings = StorageSettings(
            data_dir=data_dir,
            mongo_url=SecretStr(f"mongodb://127.0.0.1:{line.port}/?{options}"),
            migrate=True,
        )
        storage = await stack.enter_async_context(Storage.open(settings))
        yield Scene(storage, line, commands, mongod.uri)


BOTH = pytest.mark.parametrize("candles", [False, True], ids=["documents", "documents and candles"])


async def test_a_decision_whose_answers_were_lost_is_looked_up_with_a_majority(
    scene: Scene,
) -> None:
    """What only one member has seen may be rolled back: it is no decision."""
    scene.line.loses = "answer"
    await scene.commit(candles=True)
    assert scene.line.lost > 1, "asked again, and in vain"
    assert await scene.stored() == (1, ROWS)
    names = [name for name, _ in scene.commands.sent]
    last = len(names) - names[::-1].index("commitTransaction")
    name, command = next(
        (name, command)
        for name, command in scene.commands.sent[last:]
        if name in ("find", "aggregate", "count")
    )
    assert command.get("readConcern", {}).get("level") == "majority", (name, command)


async def test_a_lost_answer_is_asked_for_again(scene: Scene) -> None:
    scene.line.loses, scene.line.most = "answer", 1
    await scene.commit(candles=True)
    assert scene.line.lost == 1
    assert await scene.stored() == (1, ROWS)


@BOTH
@pytest.mark.parametrize("patience", [500])
async def test_nobody_knows_of_a_commit_whose_answer_and_server_are_gone(
    scene: Scene, candles: bool, patience: int
) -> None:
    scene.line.loses = "way"
    with pytest.raises(ConnectionFailed, match="unknown"):
        await scene.commit(candles=candles)
    await scene.heal_and_recover()
    assert await scene.stored() == (1, ROWS if candles else 0)


@BOTH
async def test_nobody_knows_of_a_commit_that_may_still_be_on_its_way(
    scene: Scene, candles: bool
) -> None:
    """It is not there when it is looked for, but what was sent may arrive after that."""
    scene.line.loses = "question"
    with pytest.raises(ConnectionFailed, match="unknown"):
        await scene.commit(candles=candles)
    await scene.heal_and_recover()
    assert await scene.stored() == (0, 0)


@pytest.mark.parametrize("recovers_first", [False, True])
async def test_a_commit_that_arrives_after_its_client_gave_up_is_finished_or_never_decided(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, recovers_first: bool
) -> None:
    """Until somebody looks it may still be decided; whoever recovers is told the truth for good."""
    monkeypatch.setattr(transaction, "_COMMIT_ATTEMPTS", 1)
    scene.line.loses = "time"
    with pytest.raises(ConnectionFailed, match="unknown"):
        await scene.commit(candles=True)
    assert await is_under_way(scene), "what comes later has to wait: it may still be decided"
    if recovers_first:
        await scene.heal_and_recover()
        assert await scene.stored() == (0, 0)
        assert not await is_under_way(scene)
    await scene.line.deliver_late()
    await scene.heal_and_recover()
    assert await scene.stored() == ((0, 0) if recovers_first else (1, ROWS))
    assert not await is_under_way(scene)


async def is_under_way(scene: Scene) -> bool:
    clock = scene.storage._backend.stores.clock  # type: ignore[attr-defined]
    return any(one.may_write([f"candles {scene.key}"]) for one in await clock.under_way())


@BOTH
@pytest.mark.parametrize("code", [202, 133])
async def test_nobody_knows_of_a_commit_that_servers_lost_between_them(
    scene: Scene, candles: bool, code: int
) -> None:
    """A router may tell of a broken connection behind it, which the driver does not label."""
    async with AsyncMongoClient[dict[str, Any]](scene.uri) as direct:
        fail = partial(direct.admin.command, "configureFailPoint", "failCommand")
        await fail(
            mode="alwaysOn",
            data={"failCommands": ["commitTransaction"], "errorCode": code, "errorLabels": []},
        )
        try:
            with pytest.raises(ConnectionFailed, match="unknown"):
                await scene.commit(candles=candles)
        finally:
            await fail(mode="off")


@pytest.mark.parametrize("deliverer", ["its own commit", "a later look"])
@pytest.mark.parametrize("seed", range(2))
async def test_the_events_of_one_commit_arrive_in_the_order_added(
    scene: Scene, deliverer: str, seed: int
) -> None:
    """However their ids sort, and in whatever order the database happens to keep them."""
    shuffled = random.Random(seed).sample(range(10), 10)
    arrived: list[int] = []
    if deliverer == "its own commit":
        scene.storage.events.register_handler(Numbered, lambda e: arrived.append(e.number))
    async with scene.storage.unit_of_work() as uow:
        for number, place in enumerate(shuffled):
            uow.events.add(Numbered(id=f"{scene.name}-{place}", number=number, about=scene.name))
        await uow.commit()
    if deliverer != "its own commit":
        async with kept_otherwise(scene):
            scene.storage.events.register_handler(Numbered, lambda e: arrived.append(e.number))
            await scene.storage.recover()
    assert arrived == list(range(10))


@asynccontextmanager
async def kept_otherwise(scene: Scene) -> AsyncIterator[None]:
    """The waiting events stored anew in the order of their ids, and no index to read them by.

    As after a dump and a restore: neither the order of storing nor an index may be relied on.
    """
    events = scene.storage.mongo.get_collection(EVENTS)
    waiting = await events.find({"key": scene.name}).sort("_id").to_list()
    assert len(waiting) == 10
    indexes = await events.index_information()
    await events.drop_indexes()
    await events.delete_many({"key": scene.name})
    await events.insert_many(waiting)
    yield
    for name, index in indexes.items():
        options = {option: index[option] for option in index.keys() - {"v", "key", "ns"}}
        await events.create_index(index["key"], name=name, **options)
