"""Processes work over real engines while faults happen; the checker judges what they recorded.

``HISTORIES_SEED`` repeats a run's choices; a failure prints it with the smallest history.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.histories.run import Plan, run_round, shown
from tests.histories.servers import Servers

SEED = os.environ.get("HISTORIES_SEED") or str(time.time_ns())


@pytest.fixture
def servers(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[Servers]:
    for engine in ("mongod", "ClickHouse endpoint over chDB", "SQLite"):
        engine_used(engine)
    with Servers(tmp_path) as servers:
        yield servers


@pytest.fixture
def servers_with_postgres(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[Servers]:
    for engine in ("mongod", "ClickHouse endpoint over chDB", "PostgreSQL"):
        engine_used(engine)
    with Servers(tmp_path, postgres=True) as servers:
        yield servers


def judged(servers: Servers, plan: Plan) -> None:
    outcome = run_round(servers, plan, "R")
    print(f"HISTORIES_SEED={plan.seed}: {dict(outcome.answers)}, faults {dict(outcome.faults)}")
    assert outcome.answers["ok"]
    assert not outcome.violations, f"HISTORIES_SEED={plan.seed}\n{shown(outcome.violations)}"


def test_without_faults(servers: Servers) -> None:
    judged(servers, Plan(SEED, seconds=7, faults=()))


def test_with_every_fault(servers: Servers) -> None:
    judged(servers, Plan(SEED, seconds=16))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_for_minutes_on_sqlite(servers: Servers) -> None:
    judged(servers, Plan(SEED, processes=4, seconds=120))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_for_minutes_on_postgres(servers_with_postgres: Servers) -> None:
    judged(servers_with_postgres, Plan(SEED, processes=4, seconds=120))
