"""The contract of what was: reads as of a moment, snapshots, corrections."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import Coverage
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import Conflict, InvalidData, NotFound
from jts_storage.storage import Storage
from jts_storage.testing.contracts.corrections import CorrectionContract
from jts_storage.testing.contracts.samples import FOREVER, MANY_SUBCLASSES, fresh
from jts_storage.testing.factories import make_candles

Candles = dict[datetime, Candle]

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
class Purge:
    """A purge of what one series was, or all were, as of the commits before one of the last."""

    series: int | None
    back: int


@st.composite
def purges(draw: st.DrawFn) -> Purge:
    return Purge(draw(st.none() | st.integers(0, 2)), draw(st.integers(0, 2)))


@dataclass
class Model:
    """What each of three series was after each commit, in dictionaries."""

    storage: Storage
    keys: list[SeriesKey] = field(default_factory=list)
    now: dict[SeriesKey, Candles] = field(default_factory=dict)
    states: list[tuple[Commit, dict[SeriesKey, Candles]]] = field(default_factory=list)
    begins: dict[SeriesKey, Commit] = field(default_factory=dict)
    """The first commit of each series that was not purged."""

    def __post_init__(self) -> None:
        name = f"H{next(fresh)}"
        self.keys = [
            SeriesKey(name, Timeframe.M1),
            SeriesKey(name, Timeframe.M1, "X"),
            SeriesKey(name, Timeframe.D1),
        ]
        self.now = {key: {} for key in self.keys}

    async def commit(self, work: Sequence[Step], source: str = "") -> Commit:
        async with self.storage.unit_of_work(source=source) as uow:
            for step in work:
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
            result = await uow.commit()
        assert result.commit is not None
        self.states.append((result.commit, {key: dict(rows) for key, rows in self.now.items()}))
        return result.commit

    async def purge(self, purge: Purge) -> None:
        """Purge what was replaced up to a commit; up to the latest if there is none."""
        which = self.keys if purge.series is None else [self.keys[purge.series]]
        if purge.series is not None and not any(state[which[0]] for _, state in self.states):
            return  # of a series that never was it is refused
        before = None
        if len(self.states) > purge.back:
            before, _ = self.states[-1 - purge.back]
        if self.states:
            begins = before or self.states[-1][0]
            for key in which:
                self.begins[key] = max(begins, self.begins.get(key, begins))
        named = None if purge.series is None else which
        await self.storage.candles.purge_history(named, before=before, despite_snapshots=True)

    def is_kept(self, commit: Commit, keys: Sequence[SeriesKey]) -> bool:
        return all(commit >= self.begins.get(key, commit) for key in keys)

    async def check(self) -> None:
        before: dict[SeriesKey, Candles] = {}
        for commit, state in self.states:
            for key in self.keys:
                await self._check_before(commit, key, _in_order(before.get(key, {})))
                if self.is_kept(commit, [key]):
                    await self._check_series(commit, key, _in_order(state[key]))
                else:
                    await self._check_refused(
                        self.storage.candles.get_range(key, *FOREVER, as_of=commit),
                        self.storage.candles.count(key, as_of=commit),
                        self.storage.candles.changes(key, since=commit),
                    )
            for frame in _FRAMES:
                await self._check_market(commit, frame, state)
            if not self.is_kept(commit, self.keys):
                await self._check_refused(self.storage.candles.list_keys(as_of=commit))
            before = state

    async def _check_before(self, commit: Commit, key: SeriesKey, rows: list[Candle]) -> None:
        """The last moment before a commit shows nothing of it."""
        last = Commit(commit.version - 1)
        if self.is_kept(last, [key]):
            assert list(await self.storage.candles.get_range(key, *FOREVER, as_of=last)) == rows
            assert await self.storage.candles.count(key, as_of=last) == len(rows)

    async def _check_refused(self, *reads: Awaitable[object]) -> None:
        for read in reads:
            with pytest.raises(InvalidData, match="it was purged"):
                await read

    async def _check_series(self, commit: Commit, key: SeriesKey, rows: list[Candle]) -> None:
        candles = self.storage.candles
        series = await candles.get_range(key, *FOREVER, as_of=commit)
        assert list(series) == rows
        assert list(await candles.get_latest(key, 2, as_of=commit)) == rows[-2:]
        assert await candles.count(key, as_of=commit) == len(rows)
        ends = Coverage(rows[0].timestamp, rows[-1].timestamp) if rows else Coverage(None, None)
        assert await candles.get_coverage(key, as_of=commit) == ends
        days = await candles.coverage_by_day(key, as_of=commit)
        assert sum(days.values()) == len(rows)
        assert set(days) == {candle.timestamp.date() for candle in rows}
        blocks = candles.stream(key, *FOREVER, block_rows=2, as_of=commit)
        assert [candle async for block in blocks for candle in block] == rows
        weeks = await candles.resample(key, Timeframe.W1, *FOREVER, as_of=commit)
        assert weeks == series.resample(Timeframe.W1)

    async def _check_market(self, commit: Commit, frame: Timeframe, state: Any) -> None:
        candles = self.storage.candles
        keys = [key for key in self.keys if key.timeframe is frame]
        if not self.is_kept(commit, keys):
            await self._check_refused(
                candles.get_panel(frame, *FOREVER, keys=keys, as_of=commit),
                candles.get_ranges(keys, *FOREVER, as_of=commit),
            )
            return
        stored = {key: _in_order(state[key]) for key in keys if state[key]}
        panel = await candles.get_panel(frame, *FOREVER, keys=keys, as_of=commit)
        assert {key: list(series) for key, series in panel.items()} == stored
        panel = await candles.get_latest_panel(frame, 1, keys=keys, as_of=commit)
        assert {key: list(series) for key, series in panel.items()} == {
            key: rows[-1:] for key, rows in stored.items()
        }
        ranges = await candles.get_ranges(keys, *FOREVER, as_of=commit)
        assert {key: list(series) for key, series in ranges.items() if len(series)} == stored
        if self.is_kept(commit, self.keys):
            page = await candles.list_keys(limit=100_000, as_of=commit)
            assert {key for key in page if key in keys} == set(stored)


def _in_order(rows: Candles) -> list[Candle]:
    return [rows[stamp] for stamp in sorted(rows)]


class HistoryContract(CorrectionContract):
    """Give it a fixture `storage`, open and without other writers."""

    @settings(max_examples=12, deadline=None, suppress_health_check=MANY_SUBCLASSES)
    @given(work=st.lists(st.lists(steps(), min_size=1, max_size=3), min_size=1, max_size=6))
    async def test_every_moment_is_read_as_it_was(
        self, storage: Storage, work: list[list[Step]]
    ) -> None:
        model = Model(storage)
        for each in work:
            await model.commit(each)
        await model.check()

    @settings(max_examples=8, deadline=None, suppress_health_check=MANY_SUBCLASSES)
    @given(
        work=st.lists(purges() | st.lists(steps(), min_size=1, max_size=3), min_size=2, max_size=8)
    )
    async def test_what_was_not_purged_is_read_as_it_was(
        self, storage: Storage, work: list[Purge | list[Step]]
    ) -> None:
        model = Model(storage)
        for each in work:
            if isinstance(each, Purge):
                await model.purge(each)
            else:
                await model.commit(each)
        await model.check()

    async def test_times_lie_between_commits(self, storage: Storage) -> None:
        model = Model(storage)
        begun = datetime.now(UTC)
        await model.commit([Step(0, 0, 1, (1, 1))])
        between = datetime.now(UTC)
        await model.commit([Step(0, 0, 1, (0, 1))])
        key, candles = model.keys[0], storage.candles
        assert await candles.count(key, as_of=begun) == 0
        assert [c.volume for c in await candles.get_range(key, *FOREVER, as_of=between)] == [1, 1]
        now = datetime.now(UTC)
        assert [c.volume for c in await candles.get_range(key, *FOREVER, as_of=now)] == [0, 1]
        first, _ = model.states[0]
        assert abs(first.moment - between) < timedelta(minutes=1)

    async def test_a_view_never_changes(self, storage: Storage) -> None:
        model = Model(storage)
        await model.commit([Step(0, 0, 5, (1,) * 6)])
        view = await storage.as_of(datetime.now(UTC))
        await model.commit([Step(0, 0, 5, None)])
        assert await view.candles.count(model.keys[0]) == 6
        assert await storage.candles.count(model.keys[0]) == 0
        assert view.commit >= model.states[0][0]

    @pytest.mark.parametrize(
        ("moment", "message"),
        [
            (datetime(2250, 1, 1, tzinfo=UTC), "lies in the future"),
            (datetime(2024, 1, 1), "time zone"),  # noqa: DTZ001
            (Commit(2**62), "lies in the future"),
            (20241231, "must be a datetime"),
            ("", "must not be empty"),
            ("a\0b", "NUL"),
        ],
    )
    async def test_what_is_no_moment_of_the_past_is_refused(
        self, storage: Storage, moment: Any, message: str
    ) -> None:
        with pytest.raises(InvalidData, match=message):
            await storage.candles.count(SeriesKey("A", Timeframe.M1), as_of=moment)

    async def test_a_snapshot_is_a_name_for_a_moment(self, storage: Storage) -> None:
        model, name = Model(storage), f"snapshot{next(fresh)}"
        await model.commit([Step(0, 0, 2, (1, 1, 1))])
        made = await storage.snapshots.create(name, note="before the scan")
        await model.commit([Step(0, 0, 1, None)])
        assert await storage.candles.count(model.keys[0], as_of=name) == 3
        assert await storage.snapshots.get(name) == made
        assert made in await storage.snapshots.list(after=name[:-1])
        assert (made.note, made.commit > model.states[0][0]) == ("before the scan", True)
        assert made.commit < model.states[1][0]
        with pytest.raises(Conflict, match=name):
            await storage.snapshots.create(name)
        assert await storage.snapshots.delete(name)
        assert not await storage.snapshots.delete(name)
        for asked in (storage.snapshots.get(name), storage.as_of(name)):
            with pytest.raises(NotFound, match=name):
                await asked

    async def test_snapshots_are_listed_page_by_page(self, storage: Storage) -> None:
        start = f"page{next(fresh)}-"
        names = [f"{start}{letter}" for letter in "abc"]
        for name in reversed(names):
            await storage.snapshots.create(name)
        first = await storage.snapshots.list(limit=2, after=start)
        assert ([each.name for each in first], first.has_more) == (names[:2], True)
        rest = await storage.snapshots.list(limit=1, after=names[1])
        assert [each.name for each in rest] == names[2:]

    async def test_corrections_are_told_with_their_source(self, storage: Storage) -> None:
        model = Model(storage)
        key = model.keys[0]
        first = await model.commit([Step(0, 0, 2, (0, 0, 0))], "import")
        second = await model.commit([Step(0, 0, 1, (0, 1))], "repair")
        third = await model.commit([Step(0, 1, 2, None)], "a service")
        await model.commit([Step(0, 5, 5, (1,))], "appended")
        found = await storage.candles.changes(key)
        told = [
            (each.source, each.before.volume, each.after and each.after.volume) for each in found
        ]
        assert told == [("repair", 0, 1), ("a service", 1, None), ("a service", 0, None)]
        assert [each.commit.moment for each in found] == [
            pytest.approx(commit.moment, abs=timedelta(microseconds=1))
            for commit in (second, third, third)
        ]
        stamps = [candle.timestamp for candle in make_candles(key, 3)]
        assert [each.timestamp for each in found] == [stamps[1], stamps[1], stamps[2]]
        assert await storage.candles.changes(key, since=second) == found[1:]
        assert await storage.candles.changes(key, since=first) == found
        assert await storage.candles.changes(key, stamps[2], stamps[2]) == found[2:]
        page = await storage.candles.changes(key, limit=1)
        assert (page, page.has_more) == (found[:1], True)
        assert await storage.candles.changes(model.keys[1]) == []

    async def test_the_same_values_again_are_no_correction(self, storage: Storage) -> None:
        model = Model(storage)
        for _ in range(3):
            await model.commit([Step(0, 0, 5, (1, 0, 1, 0, 1, 0))])
        assert await storage.candles.changes(model.keys[0]) == []
        await model.check()

    async def test_a_unit_of_work_that_is_rolled_back_leaves_no_history(
        self, storage: Storage
    ) -> None:
        model = Model(storage)
        await model.commit([Step(0, 0, 1, (1, 1))])
        async with storage.unit_of_work() as uow:
            await uow.candles.delete_range(model.keys[0], *FOREVER)
            await uow.rollback()
        assert await storage.candles.changes(model.keys[0]) == []

    async def test_a_commit_of_nothing_has_no_place(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            result = await uow.commit()
        assert result.commit is None
        with pytest.raises(InvalidData, match="source"):
            storage.unit_of_work(source=7)  # type: ignore[arg-type]
