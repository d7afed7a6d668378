"""The contract of purges: what candles were is gone for good, and whoever asks is told so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.moments import Commit
from jts_storage.errors import InUse, InvalidData, NotFound
from jts_storage.storage import Storage
from jts_storage.testing.contracts.data_sets import RANGE, commit, minutes, proven, rows
from jts_storage.testing.contracts.samples import FOREVER, candle, fresh

M1 = Timeframe.M1
PURGED = "is before the history of .*: it was purged, and begins at"


def keys() -> tuple[SeriesKey, SeriesKey]:
    name = f"P{next(fresh)}"
    return SeriesKey(name, M1), SeriesKey(name, M1, "X")


async def corrected(storage: Storage, key: SeriesKey) -> tuple[Commit, Commit, Commit]:
    """Three commits: of three candles, of one that is corrected, and of one that is deleted."""
    first = await commit(storage, [minutes(key, 3)])
    second = await commit(storage, [rows(key, candle(0, "102"))])
    return first, second, await commit(storage, (), [(key, 1, 1)])


async def closes(storage: Storage, key: SeriesKey, as_of: Any = None) -> list[int]:
    found = await storage.candles.get_range(key, *FOREVER, as_of=as_of)
    return [int(each.close) for each in found]


async def _all_of(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def reads(storage: Storage, key: SeriesKey, as_of: Commit) -> dict[str, Callable[[], Any]]:
    """Every read of candles as of a moment."""
    candles, week, same = storage.candles, Timeframe.W1, [key]
    return {
        "range": lambda: candles.get_range(key, *FOREVER, as_of=as_of),
        "ranges": lambda: candles.get_ranges(same, *FOREVER, as_of=as_of),
        "panel": lambda: candles.get_panel(M1, *FOREVER, as_of=as_of),
        "latest panel": lambda: candles.get_latest_panel(M1, keys=same, as_of=as_of),
        "resampled panel": lambda: candles.resample_panel(M1, week, *FOREVER, as_of=as_of),
        "panels": lambda: _all_of(candles.stream_panels(M1, *FOREVER, as_of=as_of)),
        "latest": lambda: candles.get_latest(key, as_of=as_of),
        "coverage": lambda: candles.get_coverage(key, as_of=as_of),
        "days": lambda: candles.coverage_by_day(key, as_of=as_of),
        "count": lambda: candles.count(key, as_of=as_of),
        "resampled": lambda: candles.resample(key, week, *FOREVER, as_of=as_of),
        "stream": lambda: _all_of(candles.stream(key, *FOREVER, as_of=as_of)),
        "keys": lambda: candles.list_keys(as_of=as_of),
        "changes": lambda: candles.changes(key, since=as_of),
        "data set": lambda: storage.data_set(M1, *RANGE, keys=same, as_of=as_of),
    }


async def refused(read: Callable[[], Awaitable[Any]], message: str = PURGED) -> None:
    with pytest.raises(InvalidData, match=message):
        await read()


class PurgeContract:
    """Give it a fixture `storage`, open and without other writers or snapshots."""

    async def test_all_that_was_replaced_or_deleted_is_purged(self, storage: Storage) -> None:
        key, other = keys()
        first, second, last = await corrected(storage, key)
        assert await storage.candles.purge_history() == 2
        assert await closes(storage, key) == await closes(storage, key, last) == [102, 103]
        for moment in (first, second):
            for read in reads(storage, key, moment).values():
                await refused(read)
            await refused(lambda: storage.candles.count(other, as_of=first), "of all candles")
        assert await storage.candles.changes(key) == []
        assert await storage.candles.purge_history() == 0

    async def test_every_read_is_given_again_of_moments_after_it(self, storage: Storage) -> None:
        key, _ = keys()
        first, second, last = await corrected(storage, key)
        assert await storage.candles.purge_history([key], before=second) == 1
        for name, read in reads(storage, key, second).items():
            assert await read(), name
        assert await closes(storage, key, second) == [102, 103, 103]
        await refused(lambda: storage.candles.count(key, as_of=first))
        (kept,) = await storage.candles.changes(key)
        assert (int(kept.before.close), kept.after) == (103, None)
        assert kept.commit >= Commit(last.version - 1)
        assert await storage.candles.changes(key, since=second) == [kept]

    async def test_other_series_keep_their_history(self, storage: Storage) -> None:
        key, other = keys()
        first, _, _ = await corrected(storage, key)
        then, _, _ = await corrected(storage, other)
        assert await storage.candles.purge_history([key, key]) == 2
        await refused(lambda: storage.candles.count(key, as_of=then), f"of {key}: it was purged")
        assert await closes(storage, other, then) == [103, 103, 103]
        assert len(await storage.candles.changes(other)) == 2
        panel = await storage.candles.get_panel(M1, *FOREVER, keys=[other], as_of=then)
        assert [len(series) for series in panel.values()] == [3]
        panel = await storage.candles.get_panel(M1, *FOREVER, exchange="X", as_of=then)
        assert list(panel) == [other]
        assert await storage.candles.count(other, as_of=first) == 0

    async def test_a_purge_of_nothing(self, storage: Storage) -> None:
        key, _ = keys()
        first, _, _ = await corrected(storage, key)
        assert await storage.candles.purge_history([]) == 0
        assert await storage.candles.purge_history([key], before=first) == 0
        assert await closes(storage, key, first) == [103, 103, 103]
        assert len(await storage.candles.changes(key)) == 2

    async def test_an_earlier_purge_of_less_takes_nothing_back(self, storage: Storage) -> None:
        key, _ = keys()
        first, second, _ = await corrected(storage, key)
        await storage.candles.purge_history()
        assert await storage.candles.purge_history([key], before=first) == 0
        await refused(lambda: storage.candles.count(key, as_of=second), "of all candles")

    async def test_corrections_go_on_after_it(self, storage: Storage) -> None:
        key, _ = keys()
        _, _, last = await corrected(storage, key)
        await storage.candles.purge_history()
        deleted = await commit(storage, [rows(key, candle(1, "109"))], [(key, 2, 2)])
        assert await closes(storage, key) == [102, 109]
        assert await closes(storage, key, last) == [102, 103]
        assert await closes(storage, key, deleted) == [102, 109]
        (change,) = await storage.candles.changes(key)
        assert (int(change.before.close), change.after) == (103, None)

    async def test_snapshots_hold_a_purge_up(self, storage: Storage) -> None:
        key, other = keys()
        await corrected(storage, key)
        name = f"held{next(fresh)}"
        await storage.snapshots.create(name)
        await commit(storage, [minutes(other, 1)])
        # What it shows is there afterwards: it holds up no purge of what was before.
        assert await storage.candles.purge_history([key], before=name) == 2
        assert await closes(storage, key, name) == [102, 103]
        await commit(storage, [rows(key, candle(0, "105"))])
        for which in (None, [key], [other]):
            with pytest.raises(InUse, match=f"{name}.*despite_snapshots"):
                await storage.candles.purge_history(which)
        assert await closes(storage, key, name) == [102, 103]
        assert await storage.candles.purge_history([key], despite_snapshots=True) == 1
        # They show nothing of it any more, and hold up no other purge of it.
        await commit(storage, [rows(key, candle(0, "106"))])
        assert await storage.candles.purge_history([key]) == 1
        assert (await storage.snapshots.get(name)).name == name
        await refused(lambda: closes(storage, key, name))
        assert await closes(storage, other, name) == []
        await storage.snapshots.delete(name)
        assert await storage.candles.purge_history() == 0

    async def test_a_view_that_was_taken_before_says_so(self, storage: Storage) -> None:
        key, _ = keys()
        first, _, _ = await corrected(storage, key)
        view = await storage.as_of(first)
        assert await view.candles.count(key) == 3
        await storage.candles.purge_history([key])
        await refused(lambda: view.candles.count(key))
        await refused(lambda: view.candles.get_panel(M1, *FOREVER))

    async def test_what_a_backtest_saw_cannot_be_verified(self, storage: Storage) -> None:
        data_set, identity = await proven(storage)
        text = await storage.fingerprint(data_set)
        await commit(storage, [rows(data_set.keys[0], candle(3, "99"))])
        await storage.candles.purge_history([data_set.keys[1]], before=data_set.commit)
        assert await storage.fingerprint(data_set) == text
        await storage.candles.purge_history([data_set.keys[0]])
        await refused(lambda: storage.fingerprint(data_set))
        await refused(
            lambda: storage.backtests.verify(identity), f"{identity} cannot be verified: .*{PURGED}"
        )

    async def test_what_was_saved_before_the_purge_is_verified_if_it_has_not_changed(
        self, storage: Storage
    ) -> None:
        await corrected(storage, keys()[0])
        data_set, identity = await proven(storage)
        await storage.candles.purge_history(before=data_set.commit)
        assert (await storage.backtests.verify(identity)).is_same

    async def test_what_cannot_be_purged_is_refused(self, storage: Storage) -> None:
        refused: list[tuple[Any, Any, str]] = [
            (None, datetime(2250, 1, 1, tzinfo=UTC), "'before'.* lies in the future"),
            (None, checks.LAST_TIMESTAMP, "'before'.* lies in the future"),
            (None, datetime(2024, 1, 1), "time zone"),  # noqa: DTZ001
            (None, 7, "before.: must be a datetime"),
            (["A"], None, "keys.*must be a SeriesKey"),
            (7, None, "must be several SeriesKey"),
        ]
        for which, before, message in refused:
            with pytest.raises(InvalidData, match=message):
                await storage.candles.purge_history(which, before=before)

    async def test_nothing_was_over_before_1970(self, storage: Storage) -> None:
        key = keys()[0]
        first, _, _ = await corrected(storage, key)
        assert await storage.candles.purge_history(before=checks.FIRST_TIMESTAMP) == 0
        assert await storage.candles.count(key, as_of=first) == 3

    async def test_a_series_that_never_was_is_refused(self, storage: Storage) -> None:
        key, other = keys()
        first, _, _ = await corrected(storage, key)
        with pytest.raises(NotFound, match=f"neither are nor were candles of {other}"):
            await storage.candles.purge_history([key, other])
        # Nothing of it was noted, so reads of all series go on.
        assert key in await storage.candles.list_keys(as_of=first)

    async def test_an_unknown_snapshot_is_refused(self, storage: Storage) -> None:
        with pytest.raises(NotFound, match="no snapshot"):
            await storage.candles.purge_history(before="unknown")

    async def test_what_is_no_moment_is_refused_by_its_name(self, storage: Storage) -> None:
        moments: list[Any] = [datetime(2024, 1, 1), 5]  # noqa: DTZ001
        for before in moments:
            for purge in (storage.candles, storage.formulas, storage.strategies):
                with pytest.raises(InvalidData) as refused:
                    await purge.purge_history(before=before)
                assert refused.value.field == "before"

    async def test_a_time_purges_what_was_replaced_up_to_it(self, storage: Storage) -> None:
        key, _ = keys()
        first, _, last = await corrected(storage, key)
        before = last.moment - timedelta(days=1)
        assert await storage.candles.purge_history([key], before=before) == 0
        assert await closes(storage, key, first) == [103, 103, 103]
        assert await storage.candles.purge_history([key], before=datetime.now(UTC)) == 2
        await refused(lambda: closes(storage, key, last))
