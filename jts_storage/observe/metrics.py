"""Calls counted and timed for Prometheus."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from itertools import product
from time import perf_counter
from typing import Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.values import MutexValue, ValueClass

from jts_storage._runtime.steps import (
    BLOCK,
    HELD,
    IMPORT,
    MIGRATION,
    MOMENTS,
    NOT_HELD,
    RECOVERY,
    RESUMED,
    RETRIED,
    WAITED,
    Ended,
)
from jts_storage.errors import Conflict, InvalidConfiguration, OutcomeUnknown
from jts_storage.observe import catalogue
from jts_storage.observe.catalogue import OF_CALLS, Metric, Sample
from jts_storage.observe.sizes import NOTHING, size_of
from jts_storage.ports.observation import IMPORTS, Call

BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Seconds: a held range takes a tenth of a millisecond, an import half a minute."""

WORK_BUCKETS: Final = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0)
"""Seconds of what takes as long as there is work: imports, migrations, recoveries."""

_OF_WORK: Final = (
    catalogue.IMPORT_SECONDS,
    catalogue.MIGRATION_SECONDS,
    catalogue.RECOVERY_SECONDS,
)

_OUTCOMES: Final = {
    RECOVERY: (("finished", "failed", "rolled_back", "abandoned"),),
    MIGRATION: (("clickhouse", "mongo", "database"), ("applied", "taken_back", "failed")),
    IMPORT: (("file", "data"), ("finished", "failed")),
}
"""The values of the labels of each."""

_OF_ROWS: Final = (
    *("inserted", "replaced", "unchanged", "skipped", "duplicates", "rejected", "quarantined"),
)

_BEGUN: Final = "before the journal"
"""The first step of a commit over several stores."""

_WRITES: Final = ("save", "delete", "import_")

_Child: TypeAlias = Any
"""A metric with its labels; prometheus_client names no type for all of them."""


