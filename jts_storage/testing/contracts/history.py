"""The contract of what was: reads as of a moment, snapshots, corrections."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.moments import Commit
from jts_storage.errors import Conflict, InvalidData, NotFound
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.contracts.corrections import CorrectionContract
from jts_storage.testing.contracts.history_model import (
    EVERYTHING,
    Event,
    Model,
    Step,
    Unit,
    events,
    units,
)
from jts_storage.testing.contracts.samples import FOREVER, MANY_SUBCLASSES, examples, fresh
from jts_storage.testing.factories import make_candles


class HistoryContract(CorrectionContract):
    """Give it a fixture `storage`, open and without other writers."""

    async def interrupt(self, storage: Storage, uow: UnitOfWork) -> Commit:
        """Commit for a process that ends once that is decided, before any candle is stored.

        Where there is no such moment, as in memory, it commits; override it where there is.
        """
        commit = (await uow.commit()).commit
        assert commit is not None
        return commit

    async def forget(self, storage: Storage) -> bool:
        """Forget what was replaced up to now, as `history_days` does; whether that can be."""
        return False

    @settings(max_examples=examples(2, 120), deadline=None, suppress_health_check=MANY_SUBCLASSES)
    @given(work=st.lists(units, min_size=1, max_size=6))
    async def test_every_moment_is_read_as_it_was(self, storage: Storage, work: list[Unit]) -> None:
        model = Model(storage)
        for each in work:
            await model.happen(each)
        await model.check()

    @settings(max_examples=examples(1, 80), deadline=None, suppress_health_check=MANY_SUBCLASSES)
    @example(work=EVERYTHING)
    @given(work=st.lists(events, min_size=3, max_size=10))
    async def test_what_is_kept_is_read_as_it_was_whatever_happens(
        self, storage: Storage, work: list[Event]
    ) -> None:
        model = Model(storage, self.interrupt, self.forget)
        try:
            for each in work:
                await model.happen(each)
            await model.check()
        finally:
            for name in model.snapshots:  # they would hold up the purges of others
                await storage.snapshots.delete(name)

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

    async def test_what_is_no_moment_of_the_past_is_refused(self, storage: Storage) -> None:
        refused: list[tuple[Any, str]] = [
            (datetime(2250, 1, 1, tzinfo=UTC), "'as_of'.* lies in the future"),
            (datetime(2262, 4, 12, tzinfo=UTC), "'as_of'.* lies in the future.*2262-04-12"),
            (checks.LAST_TIMESTAMP, "'as_of'.* lies in the future.*2299-12-31"),
            (datetime(2024, 1, 1), "time zone"),  # noqa: DTZ001
            (Commit(2**62), "lies in the future"),
            (20241231, "must be a datetime"),
            ("", "must not be empty"),
            ("a\0b", "NUL"),
        ]
        for moment, message in refused:
            with pytest.raises(InvalidData, match=message):
                await storage.candles.count(SeriesKey("A", Timeframe.M1), as_of=moment)

    async def test_before_1970_there_was_what_there_was_in_1970(self, storage: Storage) -> None:
        key = SeriesKey("A", Timeframe.M1)

        async def answer(as_of: datetime) -> object:
            try:
                return await storage.candles.count(key, as_of=as_of)
            except InvalidData as exc:
                return str(exc)

        for moment in (checks.FIRST_TIMESTAMP, datetime(1969, 12, 31, tzinfo=UTC)):
            assert await answer(moment) == await answer(checks.EPOCH)

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

    async def test_a_snapshot_is_not_named_like_a_moment(self, storage: Storage) -> None:
        """A command line takes such a text for the moment."""
        moments = ["2026-11-01", "20261101", "2026-W44", "2026-11-01T09:00+09:00", "1" * 19]
        for name in moments:
            with pytest.raises(InvalidData, match=f"reads as a moment.*'scan-{re.escape(name)}'"):
                await storage.snapshots.create(name)
            assert not await storage.snapshots.delete(name)
        for named in (*(f"scan-{name}" for name in moments), "2026-11", "2026"):
            assert (await storage.snapshots.create(named)).name == named
            assert await storage.snapshots.delete(named)

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
