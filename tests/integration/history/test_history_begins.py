"""Since when history is kept is noted before anything is written, however bad the day is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.errors import ConnectionFailed, InvalidData
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work.entries import ENTRIES
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
        assert "What is written next will note since when history is kept" in caplog.text
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


@pytest.mark.parametrize("history", [True, False])
async def test_documents_are_saved_while_clickhouse_is_away(
    fresh_settings: StorageSettings, caplog: pytest.LogCaptureFixture, history: bool
) -> None:
    """That a history ends here is noted in MongoDB alone; that it is kept, before candles are."""
    async with Storage.open(fresh_settings) as storage:
        await save(storage, SERIES)
    url = SecretStr("clickhouse://127.0.0.1:1/jts")
    away = {"history": history, "migrate": None, "clickhouse_url": url}
    async with Storage.open(fresh_settings.model_copy(update=away)) as storage:
        async with storage.unit_of_work() as uow:
            identity = (await uow.formulas.save(make_formula())).id
            await uow.commit()
        assert identity is not None
        assert await storage.formulas.get_by_id(identity) is not None
        with pytest.raises(ConnectionFailed):
            await save(storage, SERIES)
    assert ("ends here" in caplog.text) is not history


async def test_who_keeps_no_history_ends_it_before_finishing_what_a_crash_left(
    fresh_settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that commit replaces is kept nowhere, so nobody may be told that nothing was there."""

    class Crash(BaseException):
        pass

    def reached(point: str) -> None:
        if point == "decided":
            raise Crash

    async with Storage.open(fresh_settings) as storage:
        first = await save(storage, SERIES)
        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(commit_points, "reached", reached)
            async with storage.unit_of_work() as uow:
                await uow.candles.save_many(KEY, with_volume(SERIES, 7))
                await uow.formulas.save(make_formula())
                await uow.commit()
        entries = storage.mongo.get_collection(ENTRIES)
        await entries.update_many({}, {"$currentDate": {"leaseUntil": True}})
    async with Storage.open(fresh_settings.model_copy(update={"history": False})) as storage:
        latest = await storage.candles.get_range(KEY, SERIES[0].timestamp, SERIES[0].timestamp)
        assert latest[0].volume == 7
    async with Storage.open(fresh_settings) as storage:
        with pytest.raises(InvalidData, match="is before the history"):
            await storage.candles.get_range(
                KEY, SERIES[0].timestamp, SERIES[-1].timestamp, as_of=first
            )
