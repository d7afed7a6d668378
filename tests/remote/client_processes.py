"""Clients as processes of their own: each does one unit of work, and can be killed at any step."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Final, Literal

from jts_storage import SeriesKey, Storage, StorageSettings
from jts_storage.testing.contracts.samples import candle
from tests.remote.gateway_processes import forks

_PATIENCE: Final = 60.0
MOST_IN_MEMORY: Final = 2
"""So many staged rows stay in memory, here and in the gateway; the others wait in files."""

Way = Literal["documents", "stream", "whole"]
"""How a unit of work travels: a stream that holds documents, one that does not, one request."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a client does: it counts in every store, as `test_kills.Counter` reads it.

    :ivar strategy: the document that it counts in; unless its way is that of documents, none.
    :ivar number: of this attempt; its candle says which attempts were committed.
    :ivar dies_at: the step after which it kills itself, and the how manieth of that name.
    """

    address: str
    way: Way
    unit_id: str
    key: SeriesKey
    strategy: str
    name: str
    number: int
    dies_at: tuple[str, int] = ("", 1)


class ClientProcess:
    """One client, which has opened its storage and waits to be told to work."""

    def __init__(self, job: Job) -> None:
        self._orders, theirs = forks().Pipe()
        self._process: Any = forks().Process(target=main, args=(job, theirs))
        self._process.start()
        theirs.close()
        assert self._orders.poll(_PATIENCE), "the client does not start"
        assert self._orders.recv() == "open"

    @property
    def pid(self) -> int:
        found: int = self._process.pid
        return found

    def work(self) -> list[tuple[str, int]] | None:
        """Let it work; the steps it took, or None if it was killed on the way."""
        self._orders.send("work")
        try:
            assert self._orders.poll(_PATIENCE), "the client is stuck"
            steps: list[tuple[str, int]] = self._orders.recv()
        except (EOFError, ConnectionError):
            self._process.join(_PATIENCE)
            assert self._process.exitcode == -signal.SIGKILL
            return None
        return steps

    def close(self) -> None:
        self._process.kill()
        self._process.join(_PATIENCE)
        self._process.close()
        self._orders.close()


# ---- in the process


def main(job: Job, orders: Connection) -> None:
    asyncio.run(_main(job, orders))


async def _main(job: Job, orders: Connection) -> None:
    from jts_storage.domain import candle_changes
    from jts_storage.remote import session

    candle_changes.MOST_IN_MEMORY = MOST_IN_MEMORY
    if job.way == "stream":
        session.WHOLE_BYTES = 0  # type: ignore[misc]
    steps = _Steps(job.dies_at)
    steps.watch()
    settings = StorageSettings(url=f"grpc://{job.address}", env_file=None)
    async with Storage.open(settings) as storage:
        orders.send("open")
        orders.recv()
        await _count(storage, job)
    orders.send(steps.taken)


async def _count(storage: Storage, job: Job) -> None:
    async with storage.unit_of_work(id=job.unit_id) as uow:
        if job.way == "documents":
            found = await uow.strategies.get_by_id(job.strategy)
            assert found is not None
            more = str(int(found.description or 0) + 1)
            await uow.strategies.save(replace(found, description=more))
        checkpoint = await uow.ingestion.checkpoints.get(job.name)
        before = checkpoint.data["count"] if checkpoint else 0
        await uow.ingestion.checkpoints.save(job.name, {"count": before + 1})
        for place in range(2 * MOST_IN_MEMORY):  # each a series of its own, so that files are used
            key = replace(job.key, exchange=f"X{place}")
            await uow.candles.save_many(key, [candle(job.number)])
        await uow.candles.save_many(job.key, [candle(job.number)])
        await uow.commit()


class _Steps:
    """Kills this process after a step: a message sent, or an answer read."""

    def __init__(self, dies_at: tuple[str, int]) -> None:
        self._dies_at = dies_at
        self.taken: list[tuple[str, int]] = []

    def reached(self, name: str) -> None:
        count = 1 + sum(each == name for each, _ in self.taken)
        self.taken.append((name, count))
        if self.taken[-1] == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        from jts_storage.remote import grpc_internals, session

        send, read = grpc_internals.send, session.WorkSession._read
        whole = session.WorkSession._commit_whole

        async def sent(stream: Any, request: Any) -> None:
            await send(stream, request)
            self.reached(f"{request.WhichOneof('step')} sent")

        async def answered(work: Any, seconds: float) -> Any:
            found = await read(work, seconds)
            self.reached(f"{found.WhichOneof('step')} read")
            return found

        async def sent_whole(work: Any, *given: Any) -> Any:
            self.reached("to be sent whole")
            found = await whole(work, *given)
            self.reached("whole answered")
            return found

        session.send = sent  # type: ignore[attr-defined, assignment]
        session.WorkSession._read = answered  # type: ignore[assignment, method-assign]
        session.WorkSession._commit_whole = sent_whole  # type: ignore[assignment, method-assign]
