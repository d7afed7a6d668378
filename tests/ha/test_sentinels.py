"""Redis with sentinels: no read is older than an acknowledged commit, whatever the primary does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.ha.redis_set import SentinelSet
from tests.ha.run import CACHED, MAX_STALE, OfACache, redis_nodes, round_of, stood_still, told_of
from tests.histories.history import Cached, History, Read
from tests.histories.planted_caches import writers_that_tell_the_cache_nothing
from tests.histories.run import Outcome, Plan, shown
from tests.integration.rate_limits.broker import Broker, worst_window

SEED = os.environ.get("HISTORIES_SEED") or str(time.time_ns())
_A_SECOND = 10
_ROUNDS = 4
_FOR_LIMITS = {"--min-replicas-to-write": "1", "--min-replicas-max-lag": "1"}
"""As the page says: a primary that a failover has left behind would count for itself without."""


class _Servers(SentinelSet):
    """Which had two primaries from 10 to 11, and none of which runs."""

    def __init__(self) -> None:
        super().__init__(Path())

    def two_primaries(self) -> list[tuple[float, float]]:
        return [(10.0, 11.0)]


@pytest.mark.parametrize(
    ("began", "ended", "is_judged"),
    [
        (8.0, 9.9, True),
        (9.5, 10.1, False),
        (11.0 + MAX_STALE - 0.1, 30.0, False),
        (11.0 + MAX_STALE + 0.1, 30.0, True),
        (39.9, 40.1, False),
        (41.0 + MAX_STALE + 0.1, 60.0, True),
    ],
)
def test_what_may_be_old_is_passed_over_and_nothing_else(
    began: float, ended: float, is_judged: bool
) -> None:
    """It is what the page says: two primaries, and commits that Redis was not told of."""
    of_the_cache = Read("p0.0", began, ended, {"candle:A/0": 1})
    of_a_document = Read("p0.0", began, ended, {"formula:1": 1})
    told = (Cached(20.0, 25.0, 3, False), Cached(40.0, 41.0, 0, True))
    promise = OfACache(_Servers())
    kept = promise(History({}, (of_the_cache, of_a_document), cached=told)).reads
    assert (of_the_cache in kept) == is_judged
    assert of_a_document in kept
    assert (promise.judged, promise.passed_over) == ((1, 0) if is_judged else (0, 1))


def _outcome(folder: Path, plan: Plan, *, with_limits: bool = False) -> Outcome:
    options = _FOR_LIMITS if with_limits else None
    with redis_nodes(folder, plan.seed, pause=4, options=options) as nodes:
        limits = f"broker={_A_SECOND}/s"
        broker = Broker(folder / "arrivals", nodes.redis_url, limits=limits, delay=0.1, clients=4)
        try:
            if with_limits:
                broker.start(seconds=plan.seconds, count=2)
            outcome = round_of(nodes, plan, "R")
        finally:
            broker.kill()
            for process in broker.processes:
                process.wait(10)
    assert nodes.promised is not None
    reads = told_of(nodes.promised, outcome)
    print(
        f"HISTORIES_SEED={SEED}: {dict(outcome.answers)}, reads of the cache {reads}"
        f", {dict(outcome.faults)}, stood {stood_still(nodes, outcome)}"
        f", {len(broker.times())} requests within limits"
    )
    print(shown(outcome.violations, 1))
    assert outcome.answers["ok"]
    assert reads["answered by it"], "the cache was not used"
    assert reads["judged"], "none is left to be judged"
    assert sum(outcome.faults.values())
    if with_limits:
        assert 0 < worst_window(broker.times()) <= _A_SECOND
    return outcome


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_primaries_are_killed_stopped_and_started_again(tmp_path: Path) -> None:
    """IT-INFRA-03: nothing stale is read, nothing acknowledged is lost, no limit is exceeded."""
    plan = Plan(SEED, seconds=120, kinds=CACHED, pause=0, patience=60, reads=0.8)
    assert not _outcome(tmp_path, plan, with_limits=True).kinds


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_checker_sees_a_cache_that_is_told_nothing(tmp_path: Path) -> None:
    """What the other test finds nothing of is found where it is."""
    planted = (writers_that_tell_the_cache_nothing.__name__,)
    for number in range(_ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        seed = f"{SEED}{number}"
        plan = Plan(
            seed, seconds=25, kinds=CACHED, pause=0, patience=10, planted=planted, reads=0.8
        )
        if set(_outcome(folder, plan).kinds) & {"order", "lost"}:
            return
    pytest.fail(f"HISTORIES_SEED={SEED}: nothing was found")
