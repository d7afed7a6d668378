"""One page for a ticket: what runs, what waits, who holds what, and the last errors."""

from __future__ import annotations

import platform
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from jts_storage._version import __version__
from jts_storage.errors import StorageError
from jts_storage.observe.catalogue import Sample
from jts_storage.observe.state import StorageState
from jts_storage.observe.watched import Watched
from jts_storage.ports.observation import Call

if TYPE_CHECKING:
    from jts_storage.observe.metrics import Metrics

_PACKAGES: Final = (
    *("chdb", "clickhouse-driver", "clickhouse-sqlalchemy", "sqlalchemy", "pymongo", "beanie"),
    *("asyncpg", "aiosqlite", "pyarrow", "numpy", "redis", "grpcio"),
)
_MOST_ERRORS: Final = 20


class LastErrors:
    """An observer that keeps the last errors, by class and call; what they say is not kept.

    A message may name a symbol or a host; a ticket goes to more eyes than the log does.
    """

    def __init__(self) -> None:
        self._last: deque[tuple[datetime, Call, str]] = deque(maxlen=_MOST_ERRORS)

    def begin(self, call: Call) -> _Watched:
        return _Watched(call, self._last)

    def __iter__(self) -> Iterator[tuple[datetime, Call, str]]:
        """The oldest first."""
        return iter(tuple(self._last))


class _Watched:
    __slots__ = ("_call", "_last")

    def __init__(self, call: Call, last: deque[tuple[datetime, Call, str]]) -> None:
        self._call, self._last = call, last

    def reached(self, step: str) -> None: ...

    def given(self, part: Any) -> None: ...

    def done(self, result: Any) -> None: ...

    def failed(self, error: BaseException) -> None:
        self._last.append((datetime.now(UTC), self._call, type(error).__name__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is known of a storage at one moment, without secrets.

    :param stores: whether each answers.
    :param running: the calls that run, and for how many seconds, the longest first.
    :param queries: statements that ClickHouse runs: seconds, and their first word; never a value.
    :param commits: those under way by the commit clock: version, and whether it may be alive.
    :param leases: what is held, and by whom.
    :param errors: the last ones: when, of which call, and the class.
    :param figures: everything else, as metrics have it.
    :param versions: of the kit, of Python and of the drivers.
    """

    at: datetime
    stores: dict[str, bool]
    running: list[tuple[str, float]] = field(default_factory=list)
    queries: list[tuple[float, str]] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    leases: list[tuple[str, str]] = field(default_factory=list)
    errors: list[tuple[datetime, str, str]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One page, to be pasted into a ticket."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"jts_storage at {self.at.isoformat(timespec='seconds')}"
        for title, lines in (
            ("Stores", [f"{name}: {_state(well)}" for name, well in self.stores.items()]),
            ("Running calls", [f"{name}: {seconds:.1f} s" for name, seconds in self.running]),
            ("Statements in ClickHouse", [f"{word}: {s:.1f} s" for s, word in self.queries]),
            ("Commits under way", self.commits),
            ("Leases", [f"{name}: {owner}" for name, owner in self.leases]),
            ("Last errors", [f"{at:%H:%M:%S} {call}: {kind}" for at, call, kind in self.errors]),
            ("Figures", [f"{name} {value:g}" for name, value in self.figures.items()]),
            ("Versions", [f"{name} {number}" for name, number in self.versions.items()]),
        ):
            yield ""
            yield title
            yield from (f"  {line}" for line in lines or ["none"])


async def diagnose(
    storage: Watched, *, metrics: Metrics | None = None, errors: LastErrors | None = None
) -> Diagnosis:
    """Look at an open storage now; a store that does not answer leaves its part empty."""
    state = StorageState(storage, within=5.0)
    try:
        samples = await state.read()
    finally:
        await state.close()
    return Diagnosis(
        at=datetime.now(UTC),
        stores={s.labels[0]: bool(s.value) for s in samples if s.metric.name == "up"},
        running=[(_named(call), seconds) for call, seconds in metrics.running()] if metrics else [],
        queries=await _queries(storage),
        commits=await _commits(storage),
        leases=await _leases(storage),
        errors=[(at, _named(call), kind) for at, call, kind in errors or ()],
        figures={_labelled(each): each.value for each in samples},
        versions=dict(_versions()),
    )


def _state(is_well: bool) -> str:
    return "answers" if is_well else "DOES NOT ANSWER"


def _named(call: Call) -> str:
    return f"{call.store} {call.repository}.{call.operation}"


def _labelled(sample: Sample) -> str:
    labels = ",".join(sample.labels)
    return f"{sample.metric.name}{{{labels}}}" if labels else sample.metric.name


def _versions() -> Iterator[tuple[str, str]]:
    yield "jts_storage", __version__
    yield "python", f"{platform.python_version()} ({sys.platform})"
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


async def _queries(storage: Watched) -> list[tuple[float, str]]:
    try:
        clickhouse = storage.clickhouse
        from jts_storage.clickhouse.usage import running

        return await clickhouse.run(running, clickhouse)
    except StorageError:
        return []


async def _commits(storage: Watched) -> list[str]:
    from jts_storage.unit_of_work.clock import CommitClock

    async def none() -> int:
        return 0

    try:
        under_way = await CommitClock(storage.mongo, none).under_way()
    except StorageError:
        return []
    return [
        f"version {each.version}, {'alive' if each.may_be_alive else 'its lease is over'}"
        for each in under_way
    ]


def _plain(lease: str) -> str:
    """The name of a lease; that of an event's key may be a symbol, and is left out."""
    return lease if lease.startswith("jts-storage: ") else "delivery of events of one key"


async def _leases(storage: Watched) -> list[tuple[str, str]]:
    from jts_storage.mongo.leases import Leases

    try:
        leases = Leases(storage.mongo)
        return [
            (_plain(name), await leases.holder(name) or "") for name in sorted(await leases.held())
        ]
    except StorageError:
        return []
