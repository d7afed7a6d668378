"""Commits that die or lose their place, and what they leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jts_storage import Storage
from jts_storage._runtime.processes import this_process
from jts_storage.ports import UnitOfWork
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work import journal
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.entries import ENTRIES
from jts_storage.unit_of_work.place import Place


class Crash(BaseException):
    """A process dies."""


def dying(point: str) -> Callable[[str], None]:
    """To be put in the place of `commit.reached`."""

    def reached(name: str) -> None:
        if name == point:
            raise Crash

    return reached


async def abandon(storage: Storage, monkeypatch: pytest.MonkeyPatch, uow: UnitOfWork) -> None:
    """Commit, but die once it is decided: what is left is a process's that is gone."""
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(commit_points, "reached", dying("decided"))
        await uow.commit()
    await orphan(storage)


async def orphan(storage: Storage) -> None:
    """Let all that is unfinished be of a process of this host that is dead."""
    gone = f"{this_process().rsplit('/', 1)[0]}/0"
    await storage.mongo.db[ENTRIES].update_many({}, {"$set": {"owner": gone}})
    journal._in_hand.clear()


@asynccontextmanager
async def losing_its_place(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, write: Coroutine[Any, Any, Any]
) -> AsyncIterator[asyncio.Task[Any]]:
    """A write that is paused once its rows are stored, until others wait for it no more."""
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]
    leave, stored, goes_on = clock._leave, asyncio.Event(), asyncio.Event()

    async def late(place: Place) -> bool:
        monkeypatch.setattr(clock, "_leave", leave)
        stored.set()
        await goes_on.wait()
        return bool(await leave(place))

    monkeypatch.setattr(clock, "_leave", late)
    writing = asyncio.create_task(write)
    await stored.wait()
    await storage.mongo.db[CLOCK].update_one({}, {"$set": {"running": []}})
    yield writing
    goes_on.set()
    await asyncio.wait([writing])
