"""The checker finds each fault that is put into the kit on purpose."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from jts_storage.mongo import saves
from jts_storage.unit_of_work import journal
from tests.histories import planted
from tests.histories.planted import PLANTED
from tests.histories.run import Plan, run_round
from tests.histories.servers import Servers

SEED = os.environ.get("HISTORIES_SEED") or str(time.time_ns())
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Expected:
    """In which work a planted fault shows, as what, and what else must happen for it to show."""

    kinds: tuple[str, ...]
    violations: frozenset[str]
    faults: tuple[str, ...] = ()


def shows(kinds: str, violations: str, faults: str = "") -> Expected:
    return Expected(tuple(kinds.split()), frozenset(violations.split()), tuple(faults.split()))


EXPECTED = {
    planted.candles_acknowledged_and_not_stored: shows("candles ledger", "lost half"),
    planted.symbols_acknowledged_and_not_stored: shows("symbol ledger", "lost half"),
    planted.series_left_out_of_a_commit: shows("candles symbol ledger", "half"),
    planted.candles_inserted_in_two_parts: shows("candles", "order lost"),
    planted.series_written_again_by_an_unfenced_recoverer: shows("candles ledger", "order lost"),
    planted.versions_from_a_hosts_clock: shows("candles event", "order lost event", "clock"),
    planted.deletions_that_wait_for_nobody: shows("candles", "order lost half"),
    planted.bookkeeping_replayed_without_its_id: shows("bars ledger", "order lost half", "die"),
    planted.symbols_ordered_by_when_they_were_staged: shows("symbol", "order lost", "clock"),
    planted.references_not_guarded: shows("formula strategy", "dangling"),
    planted.checkpoints_dropped_by_recovery: shows("checkpoint ledger", "half lost", "die"),
    planted.checkpoints_saved_without_comparing: shows("checkpoint", "lost"),
    planted.checkpoints_applied_twice: shows("checkpoint", "doubled"),
    planted.aggregates_saved_without_comparing: shows("aggregate", "lost"),
    planted.versions_of_documents_not_compared: shows("ledger", "lost order"),
    planted.use_of_formulas_not_looked_for: shows("formula strategy", "dangling"),
    planted.documents_written_outside_of_the_transaction: shows("ledger formula", "dirty lost"),
    planted.documents_acknowledged_and_not_committed: shows("ledger candles", "lost half"),
    planted.conflict_told_of_what_is_stored: shows("ledger candles", "dirty"),
    planted.events_of_a_commit_reversed: shows("event ledger", "event"),
    planted.events_forgotten: shows("event ledger", "event"),
    planted.events_ordered_by_a_wrong_clock: shows("event", "event"),
    planted.declared_rows_acknowledged_and_not_stored: shows("figure tick ledger", "lost half"),
    planted.rows_appended_again_by_a_recoverer: shows("tick ledger", "doubled", "die"),
    planted.declared_records_saved_without_comparing: shows("balance", "lost"),
    # The last, since what it leaves can never be finished.
    planted.chunks_purged_early: shows("candles ledger", "half lost unfinished", "die"),
}


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[Servers]:
    for engine in ("mongod", "ClickHouse endpoint over chDB", "SQLite"):
        engine_used(engine)
    with Servers(tmp_path_factory.mktemp("planted")) as servers:
        yield servers


def test_each_has_a_test() -> None:
    assert {plant.__name__ for plant in EXPECTED} == set(PLANTED)


@pytest.mark.parametrize("plant", EXPECTED, ids=lambda plant: plant.__name__)
def test_each_replaces_what_is_there(
    plant: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing moves away from under a fault unseen until the night: each finds what it replaces."""
    looked_at = []

    def only_looked_at(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        assert name in vars(owner), f"{owner} has no {name} of its own"
        assert callable(make(getattr(owner, name)))
        looked_at.append(name)

    monkeypatch.setattr(planted, "replaced", only_looked_at)
    for owner, name in ((journal, "ABANDONED_AFTER"), (saves.Save, "times")):
        monkeypatch.setattr(owner, name, vars(owner)[name])
    plant()
    assert looked_at


@pytest.mark.slow
@pytest.mark.parametrize("plant", EXPECTED, ids=lambda plant: plant.__name__)
def test_is_found(servers: Servers, plant: Callable[[], None]) -> None:
    expected = EXPECTED[plant]
    plan = Plan(
        SEED,
        seconds=40,  # of a busy machine: a quiet one has its commits in a few
        commits=100,
        kinds=expected.kinds,
        faults=expected.faults,
        pause=0.3,
        planted=(plant.__name__,),
        # A recovery that cannot succeed is not waited for.
        patience=3,
    )
    found: set[str] = set()
    for number in range(_ROUNDS):
        found |= set(run_round(servers, plan, f"{plant.__name__}{number}").kinds)
        if found & expected.violations:
            return
    pytest.fail(f"HISTORIES_SEED={SEED}: {plant.__name__} was not found, only {found or 'nothing'}")
