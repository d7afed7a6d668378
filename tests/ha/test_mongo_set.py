"""MongoDB as a replica set of three real mongods: what is acknowledged outlives its primary."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from tests.ha.mongo_set import ONE, MongoSet
from tests.ha.pairs import Pairs
from tests.ha.run import WORK, mongo_nodes, round_of, stood_still
from tests.histories.run import Plan, shown

SEED = os.environ.get("HISTORIES_SEED") or str(time.time_ns())
_ELECTION = 1.0
_BEFORE, _AFTER = 5, 5


@pytest.fixture
def members(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[MongoSet]:
    engine_used("mongod, as a replica set of three")
    with MongoSet(tmp_path / "set", election=_ELECTION) as members:
        yield members


async def test_the_primary_is_killed(members: MongoSet, fresh_settings: StorageSettings) -> None:
    """Each commit is there once and whole, acknowledged or found out of by its id."""
    url = SecretStr(members.url)
    settings = fresh_settings.model_copy(update={"mongo_url": url, "migrate": True})
    async with Storage.open(settings) as storage:
        pairs = await Pairs.begun(storage)
        for _ in range(_BEFORE):
            assert await pairs.commit(storage) == "ok"
        members.primary().kill()
        give_up = time.monotonic() + 60
        while pairs.answers["ok"] < _BEFORE + _AFTER and time.monotonic() < give_up:
            await pairs.commit(storage)
        assert pairs.answers["ok"] == _BEFORE + _AFTER, pairs.told
        assert not await pairs.problems(storage), pairs.told


def _judged(folder: Path, seconds: float, *, kinds: tuple[str, ...], ask: str = "") -> set[str]:
    """The kinds of violations that a round finds."""
    plan = Plan(SEED, seconds=seconds, kinds=WORK, pause=0, patience=60)
    with mongo_nodes(folder, SEED, election=2.0, kinds=kinds, ask=ask) as nodes:
        outcome = round_of(nodes, plan, "R")
    print(f"HISTORIES_SEED={SEED}: {dict(outcome.answers)}, stood {stood_still(nodes, outcome)}")
    print(shown(outcome.violations, 1))
    assert outcome.answers["ok"]
    assert sum(outcome.faults.values())
    return set(outcome.kinds)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_primaries_are_killed_stopped_and_left_alone(tmp_path: Path) -> None:
    assert not _judged(tmp_path, 150, kinds=("kill", "stop", "alone"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_one_member_acknowledges_is_lost(tmp_path: Path) -> None:
    """The checker sees it where a write concern that the set defines asks for one member."""
    assert _judged(tmp_path, 60, kinds=("alone",), ask=f"&w={ONE}") & {"lost", "half"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_one_member_shows_may_be_gone(tmp_path: Path) -> None:
    """It sees readers, too, that were shown what was rolled back later."""
    assert _judged(tmp_path, 60, kinds=("alone",), ask="&readConcernLevel=local")
