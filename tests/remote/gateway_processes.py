"""Gateways as processes of their own over stores on servers: they can be killed and come back."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Final, Self

from jts_storage.unit_of_work import commit

_PATIENCE: Final = 60.0
LEASE_SECONDS: Final = 3.0
"""For as long others wait for a gateway that died; a minute in earnest."""

COMMIT_POINTS: Final = (
    "before the journal",
    "chunks written",
    "database ready",
    "entry written",
    "decided",
    "database committed",
    "series stored",
    "journal done",
)
SESSION_POINTS: Final = ("begun", "asked", "staged", "to commit", "committed", "answered")
"""Steps of the stream of a unit of work: each request that the gateway reads, and its answer."""


@cache
def forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.histories.preloaded"])
    return context


class GatewayProcess:
    """One gateway over its starts, always at the same port."""

    def __init__(
        self,
        urls: dict[str, str],
        folder: Path,
        *,
        most_in_memory: int | None = None,
        **limits: Any,
    ) -> None:
        """:param most_in_memory: so many staged rows stay there; the others wait in files."""
        self._urls, self._folder, self._limits = urls, folder, limits
        self._most_in_memory = most_in_memory
        self._listen = "127.0.0.1:0"
        self._process: Any = None
        self._orders: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def address(self) -> str:
        return self._listen

    @property
    def port(self) -> int:
        return int(self._listen.rpartition(":")[2])

    @property
    def pid(self) -> int:
        found: int = self._process.pid
        return found

    def start(self) -> None:
        """Start it, and return once it serves."""
        self.begin()
        self.wait_until_served()

    def begin(self) -> None:
        self._orders, theirs = forks().Pipe()
        folder, rows = str(self._folder), self._most_in_memory
        arguments = (self._urls, folder, self._listen, rows, self._limits, theirs)
        self._process = forks().Process(target=main, args=arguments)
        self._process.start()
        theirs.close()

    def wait_until_served(self) -> None:
        assert self._orders.poll(_PATIENCE), "the gateway does not start"
        self._listen = self._orders.recv()

    def die_at(
        self,
        point: str,
        nth: int = 1,
        victim: int | None = None,
        how: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Have it kill itself when it comes to a point for the `nth` time from now on.

        :param victim: the process to kill in its place.
        """
        self._orders.send((point, nth, victim, how))
        assert self._orders.poll(_PATIENCE)
        assert self._orders.recv() == "heard"

    def has_died(self, within: float = 0) -> bool:
        self._process.join(within)
        return self._process.exitcode is not None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(_PATIENCE)
            self._process.close()
            self._orders.close()
            self._process = None


@contextmanager
def memory_gateway() -> Iterator[tuple[str, Any]]:
    """The address of a gateway over stores in memory, and its process."""
    ours, theirs = forks().Pipe()
    found: Any = forks().Process(target=_serve_memory, args=(theirs,))
    found.start()
    assert ours.poll(_PATIENCE)
    try:
        yield ours.recv(), found
    finally:
        found.kill()
        found.join(_PATIENCE)


# ---- in the process


def _serve_memory(ready: Connection) -> None:
    from jts_storage import Storage
    from jts_storage.memory.backend import InMemoryBackend
    from jts_storage.remote.server.gateway import Gateway, Place

    async def serve() -> None:
        backend = InMemoryBackend()
        async with Storage(backend):
            gateway = Gateway(backend, Place("127.0.0.1:0"))
            await gateway.start()
            ready.send(gateway.address)
            await gateway.wait()

    asyncio.run(serve())


def main(
    urls: dict[str, str],
    folder: str,
    listen: str,
    most_in_memory: int | None,
    limits: dict[str, Any],
    orders: Connection,
) -> None:
    from jts_storage.domain import candle_changes

    if most_in_memory is not None:
        candle_changes.MOST_IN_MEMORY = most_in_memory
    with (Path(folder) / "gateway.log").open("a") as log:
        os.dup2(log.fileno(), 2)
    asyncio.run(_serve(urls, Path(folder), listen, limits, orders))


async def _serve(
    urls: dict[str, str], folder: Path, listen: str, limits: dict[str, Any], orders: Connection
) -> None:
    from jts_storage import Storage
    from jts_storage.backend import StoreBackend
    from jts_storage.remote.server.gateway import Gateway, Place
    from jts_storage.remote.server.limits import Limits
    from tests.histories.process import settings_of, shorten_leases
    from tests.histories.scene import MODELS

    shorten_leases(LEASE_SECONDS)
    backend = StoreBackend(settings_of(urls, folder), models=MODELS)
    steps = Steps()
    steps.watch()
    async with Storage(backend):
        gateway = Gateway(backend, Place(listen, limits=Limits(**limits)))
        await gateway.start()
        threading.Thread(target=_listen, args=(orders, steps), daemon=True).start()
        orders.send(gateway.address)
        await gateway.wait()


def _listen(orders: Connection, steps: Steps) -> None:
    while True:
        try:
            steps.point, steps.left, steps.victim, steps.how = orders.recv()
        except (EOFError, OSError):
            os._exit(1)  # whoever started it is gone
        orders.send("heard")


class Steps:
    """Kills this process, or another one, at a point."""

    def __init__(self) -> None:
        self.point, self.left = "", 0
        self.victim: int | None = None
        self.how = signal.SIGKILL

    def reached(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(self.victim or os.getpid(), self.how)

    def watch(self) -> None:
        from jts_storage.remote.server import sessions
        from jts_storage.unit_of_work.unit import UnitOfWork

        commit.reached = self.reached
        names = {"begin": "begun", "call": "asked", "chunk": "staged", "commit": "to commit"}
        next_of, commits, work = sessions.next_of, UnitOfWork.commit, sessions.Works.work
        whole = sessions.Works.commit

        async def read(*given: Any) -> Any:
            found = await next_of(*given)
            if found is not None:
                self.reached(names.get(found.WhichOneof("step") or "", ""))
            return found

        async def committed(uow: UnitOfWork) -> Any:
            result = await commits(uow)
            self.reached("committed")
            return result

        async def worked(works: Any, *given: Any) -> None:
            await work(works, *given)
            self.reached("answered")

        async def worked_whole(works: Any, *given: Any) -> Any:
            for point in ("begun", "staged", "to commit"):  # all of it is read at once
                self.reached(point)
            found = await whole(works, *given)
            self.reached("answered")
            return found

        sessions.next_of = read  # type: ignore[assignment]
        sessions.Works.commit = worked_whole  # type: ignore[assignment, method-assign]
        UnitOfWork.commit = committed  # type: ignore[assignment, method-assign]
        sessions.Works.work = worked  # type: ignore[assignment, method-assign]
