"""Any sequence of units of work, commits, rollbacks and crashes agrees with plain dicts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.ports import UnitOfWork
from jts_storage.testing.contracts.samples import examples
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work.clock import CLOCK

POINTS = ["before the journal", "chunks written", "database ready", "entry written"]
AFTER_DECISION = ["decided", "series stored", "database committed", "journal done"]
START = datetime(2024, 1, 2, tzinfo=UTC)
fresh = count()


class Crash(BaseException):
    """What a process meets that dies; nothing in the kit may catch it."""


@dataclass
class Model:
    """What is stored, as dicts."""

    candles: set[int] = field(default_factory=set)
    formulas: dict[str, str] = field(default_factory=dict)
    checkpoint: int | None = None

    def copy(self) -> Model:
        return Model(set(self.candles), dict(self.formulas), self.checkpoint)


operations = st.lists(
    st.tuples(
        st.sampled_from(["save", "delete", "formula", "rename", "forget", "mark"]),
        st.integers(0, 20),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=6,
)
endings = st.one_of(
    st.sampled_from(["commit", "rollback"]),
    st.sampled_from(POINTS),
    st.sampled_from(AFTER_DECISION),
)
# Most units touch several stores, or there would be nothing in between to crash at.
several_stores = operations.map(lambda changes: [("save", 3, 4), ("mark", 7, 0), *changes])
histories = st.lists(
    st.tuples(st.one_of(operations, several_stores, several_stores), endings),
    min_size=1,
    max_size=4,
)


class Trial:
    """One history on one storage, under names of its own."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        number = next(fresh)
        self.key = SeriesKey(f"MODEL{number}", Timeframe.M1)
        self.prefix = f"model{number} "
        self.model = Model()

    async def run(self, units: list[tuple[list[tuple[str, int, int]], str]]) -> None:
        for changes, ending in units:
            staged = self.model.copy()
            try:
                with crashing_at(ending):
                    async with self.storage.unit_of_work() as uow:
                        for name, first, length in changes:
                            await self.change(uow, staged, name, first, length)
                            await self.agree(uow, staged)
                        if ending != "rollback":
                            await uow.commit()
            except Crash:
                await self.forget_its_place()
                await self.storage.recover()
                # A commit to one store alone has no such points: then it just committed.
                if ending in AFTER_DECISION:
                    self.model = staged
            else:
                if ending != "rollback":
                    self.model = staged
            await self.agree(self.storage, self.model)

    async def forget_its_place(self) -> None:
        """As if its process were dead: this one lives, and is waited for until its lease ends."""
        if isinstance(self.storage._backend, StoreBackend):
            clock = self.storage.mongo.db[CLOCK]
            await clock.update_one({}, {"$set": {"running": []}})

    async def change(
        self, uow: UnitOfWork, staged: Model, name: str, first: int, length: int
    ) -> None:
        start, end = START + timedelta(minutes=first), START + timedelta(minutes=first + length)
        rows = set(range(first, first + length + 1))
        if name == "save":
            await uow.candles.save_many(self.key, make_candles(self.key, len(rows), start=start))
            staged.candles |= rows
        elif name == "delete":
            deleted = await uow.candles.delete_range(self.key, start, end)
            assert deleted == len(staged.candles & rows)
            staged.candles -= rows
        elif name == "formula":
            saved = await uow.formulas.save(make_formula(f"{self.prefix}{first}"))
            staged.formulas[saved.id or ""] = saved.name
        elif name == "mark":
            await uow.ingestion.checkpoints.save(self.prefix.strip(), {"at": first})
            staged.checkpoint = first
        elif staged.formulas:
            identity = sorted(staged.formulas)[first % len(staged.formulas)]
            if name == "forget":
                assert await uow.formulas.delete(identity)
                del staged.formulas[identity]
            else:
                found = await uow.formulas.get_by_id(identity)
                assert found is not None
                await uow.formulas.save(replace(found, name=f"{self.prefix}renamed {first}"))
                staged.formulas[identity] = f"{self.prefix}renamed {first}"

    async def agree(self, reader: UnitOfWork | Storage, model: Model) -> None:
        series = await reader.candles.get_range(self.key, START, START + timedelta(days=1))
        minutes = (series.columns.timestamp - int(START.timestamp() * 1000)) // 60_000
        assert minutes.tolist() == sorted(model.candles)
        names = {
            formula.id: formula.name
            for formula in await reader.formulas.list(limit=10_000)
            if formula.name.startswith(self.prefix)
        }
        assert names == model.formulas
        checkpoint = await reader.ingestion.checkpoints.get(self.prefix.strip())
        assert (checkpoint.data["at"] if checkpoint else None) == model.checkpoint


@contextmanager
def crashing_at(point: str) -> Iterator[None]:
    def reached(name: str) -> None:
        if name == point:
            raise Crash

    before, commit_points.reached = commit_points.reached, reached
    try:
        yield
    finally:
        commit_points.reached = before


@settings(deadline=None, max_examples=40)
@given(units=histories)
def test_in_memory(units: list[tuple[list[tuple[str, int, int]], str]]) -> None:
    async def run() -> None:
        async with Storage.in_memory() as storage:
            await Trial(storage).run(units)

    asyncio.run(run())


@pytest.fixture(scope="module")
def mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    with LocalMongod.acquire(tmp_path_factory.mktemp("mongo")) as mongod:
        for engine in ("mongod", "chDB", "SQLite"):
            engine_used(engine)
        yield mongod


def test_on_real_stores(mongod: LocalMongod) -> None:
    folder = tempfile.TemporaryDirectory()
    runner = asyncio.Runner()
    storage = Storage.open(
        StorageSettings(data_dir=Path(folder.name), mongo_url=SecretStr(mongod.uri), migrate=True)
    )
    runner.run(storage.open_stores())

    @settings(
        deadline=None,
        max_examples=examples(10, 200),
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
    @given(units=histories)
    def agrees(units: list[tuple[list[tuple[str, int, int]], str]]) -> None:
        runner.run(Trial(storage).run(units))

    try:
        agrees()
    finally:
        runner.run(storage.close())
        runner.close()
        folder.cleanup()
