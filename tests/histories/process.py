"""A worker: opens a storage, runs random units of work, and records what it was told.

It takes orders while it runs: ``clock SECONDS``, ``cancel``, ``stop``. Each record is written at
once, so that a process that is killed leaves what it knew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.errors import Conflict, ConnectionFailed, StorageError
from jts_storage.ports import UnitOfWork
from jts_storage.unit_of_work import commit
from tests.histories import clock
from tests.histories.history import Answer, Read, to_line
from tests.histories.planted import PLANTED
from tests.histories.planted_caches import PLANTED_CACHES
from tests.histories.scene import MODELS, Happened, Scene
from tests.histories.workload import Notes, Unit, chosen_kinds, read_something

_PAUSE_AFTER_FAILURE = 0.05


@dataclass(frozen=True, slots=True)
class Spec:
    """What a worker is to do.

    :param urls: of ClickHouse, MongoDB and the SQL database, perhaps of Redis.
    :param first: the number of its first transaction.
    :param clients: how many units of work it runs side by side.
    :param lease: for how many seconds it believes in a lease, instead of a minute.
    :param reads: which part of what it does is reads outside of units of work.
    """

    name: str
    seed: str
    first: int
    scene: Scene
    urls: dict[str, str]
    records: str
    kinds: tuple[str, ...]
    apart: float = 0.0
    clients: int = 2
    lease: float | None = None
    planted: tuple[str, ...] = ()
    reads: float = 0.2


def settings_of(urls: dict[str, str], folder: Path) -> StorageSettings:
    return StorageSettings(
        data_dir=folder,
        migrate=False,
        **{name: SecretStr(url) for name, url in urls.items()},
    )


class Records:
    """A file that has each line before the next thing happens."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, **fields: Any) -> None:
        os.write(self._file, to_line(what, **fields).encode())


def note_deliveries(storage: Storage, records: Records, scene: str) -> None:
    def heard(event: Happened) -> None:
        if event.scene == scene:
            records.note(
                "delivered",
                at=time.monotonic(),
                key=event.name,
                tx=event.transaction,
                number=event.number,
            )

    storage.events.register_handler(Happened, heard)


class Told:
    """Notes what a cache says of itself: what it gave, and when Redis was not told of a commit."""

    def __init__(self, storage: Storage, records: Records) -> None:
        self._storage, self._records = storage, records
        self._looked, self._given, self._untold = time.monotonic(), 0, 0

    def note(self) -> None:
        """What is new since the last time."""
        before, self._looked = self._looked, time.monotonic()
        if (told := self._storage.cache_statistics()) is None:
            return
        given = told.hits + told.shared_hits
        untold = told.unannounced_writes > self._untold
        if untold or given > self._given:
            self._records.note(
                "cache", since=before, at=self._looked, given=given - self._given, untold=untold
            )
        self._given, self._untold = given, told.unannounced_writes


class Worker:
    """Runs the clients of one process."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.records = Records(spec.records)
        self.next = spec.first
        self.is_stopping = False
        self.running: set[asyncio.Task[None]] = set()

    async def obey(self, orders: Connection) -> None:
        """Work on the servers until told to stop."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(orders, loop), daemon=True).start()
        settings = settings_of(self.spec.urls, Path(self.spec.records).parent)
        while not self.is_stopping:
            try:
                storage = Storage.open(settings, models=MODELS)
                note_deliveries(storage, self.records, self.spec.scene.name)
                async with storage:
                    await self.work(storage)
            except StorageError:
                pass  # what cannot be opened now, as the network is cut, is opened later
            except Exception:  # noqa: BLE001 - what is no error of the kit's is a finding
                self.records.note("surprise", error=traceback.format_exc())
            await asyncio.sleep(_PAUSE_AFTER_FAILURE)

    async def work(self, storage: Storage) -> None:
        told = Told(storage, self.records)
        async with asyncio.TaskGroup() as group:
            for number in range(self.spec.clients):
                group.create_task(self._client(storage, number, told))

    def _listen(self, orders: Connection, loop: asyncio.AbstractEventLoop) -> None:
        while not self.is_stopping:
            try:
                order, _, rest = orders.recv().partition(" ")
            except EOFError:
                os._exit(1)  # whoever started it is gone
            if order == "clock":
                clock.set_apart(float(rest))
            elif order == "stop":
                self.is_stopping = True
            elif order in ("die", "stall"):
                commit.reached = partial(_end_at, order, rest)
            else:
                loop.call_soon_threadsafe(self.cancel)

    def cancel(self) -> None:
        """Cancel every unit of work that is under way, wherever it waits."""
        for task in self.running:
            task.cancel()

    async def _client(self, storage: Storage, number: int, told: Told) -> None:
        client = f"{self.spec.name}.{number}"
        choice = Random(f"{self.spec.seed} {client} {self.spec.first}")
        while not self.is_stopping:
            task = asyncio.create_task(self._step(storage, client, choice))
            self.running.add(task)
            await asyncio.wait([task])
            self.running.discard(task)
            told.note()
            if not task.cancelled() and (failure := task.exception()) is not None:
                if not isinstance(failure, StorageError):
                    raise failure
                await asyncio.sleep(_PAUSE_AFTER_FAILURE)

    async def _step(self, storage: Storage, client: str, choice: Random) -> None:
        if choice.random() < self.spec.reads:
            await self._read(storage, client, choice)
            return
        kinds = chosen_kinds(choice, self.spec.kinds)
        fate = choice.random()
        if fate < 0.3:
            await Repeated(self, client, choice, kinds).run(storage)
        else:
            await self._once(storage, client, choice, kinds, commits=fate < 0.96)

    async def _read(self, storage: Storage, client: str, choice: Random) -> None:
        began = time.monotonic()
        found = await read_something(storage, self.spec.scene, choice, self.spec.kinds)
        read = Read(
            client,
            began,
            time.monotonic(),
            {name: value for name, (value, _) in found.items()},
            lengths={name: length for name, (_, length) in found.items() if length},
        )
        self.records.note("read", **to_plain(read))

    def begin(self, client: str) -> Notes:
        tx, self.next = self.next, self.next + 1
        self.records.note("begin", tx=tx, client=client, at=time.monotonic())
        return Notes(tx, client)

    def to_commit(self, notes: Notes) -> None:
        writes, reads = list(notes.writes.values()), notes.reads
        self.records.note("commit", tx=notes.tx, writes=writes, reads=reads, events=notes.events)

    def end(self, notes: Notes, answer: Answer, error: BaseException | None = None) -> None:
        told = f"{type(error).__name__}: {error}" if error else ""
        self.records.note("end", tx=notes.tx, at=time.monotonic(), answer=answer, error=told)

    async def _once(
        self, storage: Storage, client: str, choice: Random, kinds: list[str], *, commits: bool
    ) -> None:
        notes, is_committing = self.begin(client), False
        try:
            async with storage.unit_of_work() as uow:
                await Unit(self.spec.scene, storage, uow, notes, choice).run(kinds)
                self.to_commit(notes)
                if commits:
                    is_committing = True
                    await uow.commit()
        except BaseException as error:
            self.end(notes, answer_of(error, notes) if is_committing else "failed", error)
            if not isinstance(error, Conflict):
                raise
        else:
            self.end(notes, "ok" if commits else "failed")


