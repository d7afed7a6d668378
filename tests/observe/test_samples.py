"""What a look at the stores tells, sample by sample, and how each step of a call is counted."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jts_storage import PerSecond, StorageError
from jts_storage._runtime.pools import PoolStatus
from jts_storage._runtime.steps import HELD, RETRIED, WAITED
from jts_storage.domain.cache_statistics import CacheStatistics
from jts_storage.domain.rate_limits import LimitState, RateLimitState
from jts_storage.errors import Conflict, OutcomeUnknown
from jts_storage.observe import Metrics
from jts_storage.observe.catalogue import Sample
from jts_storage.observe.disks import ServerDisks, of_files
from jts_storage.observe.state import _of_health, _of_migrations, _of_pools, _of_redis
from jts_storage.ports.health import Health
from jts_storage.ports.observation import Call

COMMIT = Call("storage", "unit_of_work", "commit")


def told(samples: Any) -> dict[tuple[str, ...], float]:
    found: list[Sample] = list(samples)
    return {(each.metric.name, *each.labels): each.value for each in found}


def health(**answers: bool) -> Health:
    found = Health(**answers)
    found.unfinished, found.oldest = 2, timedelta(seconds=61)
    found.waiting_events, found.oldest_event, found.parked_events = 3, timedelta(seconds=7), 4
    found.waiting_for_subscriptions, found.parked_for_subscriptions = 5, 6
    found.unreadable_documents, found.unreadable_rows, found.unreadable_records = 7, 8, 9
    found.broken_parts = 10
    found.damaged_commits = {"a": "torn", "b": "torn"}
    return found


def test_each_figure_of_health_has_its_own_metric() -> None:
    assert told(_of_health(health(clickhouse=True, mongo=True, database=False))) == {
        ("up", "clickhouse"): 1,
        ("up", "mongo"): 1,
        ("up", "database"): 0,
        ("journal_unfinished",): 2,
        ("journal_oldest_seconds",): 61,
        ("journal_damaged",): 2,
        ("outbox_waiting",): 3,
        ("outbox_oldest_seconds",): 7,
        ("outbox_parked",): 4,
        ("subscriptions_waiting",): 5,
        ("subscriptions_parked",): 6,
        ("unreadable", "mongo"): 7,
        ("unreadable", "clickhouse"): 8,
        ("unreadable", "database"): 9,
        ("clickhouse_broken_parts",): 10,
    }


def test_of_a_mongodb_that_is_away_nothing_is_told_and_of_the_others_all() -> None:
    """A journal of 0 would end an alert, and so would parts that are broken still and not told."""
    found = told(_of_health(health(clickhouse=True, mongo=False, database=True)))
    assert [name for name, *_ in found if name.startswith(("journal", "outbox"))] == []
    assert found["unreadable", "clickhouse"] == 8
    assert found["clickhouse_broken_parts",] == 10
    hung = told(_of_health(health(clickhouse=False, mongo=True, database=True)))
    assert ("clickhouse_broken_parts",) not in hung


def test_each_count_of_the_cache_has_its_own_label() -> None:
    found = Health()
    found.cache = CacheStatistics("redis", "away", 1, 2, 3, 4, 5, 6, 7, 8, 9, 0.0, 10, 0, 0, 11)
    assert told(_of_redis(found)) == {
        ("cache_ready",): 0,
        ("cache_reads", "hit"): 1,
        ("cache_reads", "shared_hit"): 2,
        ("cache_reads", "miss"): 3,
        ("cache_reads", "bypassed"): 4,
        ("cache_reads", "written_meanwhile"): 5,
        ("cache_refused", "stale"): 6,
        ("cache_refused", "too_large"): 7,
        ("cache_refused", "unusable"): 8,
        ("cache_errors",): 9,
        ("cache_unannounced_writes",): 10,
        ("cache_held_bytes",): 11,
    }


def test_of_a_limit_the_account_is_told_that_has_used_most() -> None:
    limit, found = PerSecond(4), Health()
    found.rate_limits = tuple(
        RateLimitState("kis", account, (LimitState(limit, used),), 0, waiting)
        for account, used, waiting in (("a", 1, 2), ("b", 3, 1), ("c", 2, 0))
    )
    assert told(_of_redis(found)) == {
        ("rate_limit_used_ratio", "kis", "4 a second"): 0.75,
        ("rate_limit_waiting", "kis"): 3,
    }


def test_each_figure_of_a_pool_has_its_own_metric() -> None:
    class Stores:
        """MongoDB alone has a pool."""

        @property
        def mongo(self) -> Stores:
            return self

        def pool_status(self) -> PoolStatus:
            return PoolStatus(5, 4, 3, 2, 1)

        def __getattr__(self, name: str) -> Any:
            raise StorageError(f"there is no {name}")

    stores: Any = Stores()
    assert told(_of_pools(stores)) == {
        ("pool_capacity", "mongo"): 5,
        ("pool_open", "mongo"): 4,
        ("pool_in_use", "mongo"): 3,
        ("pool_waiting", "mongo"): 2,
        ("pool_timeouts", "mongo"): 1,
    }


def watched(**stores: Any) -> Any:
    """A storage that has these stores alone."""

    class Stores:
        def __getattr__(self, name: str) -> Any:
            if name in stores:
                return stores[name]
            raise StorageError(f"there is no {name}")

    return Stores()


def clickhouse_of(folder: Path | str, *, is_embedded: bool) -> Any:
    async def run(work: Any, *given: Any) -> Any:
        return work(*given)

    config = SimpleNamespace(is_embedded=is_embedded, hosts=[str(folder)])
    return SimpleNamespace(config=config, is_embedded=is_embedded, run=run)


def test_one_disk_of_this_machine_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {str(tmp_path): 7, "/proc": 99}

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(total=100, used=1, free=free[str(folder)])

    monkeypatch.setattr("jts_storage.observe.disks.shutil.disk_usage", usage)
    embedded = clickhouse_of(tmp_path, is_embedded=True)
    server = clickhouse_of("db.example:9000", is_embedded=False)
    near, far = (
        SimpleNamespace(config=SimpleNamespace(path=Path(folder) / "jts.db"))
        for folder in (tmp_path, "/proc")
    )
    postgres = SimpleNamespace(config=SimpleNamespace(path=None))
    of_clickhouse, of_database = ("disk_free_bytes", "clickhouse"), ("disk_free_bytes", "database")
    for stores, expected in (
        ({"clickhouse": embedded}, {of_clickhouse: 7}),
        ({"clickhouse": embedded, "database": near}, {of_clickhouse: 7}),
        ({"clickhouse": embedded, "database": far}, {of_clickhouse: 7, of_database: 99}),
        ({"clickhouse": server, "database": near}, {of_database: 7}),
        ({"clickhouse": server, "database": postgres}, {}),
        ({}, {}),
    ):
        assert told(of_files(watched(**stores))) == expected


async def test_servers_tell_of_their_disks_and_one_that_is_away_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: dict[str, Any] = {"clickhouse": 11, "mongo": (100, 60)}

    def of_clickhouse(_: object) -> Any:
        return raised_or(answers["clickhouse"])

    async def of_mongo(_: object) -> Any:
        return raised_or(answers["mongo"])

    def raised_or(answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("jts_storage.observe.disks._free_of_clickhouse", of_clickhouse)
    monkeypatch.setattr("jts_storage.observe.disks._sizes_of_mongo", of_mongo)
    server = clickhouse_of("db.example:9000", is_embedded=False)
    servers = ServerDisks(watched(clickhouse=server, mongo=SimpleNamespace()))
    first = {("disk_free_bytes", "clickhouse"): 11, ("disk_free_bytes", "mongo"): 40}
    await servers.look()
    assert told(servers.samples) == first
    answers |= {"clickhouse": StorageError("gone"), "mongo": None}
    await servers.look()
    assert told(servers.samples) == first
    answers["mongo"] = (100, 99)
    await servers.look()
    assert told(servers.samples) == first | {("disk_free_bytes", "mongo"): 1}


@pytest.mark.parametrize(("size", "is_told"), [(100_000, False), (200_000, True)])
async def test_of_a_mongod_on_the_disk_of_the_others_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, size: int, is_told: bool
) -> None:
    async def of_mongo(_: object) -> tuple[int, int]:
        return size, 40

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(total=100_001, used=1, free=99)

    monkeypatch.setattr("jts_storage.observe.disks._sizes_of_mongo", of_mongo)
    monkeypatch.setattr("jts_storage.observe.disks.shutil.disk_usage", usage)
    embedded = clickhouse_of("/srv", is_embedded=True)
    servers = ServerDisks(watched(clickhouse=embedded, mongo=SimpleNamespace()))
    await servers.look()
    assert bool(servers.samples) is is_told


async def test_migrations_are_pending_that_are_not_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def status(_: object) -> list[SimpleNamespace]:
        states = ("applied", "pending", "unknown", "pending", "applied")
        stores = ("mongo", "mongo", "clickhouse", "mongo", "relational")
        return [
            SimpleNamespace(store=n, state=each) for n, each in zip(stores, states, strict=True)
        ]

    monkeypatch.setattr("jts_storage.migrate.runner.status", status)
    stores: Any = SimpleNamespace(clickhouse=None, mongo=None, database=None)
    assert told(await _of_migrations(stores)) == {
        ("migrations_pending", "clickhouse"): 0,
        ("migrations_pending", "mongo"): 2,
        ("migrations_pending", "database"): 0,
    }


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("jts_storage.observe.metrics.perf_counter", lambda: now[0])
    return now


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"jts_storage_{name}", labels)


def test_a_step_of_a_commit_takes_as_long_as_since_the_one_before(clock: list[float]) -> None:
    metrics = Metrics()
    commit = metrics.begin(COMMIT)
    for seconds, step in ((1.0, "before the journal"), (2.0, "decided"), (4.0, "stored")):
        clock[0] += seconds
        commit.reached(step)
        commit.reached(RETRIED)
        commit.reached(WAITED)
    commit.done(None)
    steps = [value(metrics, "commit_step_seconds_sum", step=step) for step in ("decided", "stored")]
    assert steps == [2.0, 4.0]
    assert value(metrics, "retries_total", store="storage") == 3
    assert value(metrics, "connection_waits_total", store="storage") == 3
    assert value(metrics, "commits_total", way="journalled", outcome="committed") == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Conflict("changed"), "conflict"),
        (OutcomeUnknown("lost", hosts=()), "unknown"),
        (StorageError("full"), "failed"),
    ],
)
def test_a_commit_that_raises_is_timed_and_counted_by_what_became_of_it(
    clock: list[float], error: StorageError, outcome: str
) -> None:
    metrics = Metrics()
    commit = metrics.begin(COMMIT)
    clock[0] = 3.0
    commit.failed(error)
    assert value(metrics, "commits_total", way="direct", outcome=outcome) == 1
    labels = dict(zip(COMMIT._fields, COMMIT[:3], strict=False))
    assert value(metrics, "call_seconds_sum", **labels) == 3.0
    assert metrics.running() == []


def test_an_answer_from_memory_is_counted_of_reads_alone() -> None:
    metrics = Metrics()
    for operation in ("get_range", "save_many"):
        call = metrics.begin(Call("clickhouse", "candles", operation))
        call.reached(HELD)
        call.done(None)
    assert value(metrics, "held_answers_total", operation="get_range") == 1
    assert value(metrics, "held_answers_total", operation="save_many") is None
