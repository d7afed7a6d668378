"""PostgreSQL as a primary and a streaming standby: several hosts in one URL, and promotion."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.relational import DatabaseConfig, DatabaseManager
from jts_storage.relational.repositories import SqlCheckpointRepository
from tests.ha.pairs import ORDER, Pairs
from tests.ha.postgres_pair import Pair
from tests.ha.run import WORK, postgres_nodes, round_of, stood_still
from tests.histories.run import Plan, shown

SEED = os.environ.get("HISTORIES_SEED") or str(time.time_ns())
_BEFORE, _AFTER = 5, 5


@pytest.fixture
def pair(engine_used: Callable[[str], None]) -> Iterator[Pair]:
    engine_used("PostgreSQL, with a synchronous standby")
    with Pair(synchronous=True) as pair:
        yield pair


async def test_reads_go_on_and_writes_after_promotion(
    pair: Pair, fresh_settings: StorageSettings
) -> None:
    """ET-INFRA-02.1, IT-INFRA-02

    One storage reads and writes at whatever host takes writes; a second reads at any.
    """
    url = SecretStr(pair.url)
    settings = fresh_settings.model_copy(update={"database_url": url, "migrate": True})
    async with Storage.open(settings) as storage:
        pairs = await Pairs.begun(storage)
        for _ in range(_BEFORE):
            assert await pairs.commit(storage) == "ok"
        pair.primary.kill()
        await _is_read_at_the_standby(pair.url)
        with pytest.raises(ConnectionFailed, match=pair.url.partition("@")[2].partition(",")[0]):
            await DatabaseManager(DatabaseConfig(pair.url, max_retries=0)).create_connection_pool()
        await asyncio.to_thread(pair.promote)
        give_up = time.monotonic() + 60
        while pairs.answers["ok"] < _BEFORE + _AFTER and time.monotonic() < give_up:
            await pairs.commit(storage)
        assert pairs.answers["ok"] == _BEFORE + _AFTER, pairs.told
        assert not await pairs.problems(storage), pairs.told


async def _is_read_at_the_standby(url: str) -> None:
    config = DatabaseConfig(f"{url}?target_session_attrs=any", max_retries=0)
    async with DatabaseManager(config) as manager:
        checkpoints = SqlCheckpointRepository(manager)
        found = await checkpoints.get(ORDER)
        assert found is not None
        assert found.data["appended"] == list(range(1, _BEFORE + 1))
        with pytest.raises(StorageError, match="target_session_attrs=read-write"):
            await checkpoints.save(ORDER, {"appended": []})


async def test_no_host_takes_writes(pair: Pair) -> None:
    """Between two primaries each host answers, and none is what was asked for."""
    host = f"127.0.0.1:{pair.standby.port}"
    config = DatabaseConfig(f"postgresql://postgres@{host},{host}/postgres", max_retries=0)
    with pytest.raises(ConnectionFailed, match="Promote a standby") as caught:
        await DatabaseManager(config).create_connection_pool()
    assert caught.value.repeatable


def _judged(folder: Path, *, synchronous: bool, kinds: tuple[str, ...], seconds: float) -> set[str]:
    """The kinds of violations that a round finds."""
    plan = Plan(SEED, seconds=seconds, kinds=WORK, pause=0, patience=60)
    with postgres_nodes(folder, SEED, synchronous=synchronous, kinds=kinds) as nodes:
        outcome = round_of(nodes, plan, "R")
    print(f"HISTORIES_SEED={SEED}: {dict(outcome.answers)}, stood {stood_still(nodes, outcome)}")
    print(shown(outcome.violations, 1))
    assert outcome.answers["ok"]
    assert sum(outcome.faults.values())
    return set(outcome.kinds)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_with_a_synchronous_standby(tmp_path: Path) -> None:
    assert not _judged(tmp_path, synchronous=True, kinds=("kill", "hang", "alone"), seconds=150)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_standby_that_lags_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """Without a synchronous standby: as the page says, and the checker sees it."""
    assert _judged(tmp_path, synchronous=False, kinds=("alone",), seconds=60) & {"lost", "half"}