def _end_at(how: str, wanted: str, point: str) -> None:
    """Die at a point of a commit, or stop there until somebody continues this process."""
    if point == wanted:
        commit.reached = _go_on
        os.kill(os.getpid(), signal.SIGKILL if how == "die" else signal.SIGSTOP)


def _go_on(_point: str) -> None:
    return None


class Repeated:
    """A unit of work by `Storage.run`: each attempt is a transaction of its own."""

    def __init__(self, worker: Worker, client: str, choice: Random, kinds: list[str]) -> None:
        self._worker = worker
        self._client = client
        self._choice = choice
        self._kinds = kinds
        self._notes: Notes | None = None
        self._is_committing = False

    async def run(self, storage: Storage) -> None:
        try:
            await storage.run(partial(self._attempt, storage))
        except BaseException as error:
            if self._notes is not None:
                committing = self._is_committing
                answer = answer_of(error, self._notes) if committing else "failed"
                self._worker.end(self._notes, answer, error)
            if not isinstance(error, Conflict):
                raise
        else:
            assert self._notes is not None
            self._worker.end(self._notes, "ok")

    async def _attempt(self, storage: Storage, uow: UnitOfWork) -> None:
        if self._notes is not None:
            self._worker.end(self._notes, "conflict")
        self._is_committing = False
        self._notes = self._worker.begin(self._client)
        scene = self._worker.spec.scene
        await Unit(scene, storage, uow, self._notes, self._choice).run(self._kinds)
        self._worker.to_commit(self._notes)
        self._is_committing = True


def answer_of(error: BaseException, notes: Notes) -> Answer:
    """What the kit says about a commit that ended so.

    An error of a commit to several stores tells when it may be stored all the same; where one
    store alone takes part, a broken connection leaves it open.
    """
    if isinstance(error, Conflict):
        return "conflict"
    if not isinstance(error, StorageError):
        return "unknown"
    if "is decided" in str(error):
        return "decided"
    if not isinstance(error, ConnectionFailed):
        return "failed"
    is_journalled = len(notes.stores) > 1 or notes.events
    return "unknown" if "unknown" in str(error) or not is_journalled else "failed"


def to_plain(read: Read) -> dict[str, Any]:
    names = ("client", "began", "ended", "values", "tx", "lengths")
    return {name: getattr(read, name) for name in names}


def shorten_leases(seconds: float) -> None:
    """Let leases run out within a test: the rules are the same, only the minute is shorter."""
    from datetime import timedelta

    from jts_storage.mongo import leases
    from jts_storage.unit_of_work import clock, journal, place

    assert journal.LEASE, "the lease of a commit has another name now: shorten it here"
    assert leases.DURATION, "so has that of a name"
    assert clock.LEASE > place.DECIDES_WITHIN, "so have those of its place"
    journal.LEASE = leases.DURATION = timedelta(seconds=seconds)
    # As in earnest, a place outlives the time in which its commit may decide.
    place.DECIDES_WITHIN, clock.LEASE = timedelta(seconds=seconds), timedelta(seconds=3 * seconds)


def main(spec: Spec, orders: Connection) -> None:
    """What a worker does from its start in a process of its own."""
    with Path(spec.records).with_suffix(".log").open("a") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    logging.basicConfig(level=logging.WARNING)
    clock.install()
    clock.set_apart(spec.apart)
    if spec.lease is not None:
        shorten_leases(spec.lease)
    for name in spec.planted:
        (PLANTED | PLANTED_CACHES)[name]()
    asyncio.run(Worker(spec).obey(orders))