class Metrics:
    """An observer: ``Storage.open(observer=Metrics())``.

    :param registry: where the metrics are registered; one of its own if not given. Two storages
        that share one registry share one `Metrics`, too.
    :param buckets: of the histograms of calls and of the steps of commits, in seconds.
    :raises InvalidConfiguration: the registry has metrics of that name already.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, buckets: Sequence[float] = BUCKETS
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self._buckets = tuple(buckets)
        self._registered: list[Any] = []
        self._calls: dict[Call, _CallMetrics] = {}
        self._lock = threading.Lock()
        self._running: set[_Running] = set()
        self.call_seconds = self._made(catalogue.CALL_SECONDS)
        self.call_errors = self._made(catalogue.CALL_ERRORS)
        self.rows = self._made(catalogue.ROWS)
        self.bytes = self._made(catalogue.BYTES)
        self.commits = self._made(catalogue.COMMITS)
        self.commit_steps = self._made(catalogue.COMMIT_STEP_SECONDS)
        self.retries = self._made(catalogue.RETRIES)
        self.connection_waits = self._made(catalogue.CONNECTION_WAITS)
        self.held_answers = self._made(catalogue.HELD_ANSWERS)
        self.held_misses = self._made(catalogue.HELD_MISSES)
        self._ended = _EndedMetrics(self._made)
        if ValueClass is MutexValue:
            # Processes that count together share what they have written, and this is asked for; of
            # each process, of one that was killed, too, it would leave a series that is always 0.
            running = self._made(catalogue.CALLS_RUNNING)
            running.set_function(lambda: len(self._running))

    def begin(self, call: Call) -> _Running:
        metrics = self._calls.get(call)
        if metrics is None:
            with self._lock:
                metrics = self._calls[call] = _CallMetrics(self, call, self._running)
        running = metrics.kind(metrics)
        metrics.began(running)
        return running

    def running(self) -> list[tuple[Call, float]]:
        """The calls that have begun and not ended, and for how many seconds each has run."""
        now = perf_counter()
        found = [(each.metrics.call, now - each.begun) for each in tuple(self._running)]
        return sorted(found, key=lambda each: -each[1])

    def samples(self) -> list[Sample]:
        """The counters now, for alerts within this process."""
        counters = {each.exposed: each for each in OF_CALLS if each.kind == "counter"}
        return [
            Sample(metric, sample.value, tuple(sample.labels[name] for name in metric.labels))
            for family in self.registry.collect()
            for sample in family.samples
            if (metric := counters.get(sample.name)) is not None
        ]

    def ended(self, what: Ended) -> None:
        """Count what has ended within a call."""
        self._ended.count(what)

    def _made(self, metric: Metric) -> Any:
        name = f"{catalogue.PREFIX}{metric.name}"
        found: Any
        if metric.kind == "histogram":
            buckets = WORK_BUCKETS if metric in _OF_WORK else self._buckets
            found = Histogram(name, metric.help, metric.labels, registry=None, buckets=buckets)
        else:
            kind = Counter if metric.kind == "counter" else Gauge
            found = kind(name, metric.help, metric.labels, registry=None)
        try:
            self.registry.register(found)
        except ValueError as exc:
            for each in self._registered:
                self.registry.unregister(each)
            raise InvalidConfiguration(
                f"the registry has a metric {name} already",
                remedy="Open all storages that share a registry with one Metrics.",
            ) from exc
        self._registered.append(found)
        return found


class _EndedMetrics:
    """The metrics of what ends within calls.

    :param made: registers a metric.
    """

    def __init__(self, made: Callable[[Metric], Any]) -> None:
        self._counters = {
            RECOVERY: made(catalogue.RECOVERIES),
            MIGRATION: made(catalogue.MIGRATIONS),
            IMPORT: made(catalogue.IMPORTS),
            RESUMED: made(catalogue.IMPORTS_RESUMED),
        }
        self._rows = made(catalogue.IMPORT_ROWS)
        self._recovery = made(catalogue.RECOVERY_SECONDS)
        self._migration = made(catalogue.MIGRATION_SECONDS)
        self._import = made(catalogue.IMPORT_SECONDS)
        # All there are, at 0: how fast a series grows that begins at 1 nobody knows.
        for kind, known in _OUTCOMES.items():
            for labels in product(*known):
                self._counters[kind].labels(*labels)
        for outcome in _OF_ROWS:
            self._rows.labels(outcome)

    def count(self, what: Ended) -> None:
        if what.kind == BLOCK:
            for outcome, rows in what.counts.items():
                self._rows.labels(outcome).inc(rows)
            return
        counter = self._counters[what.kind]
        (counter.labels(*what.labels) if what.labels else counter).inc()
        if what.seconds is None:
            return
        if what.kind == MIGRATION:
            self._migration.labels(what.labels[0]).observe(what.seconds)
        else:
            took = self._recovery if what.kind == RECOVERY else self._import
            took.observe(what.seconds)


class _CallMetrics:
    """The metrics of one kind of call, with their labels: to look those up costs twice as much.

    What every call needs is looked up here once, too.
    """

    __slots__ = (
        *("all", "began", "bytes", "call", "ended", "held", "kind", "not_held", "retries"),
        *("rows", "took", "waits"),
    )

    def __init__(self, metrics: Metrics, call: Call, running: set[_Running]) -> None:
        self.all, self.call = metrics, call
        self.began, self.ended = running.add, running.discard
        self.took: Callable[[float], None] = metrics.call_seconds.labels(*call[:3]).observe
        self.retries: _Child = metrics.retries.labels(call.store)
        self.waits: _Child = metrics.connection_waits.labels(call.store)
        self.held: _Child = None
        self.not_held: _Child = None
        if call.repository == "candles" and not call.operation.startswith(_WRITES):
            self.held = metrics.held_answers.labels(call.operation)
            self.not_held = metrics.held_misses.labels(call.operation)
        writes = call.operation.startswith(_WRITES)
        where = (call.store, call.repository, "written" if writes else "read")
        is_of_storage = call.repository in ("storage", "unit_of_work") or call[1:3] == IMPORTS
        self.rows: _Child = None if is_of_storage else metrics.rows.labels(*where)
        self.bytes: _Child = None if is_of_storage else metrics.bytes.labels(*where)
        is_commit = call[1:3] == ("unit_of_work", "commit")
        self.kind = _RunningCommit if is_commit else _Running


class _Running:
    """One call while it runs."""

    __slots__ = ("begun", "metrics")

    def __init__(self, metrics: _CallMetrics) -> None:
        self.metrics = metrics
        self.begun = perf_counter()

    def reached(self, step: str) -> None:
        if step is RETRIED:
            self.metrics.retries.inc()
        elif step is WAITED:
            self.metrics.waits.inc()
        elif step is HELD and self.metrics.held is not None:
            self.metrics.held.inc()
        elif step is NOT_HELD and self.metrics.not_held is not None:
            self.metrics.not_held.inc()
        elif type(step) is Ended:
            self.metrics.all.ended(step)

    def given(self, part: Any) -> None:
        self._count(part)

    def done(self, result: Any) -> None:
        metrics = self.metrics
        metrics.ended(self)
        metrics.took(perf_counter() - self.begun)
        if result is not None:
            self._count(result)

    def failed(self, error: BaseException) -> None:
        self.metrics.ended(self)
        self.metrics.took(perf_counter() - self.begun)
        name = type(error).__name__ if isinstance(error, Exception | CancelledError) else "exit"
        self.metrics.all.call_errors.labels(*self.metrics.call[:3], name).inc()

    def _count(self, result: Any) -> None:
        size = size_of(result)
        if size is NOTHING or self.metrics.rows is None:
            return
        self.metrics.rows.inc(size.rows)
        self.metrics.bytes.inc(size.bytes)


class _RunningCommit(_Running):
    """A commit, with how long each of its steps took."""

    __slots__ = ("is_journalled", "last")

    def __init__(self, metrics: _CallMetrics) -> None:
        super().__init__(metrics)
        self.last = self.begun
        self.is_journalled = False

    def reached(self, step: str) -> None:
        super().reached(step)
        if type(step) is Ended or step in MOMENTS:
            return
        now = perf_counter()
        if step == _BEGUN:
            self.is_journalled = True
        else:
            self.metrics.all.commit_steps.labels(step).observe(now - self.last)
        self.last = now

    def done(self, result: Any) -> None:
        super().done(None)
        self._count_commit("committed")

    def failed(self, error: BaseException) -> None:
        super().failed(error)
        kinds = ((Conflict, "conflict"), (OutcomeUnknown, "unknown"))
        self._count_commit(
            next((name for kind, name in kinds if isinstance(error, kind)), "failed")
        )

    def _count_commit(self, outcome: str) -> None:
        way = "journalled" if self.is_journalled else "direct"
        self.metrics.all.commits.labels(way, outcome).inc()
