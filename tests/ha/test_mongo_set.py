"""MongoDB as a replica set of three real mongods: what is acknowledged outlives its primary."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.mongo import MongoDBFormulaRepository, MongoDBManager
from jts_storage.testing.factories import make_formula
from tests.ha.mongo_set import ONE, MongoSet
from tests.ha.pairs import Pairs
from tests.ha.run import WORK, mongo_nodes, round_of, stood_still
from tests.histories.run import Plan, shown

SEED = os.environ.get("HISTORIES_SEED") or str(time.time_ns())
_ELECTION = 1.0
_BEFORE, _AFTER = 5, 5
_ROUNDS = 4


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


@pytest.mark.slow
async def test_a_read_shows_nothing_that_one_member_alone_has(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    """It could be rolled back; who asks for `local` sees it all the same."""
    engine_used("mongod, as a replica set of three")
    with MongoSet(tmp_path, election=10.0) as members:
        hasty_url = f"{members.url}&readConcernLevel=local"
        async with MongoDBManager(members.url) as manager, MongoDBManager(hasty_url) as hasty:
            formulas, at_once = MongoDBFormulaRepository(manager), MongoDBFormulaRepository(hasty)
            saved = await formulas.save(make_formula("before"))
            assert saved.id is not None
            for other in members.others(members.primary()):
                other.kill()
            saving = asyncio.create_task(formulas.save(replace(saved, name="after")))
            seen = None
            for _ in range(500):  # less than the primary takes to see that it is alone
                seen = await _name(at_once, saved.id)
                if seen == "after":
                    break
                await asyncio.sleep(0.01)
            assert (seen, await _name(formulas, saved.id)) == ("after", "before")
            assert not saving.done()
            saving.cancel()


async def _name(formulas: MongoDBFormulaRepository, identity: str) -> str | None:
    found = await formulas.get_by_id(identity)
    return found.name if found else None


def _found(folder: Path, plan: Plan, *, kinds: tuple[str, ...], ask: str = "") -> set[str]:
    """The kinds of violations that a round finds."""
    with mongo_nodes(folder, plan.seed, election=2.0, kinds=kinds, ask=ask) as nodes:
        outcome = round_of(nodes, plan, "R")
    print(f"HISTORIES_SEED={SEED}: {dict(outcome.answers)}, stood {stood_still(nodes, outcome)}")
    print(shown(outcome.violations, 1))
    assert outcome.answers["ok"]
    assert sum(outcome.faults.values())
    return set(outcome.kinds)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_primaries_are_killed_stopped_and_left_alone(tmp_path: Path) -> None:
    plan = Plan(SEED, seconds=150, kinds=WORK, pause=0, patience=60)
    assert not _found(tmp_path, plan, kinds=("kill", "stop", "alone"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("ask", "work", "violations"),
    [
        pytest.param(f"&w={ONE}", WORK, {"lost", "half"}, id="acknowledged by one member"),
        pytest.param("&readConcernLevel=local", ("ledger",), {"dirty", "half"}, id="read at one"),
    ],
)
def test_the_checker_sees_what_one_member_alone_had(
    tmp_path: Path, ask: str, work: tuple[str, ...], violations: set[str]
) -> None:
    """A write concern of the set that one member meets, and reads of what one member has."""
    for number in range(_ROUNDS):
        plan = Plan(f"{SEED}{number}", clients=8, seconds=45, kinds=work, pause=0, patience=10)
        folder = tmp_path / str(number)
        folder.mkdir()
        if _found(folder, plan, kinds=("alone",), ask=ask) & violations:
            return
    pytest.fail(f"HISTORIES_SEED={SEED}: nothing was found with {ask}")
