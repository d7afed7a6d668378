"""Since when history is kept is noted before anything is written, however bad the day is."""

from __future__ import annotations

from typing import Any

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.errors import ConnectionFailed
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work.moments import Moments
from tests.integration.history.commits import save, with_volume

KEY = SeriesKey("A", Timeframe.M1)
SERIES = make_candles(KEY, 3)


class Failing:
    """Notes nothing the first times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self._begin = Moments.begin

    async def begin(self, moments: Moments, **given: Any) -> None:
        if self.times:
            self.times -= 1
            raise ConnectionFailed("MongoDB does not answer.")
        await self._begin(moments, **given)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    made = Failing(1)

    async def begin(self: Moments, **given: Any) -> None:
        await made.begin(self, **given)

    monkeypatch.setattr(Moments, "begin", begin)
    return made


async def volumes(storage: Storage) -> list[tuple[int, int | None]]:
    found = await storage.candles.changes(KEY, SERIES[0].timestamp, SERIES[0].timestamp)
    return [(each.before.volume, each.after.volume if each.after else None) for each in found]


async def test_what_the_opening_could_not_note_the_first_commit_does(
    fresh_settings: StorageSettings, failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    async with Storage.open(fresh_settings) as storage:
        assert "The first commit will note since when history is kept" in caplog.text
        for volume in (1, 2, 3):
            await save(storage, with_volume(SERIES, volume))
        assert await volumes(storage) == [(1, 2), (2, 3)]
    async with Storage.open(fresh_settings) as storage:
        assert await volumes(storage) == [(1, 2), (2, 3)]


async def test_a_commit_that_cannot_note_it_either_stores_nothing(
    fresh_settings: StorageSettings, failing: Failing
) -> None:
    failing.times = 2
    async with Storage.open(fresh_settings) as storage:
        with pytest.raises(ConnectionFailed):
            await save(storage, SERIES)
        assert await storage.candles.count(KEY) == 0
        await save(storage, with_volume(SERIES, 1))
        await save(storage, with_volume(SERIES, 2))
        assert await volumes(storage) == [(1, 2)]


async def test_a_history_that_is_turned_off_ends_after_a_bad_opening_too(
    fresh_settings: StorageSettings, failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    failing.times = 0
    async with Storage.open(fresh_settings) as storage:
        await save(storage, SERIES)
    failing.times = 1
    async with Storage.open(fresh_settings.model_copy(update={"history": False})) as storage:
        await save(storage, with_volume(SERIES, 7))
    assert "ends here" in caplog.text
