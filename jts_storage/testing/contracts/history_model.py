"""A model of the history of candles: dictionaries that keep every version, and what is drawn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from hypothesis import strategies as st

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.results import Coverage
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InUse, InvalidData, NotFound
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.contracts.samples import FOREVER, fresh
from jts_storage.testing.factories import make_candles

Candles = dict[datetime, Candle]
State = dict[SeriesKey, Candles]

_ROWS = 6
_FRAMES = (Timeframe.M1, Timeframe.D1)


@dataclass(frozen=True)
class Step:
    """A change of one series: rows from one to another, deleted or of these volumes."""

    series: int
    first: int
    last: int
    volumes: Sequence[int] | None


@st.composite
def steps(draw: st.DrawFn) -> Step:
    first, last = sorted(draw(st.tuples(st.integers(0, _ROWS - 1), st.integers(0, _ROWS - 1))))
    rows = last - first + 1
    # Few volumes, so that the same values are often written again.
    volumes = st.lists(st.integers(0, 1), min_size=rows, max_size=rows)
    return Step(draw(st.integers(0, 2)), first, last, draw(st.none() | volumes))


@dataclass(frozen=True)
class Unit:
    """A unit of work.

    :param is_interrupted: its process ends once it is decided, before its candles are stored.
    """

    work: Sequence[Step]
    is_interrupted: bool = False


@dataclass(frozen=True)
class Purge:
    """A purge of what one series was, or all were, as of the commits before one of the last."""

    series: int | None
    back: int
    despite_snapshots: bool


@dataclass(frozen=True)
class MakeSnapshot:
    """A snapshot of what is stored now."""


@dataclass(frozen=True)
class DropSnapshot:
    """One of the snapshots is deleted, if there are any."""

    number: int


@dataclass(frozen=True)
class Recover:
    """What was interrupted is finished."""


@dataclass(frozen=True)
class Forget:
    """All that was replaced up to now is forgotten, but for what snapshots show."""


Event: TypeAlias = Unit | Purge | MakeSnapshot | DropSnapshot | Recover | Forget

_work: Final = st.lists(steps(), min_size=1, max_size=3)
units: Final = st.builds(Unit, _work)
events: Final[st.SearchStrategy[Event]] = st.one_of(
    # Twice, so that there is something for the others to act upon.
    units,
    st.builds(Unit, _work, st.booleans()),
    st.just(MakeSnapshot()),
    st.builds(Purge, st.none() | st.integers(0, 2), st.integers(0, 2), st.booleans()),
    st.builds(DropSnapshot, st.integers(0, 3)) | st.just(Recover()) | st.just(Forget()),
)

EVERYTHING: Final[list[Event]] = [
    Unit([Step(0, 0, 3, (0, 0, 0, 0)), Step(1, 0, 1, (0, 0))]),
    MakeSnapshot(),
    Unit([Step(0, 1, 2, (1, 1)), Step(1, 0, 0, (1,))], is_interrupted=True),
    Unit([Step(0, 2, 3, None)]),
    Purge(0, 0, despite_snapshots=False),
    MakeSnapshot(),
    Unit([Step(0, 0, 0, (1,))], is_interrupted=True),
    Forget(),
    Recover(),
    Purge(1, 0, despite_snapshots=True),
    DropSnapshot(1),
]
"""Each of them where it makes a difference: few drawn lists have all of it."""


@dataclass
class Model:
    """What each of three series was after each commit, in dictionaries.

    :param interrupt: commits for a process that ends before it has stored the candles.
    :param forget: forgets what was replaced up to now; whether it can be.
    """

    storage: Storage
    interrupt: Callable[[Storage, UnitOfWork], Awaitable[Commit]] | None = None
    forget: Callable[[Storage], Awaitable[bool]] | None = None
    keys: list[SeriesKey] = field(default_factory=list)
    now: State = field(default_factory=dict)
    states: list[tuple[Commit, State]] = field(default_factory=list)
    snapshots: dict[str, tuple[Commit, State]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    begins: dict[SeriesKey, Commit] = field(default_factory=dict)
    """The first commit of each series that was not purged."""
    all_begin: Commit | None = None
    """The first that was not purged with all series together."""

    last: Commit = field(default_factory=lambda: Commit(0))
    """The latest of all that have a place in the order: snapshots, too."""

    forgotten: Commit = field(default_factory=lambda: Commit(0))
    """What was replaced before is there only as far as snapshots show it."""

    def __post_init__(self) -> None:
        name = f"H{next(fresh)}"
        self.keys = [
            SeriesKey(name, Timeframe.M1),
            SeriesKey(name, Timeframe.M1, "X"),
            SeriesKey(name, Timeframe.D1),
        ]
        self.now = {key: {} for key in self.keys}

    async def happen(self, event: Event) -> None:
        if isinstance(event, Unit):
            await self.commit(event.work, is_interrupted=event.is_interrupted)
        elif isinstance(event, Purge):
            await self.purge(event)
        elif isinstance(event, MakeSnapshot):
            await self.make_snapshot()
        elif isinstance(event, DropSnapshot):
            await self.drop_snapshot(event.number)
        elif isinstance(event, Recover):
            await self.storage.recover()
        elif self.forget is not None and await self.forget(self.storage):
            self.forgotten = Commit(self.last.version + 1)

    async def commit(
        self, work: Sequence[Step], source: str = "", *, is_interrupted: bool = False
    ) -> Commit:
        async with self.storage.unit_of_work(source=source) as uow:
            for step in work:
                await self._take(uow, step)
            if is_interrupted and self.interrupt is not None:
                commit: Commit | None = await self.interrupt(self.storage, uow)
            else:
                commit = (await uow.commit()).commit
        assert commit is not None
        self.last = commit
        self.states.append((commit, self._present()))
        return commit

    async def _take(self, uow: UnitOfWork, step: Step) -> None:
        key = self.keys[step.series]
        part = make_candles(key, _ROWS)[step.first : step.last + 1]
        if step.volumes is None:
            await uow.candles.delete_range(key, part[0].timestamp, part[-1].timestamp)
            for candle in part:
                self.now[key].pop(candle.timestamp, None)
        else:
            volume = np.array(step.volumes, np.uint64)
            series = CandleSeries.trusted(key, part.columns._replace(volume=volume))
            await uow.candles.save_many(key, series)
            self.now[key] |= {candle.timestamp: candle for candle in series}

    def _present(self) -> State:
        return {key: dict(rows) for key, rows in self.now.items()}

    async def make_snapshot(self) -> None:
        made = await self.storage.snapshots.create(f"model{next(fresh)}")
        self.snapshots[made.name] = made.commit, self._present()
        self.last = made.commit

    async def drop_snapshot(self, number: int) -> None:
        if self.snapshots:
            name = list(self.snapshots)[number % len(self.snapshots)]
            assert await self.storage.snapshots.delete(name)
            del self.snapshots[name]
            self.dropped.append(name)

    async def purge(self, purge: Purge) -> None:
        """Purge what was replaced up to a commit; up to the latest if there is none."""
        which = self.keys if purge.series is None else [self.keys[purge.series]]
        before = self.states[-1 - purge.back][0] if len(self.states) > purge.back else None
        begins = before or self.last
        known = [state for commit, state in self.states if commit <= begins]
        if purge.series is not None and not any(state[which[0]] for state in known):
            return  # of a series that never was it is refused
        named = None if purge.series is None else which
        # What shows nothing of them any more holds up no other purge.
        first = self.all_begin if purge.series is None else self.begins.get(which[0])
        shown = [
            name
            for name, (commit, _) in self.snapshots.items()
            if commit < begins and (first is None or first <= commit)
        ]
        if shown and not purge.despite_snapshots:
            with pytest.raises(InUse, match="|".join(shown)):
                await self.storage.candles.purge_history(named, before=before)
            return
        despite = purge.despite_snapshots
        await self.storage.candles.purge_history(named, before=before, despite_snapshots=despite)
        if self.states or self.snapshots:
            for key in which:
                self.begins[key] = max(begins, self.begins.get(key, begins))
            if purge.series is None:
                self.all_begin = max(begins, self.all_begin or begins)

    def is_kept(self, commit: Commit, keys: Sequence[SeriesKey]) -> bool:
        if commit < self.forgotten and commit not in {each for each, _ in self.snapshots.values()}:
            return False
        return all(commit >= self.begins.get(key, commit) for key in keys)

    async def check(self) -> None:
        """Compare every answer as of every moment."""
        await self.storage.recover()
        for key in self.keys:
            found = await self.storage.candles.get_range(key, *FOREVER)
            assert list(found) == _in_order(self.now[key])
        before: State = {}
        for commit, state in self.states:
            for key in self.keys:
                await self._check_before(commit, key, _in_order(before.get(key, {})))
            await self._check_moment(commit, commit, state)
            before = state
        for name, (commit, state) in self.snapshots.items():
            await self._check_moment(name, commit, state)
        for name in self.dropped:
            with pytest.raises(NotFound, match=name):
                await self.storage.candles.count(self.keys[0], as_of=name)

    async def _check_moment(self, as_of: AsOf, commit: Commit, state: State) -> None:
        candles = self.storage.candles
        for key in self.keys:
            if self.is_kept(commit, [key]):
                await self._check_series(as_of, key, _in_order(state[key]))
            else:
                await self._check_refused(
                    candles.get_range(key, *FOREVER, as_of=as_of),
                    candles.count(key, as_of=as_of),
                    candles.changes(key, since=as_of),
                )
        for frame in _FRAMES:
            await self._check_market(as_of, commit, frame, state)
        if not self.is_kept(commit, self.keys):
            await self._check_refused(candles.list_keys(as_of=as_of))

    async def _check_before(self, commit: Commit, key: SeriesKey, rows: list[Candle]) -> None:
        """The last moment before a commit shows nothing of it."""
        last = Commit(commit.version - 1)
        if self.is_kept(last, [key]):
            assert list(await self.storage.candles.get_range(key, *FOREVER, as_of=last)) == rows
            assert await self.storage.candles.count(key, as_of=last) == len(rows)

    async def _check_refused(self, *reads: Awaitable[object]) -> None:
        for read in reads:
            with pytest.raises(InvalidData, match="is before the history"):
                await read

    async def _check_series(self, as_of: AsOf, key: SeriesKey, rows: list[Candle]) -> None:
        candles = self.storage.candles
        series = await candles.get_range(key, *FOREVER, as_of=as_of)
        assert list(series) == rows
        assert list(await candles.get_latest(key, 2, as_of=as_of)) == rows[-2:]
        assert await candles.count(key, as_of=as_of) == len(rows)
        ends = Coverage(rows[0].timestamp, rows[-1].timestamp) if rows else Coverage(None, None)
        assert await candles.get_coverage(key, as_of=as_of) == ends
        days = await candles.coverage_by_day(key, as_of=as_of)
        assert sum(days.values()) == len(rows)
        assert set(days) == {candle.timestamp.date() for candle in rows}
        blocks = candles.stream(key, *FOREVER, block_rows=2, as_of=as_of)
        assert [candle async for block in blocks for candle in block] == rows
        weeks = await candles.resample(key, Timeframe.W1, *FOREVER, as_of=as_of)
        assert weeks == series.resample(Timeframe.W1)

    async def _check_market(
        self, as_of: AsOf, commit: Commit, frame: Timeframe, state: Any
    ) -> None:
        candles = self.storage.candles
        keys = [key for key in self.keys if key.timeframe is frame]
        if not self.is_kept(commit, keys):
            await self._check_refused(
                candles.get_panel(frame, *FOREVER, keys=keys, as_of=as_of),
                candles.get_ranges(keys, *FOREVER, as_of=as_of),
            )
            return
        stored = {key: _in_order(state[key]) for key in keys if state[key]}
        panel = await candles.get_panel(frame, *FOREVER, keys=keys, as_of=as_of)
        assert {key: list(series) for key, series in panel.items()} == stored
        panel = await candles.get_latest_panel(frame, 1, keys=keys, as_of=as_of)
        assert {key: list(series) for key, series in panel.items()} == {
            key: rows[-1:] for key, rows in stored.items()
        }
        ranges = await candles.get_ranges(keys, *FOREVER, as_of=as_of)
        assert {key: list(series) for key, series in ranges.items() if len(series)} == stored
        if self.is_kept(commit, self.keys):
            page = await candles.list_keys(limit=100_000, as_of=as_of)
            assert {key for key in page if key in keys} == set(stored)


def _in_order(rows: Candles) -> list[Candle]:
    return [rows[stamp] for stamp in sorted(rows)]
