"""Processes work over real engines while faults happen; the checker judges what they recorded.

``HISTORIES_SEED`` repeats a run's choices; a failure prints it with the smallest history.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from jts_storage import Storage
from tests.histories.checker import judge
from tests.histories.final import read_from
from tests.histories.history import from_lines
from tests.histories.process import Spec, Worker, note_deliveries
from tests.histories.run import Plan, run_round, shown
from tests.histories.scene import MODELS, prepared
from tests.histories.servers import Servers
from tests.histories.workload import ACTIONS

rounds = count()
SEED = os.environ.get("HISTORIES_SEED") or str(time.time_ns())


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[Servers]:
    """Of all rounds, each of which has objects of its own."""
    for engine in ("mongod", "ClickHouse endpoint over chDB", "SQLite"):
        engine_used(engine)
    with Servers(tmp_path_factory.mktemp("histories")) as servers:
        yield servers


@pytest.fixture
def servers_with_postgres(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[Servers]:
    for engine in ("mongod", "ClickHouse endpoint over chDB", "PostgreSQL"):
        engine_used(engine)
    with Servers(tmp_path, postgres=True) as servers:
        yield servers


def judged(servers: Servers, plan: Plan) -> None:
    outcome = run_round(servers, plan, f"R{next(rounds)}")
    print(f"HISTORIES_SEED={plan.seed}: {dict(outcome.answers)}, faults {dict(outcome.faults)}")
    assert outcome.answers["ok"]
    assert not outcome.violations, f"HISTORIES_SEED={plan.seed}\n{shown(outcome.violations)}"


async def test_in_memory(tmp_path: Path) -> None:
    """The twin keeps the same promises, under cancellation too."""
    records = tmp_path / "memory.jsonl"
    async with Storage.in_memory(models=MODELS) as storage:
        scene = await prepared(storage, "M")
        spec = Spec("p", SEED, 1, scene, {}, str(records), tuple(ACTIONS), clients=4)
        worker = Worker(spec)
        note_deliveries(storage, worker.records, scene.name)
        working = asyncio.create_task(worker.work(storage))
        for _ in range(15):
            await asyncio.sleep(0.1)
            worker.cancel()
        worker.is_stopping = True
        await working
        final = await read_from(storage, scene)
    violations = judge(from_lines(records.read_text().splitlines(), final))
    assert not violations, f"HISTORIES_SEED={SEED}\n{shown(violations)}"


def test_without_faults(servers: Servers) -> None:
    judged(servers, Plan(SEED, seconds=2, faults=()))


def test_with_every_fault(servers: Servers) -> None:
    judged(servers, Plan(SEED, seconds=5))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_for_minutes_on_sqlite(servers: Servers) -> None:
    judged(servers, Plan(SEED, processes=4, seconds=150))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_for_minutes_on_postgres(servers_with_postgres: Servers) -> None:
    judged(servers_with_postgres, Plan(SEED, processes=4, seconds=150))
