"""The contract of what commits end: at which moments it is seen, and as what it is told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.results import Page
from jts_storage.errors import InvalidData
from jts_storage.storage import Storage
from jts_storage.testing.contracts.data_sets import RANGE, commit, minutes, rows
from jts_storage.testing.contracts.samples import FOREVER, candle, fresh, minute

M1 = Timeframe.M1


def new_key() -> SeriesKey:
    return SeriesKey(f"C{next(fresh)}", M1)


async def closes(storage: Storage, key: SeriesKey, as_of: AsOf | None = None) -> list[int]:
    """What every kind of read says of a series as of a moment."""
    candles = storage.candles
    series = await candles.get_range(key, *FOREVER, as_of=as_of)
    assert await candles.count(key, as_of=as_of) == len(series)
    assert (await candles.get_latest(key, 100, as_of=as_of)) == series
    panel = await candles.get_panel(M1, *FOREVER, keys=[key], as_of=as_of)
    assert [list(each) for each in panel.values()] == ([list(series)] if len(series) else [])
    return [int(each.close) for each in series]


class CorrectionContract:
    """A part of `HistoryContract`."""

    async def test_a_commit_that_deletes_and_writes_is_seen_in_whole_or_not_at_all(
        self, storage: Storage
    ) -> None:
        key = new_key()
        await commit(storage, [minutes(key, 4)])
        made = await commit(storage, [rows(key, candle(1, "109"))], [(key, 0, 2)])
        assert await closes(storage, key, made) == [109, 103]
        for moment in (Commit(made.version - 1), Commit(made.version - 2)):
            assert await closes(storage, key, moment) == [103] * 4
        assert await closes(storage, key, made.moment + timedelta(microseconds=1)) == [109, 103]
        changes = await storage.candles.changes(key)
        assert {each.commit for each in changes} == {made}
        for each in changes:
            before = await storage.candles.get_range(
                key, each.timestamp, each.timestamp, as_of=Commit(each.commit.version - 1)
            )
            assert list(before) == [each.before]

    async def test_the_moment_before_a_deletion_has_what_it_deletes(self, storage: Storage) -> None:
        key = new_key()
        first = await commit(storage, [minutes(key, 3)])
        made = await commit(storage, (), [(key, 1, 1)])
        assert await closes(storage, key, Commit(made.version - 1)) == [103, 103, 103]
        assert await closes(storage, key, made) == [103, 103]
        assert [each.commit for each in await storage.candles.changes(key)] == [made]
        assert await storage.candles.changes(key, since=made) == []
        before = await storage.data_set(M1, *RANGE, keys=[key], as_of=Commit(made.version - 1))
        then = await storage.data_set(M1, *RANGE, keys=[key], as_of=first)
        assert await storage.fingerprint(before) == await storage.fingerprint(then)

    async def test_the_text_of_a_data_set_has_no_half_of_a_commit(self, storage: Storage) -> None:
        key = new_key()
        first = await commit(storage, [minutes(key, 4)])
        made = await commit(storage, [rows(key, candle(1, "109"))], [(key, 0, 3)])
        texts = [
            await storage.fingerprint(await storage.data_set(M1, *RANGE, keys=[key], as_of=moment))
            for moment in (first, Commit(made.version - 1), made)
        ]
        assert texts[0] == texts[1] != texts[2]
        await commit(storage, (), [(key, 0, 3)])
        before = await storage.data_set(M1, *RANGE, keys=[key], as_of=Commit(made.version - 1))
        assert await storage.fingerprint(before) == texts[0]

    async def test_the_same_values_deleted_and_written_again_are_no_correction(
        self, storage: Storage
    ) -> None:
        key = new_key()
        await commit(storage, [minutes(key, 6)])
        again = [rows(key, *(candle(at, "109" if at == 4 else "103") for at in range(6)))]
        made = await commit(storage, again, [(key, 0, 5)])
        assert await closes(storage, key, Commit(made.version - 1)) == [103] * 6
        assert await closes(storage, key, made) == [103, 103, 103, 103, 109, 103]
        found = await storage.candles.changes(key)
        assert [(each.timestamp, each.commit) for each in found] == [(minute(4), made)]
        page = await storage.candles.changes(key, limit=1)
        assert (page, page.has_more) == (found, False)
        # By two commits it is a deletion.
        deletion = await commit(storage, (), [(key, 1, 1)])
        await commit(storage, [rows(key, candle(1))])
        (change,) = await storage.candles.changes(key, since=made)
        assert (change.commit, change.after) == (deletion, None)

    async def test_corrections_are_listed_page_by_page(self, storage: Storage) -> None:
        key = new_key()
        await commit(storage, [minutes(key, 6)])
        # A commit that deletes some between those that it corrects.
        second = await commit(
            storage, [rows(key, candle(0, "109"), candle(3, "109"))], [(key, 1, 4)]
        )
        third = await commit(storage, [rows(key, candle(5, "109"), candle(0, "108"))])
        found = await storage.candles.changes(key)
        assert [(each.commit, each.timestamp) for each in found] == [
            *((second, minute(at)) for at in (0, 1, 2, 3, 4)),
            *((third, minute(at)) for at in (0, 5)),
        ]
        for limit in (1, 2, 3, 7, 8):
            told = page = await storage.candles.changes(key, limit=limit)
            while page.has_more:
                page = await storage.candles.changes(key, limit=limit, after=page[-1])
                told = Page([*told, *page])
            assert told == found, limit
        changes = storage.candles.changes
        assert await changes(key, after=found[-1]) == []
        assert await changes(key, since=second, after=found[1]) == found[5:]
        assert await changes(key, minute(2), minute(4), after=found[2]) == found[3:5]
        with pytest.raises(InvalidData, match="after"):
            await changes(key, after=second)  # type: ignore[arg-type]
        await storage.candles.purge_history([key], before=third)
        with pytest.raises(InvalidData, match="it was purged"):
            await changes(key, after=found[1])
