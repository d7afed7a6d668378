"""A schema that was taken back and applied again: what was changed meanwhile was not kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from jts_storage import CandleSeries, SeriesKey, Storage, StorageSettings, Timeframe, migrate
from jts_storage.backend import StoreBackend
from jts_storage.domain.moments import Commit
from jts_storage.errors import InvalidData
from jts_storage.testing.contracts.samples import FOREVER, candle
from jts_storage.testing.factories import make_formula

KEY = SeriesKey("A", Timeframe.M1)


def opened(settings: StorageSettings, *, history: bool = True) -> Storage:
    return Storage(StoreBackend(settings.model_copy(update={"history": history})))


async def save(storage: Storage, close: str) -> Commit:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, CandleSeries.from_candles(KEY, [candle(1, close)]))
        commit = (await uow.commit()).commit
    assert commit is not None
    return commit


def only(storage: Storage, store: Literal["clickhouse", "mongo"]) -> migrate.Databases:
    if store == "clickhouse":
        return migrate.Databases(clickhouse=storage.clickhouse)
    return migrate.Databases(mongo=storage.mongo)


async def down_and_up(settings: StorageSettings, store: Literal["clickhouse", "mongo"]) -> None:
    """Take back the schema that keeps a history, write as an older release would, and go on."""
    async with opened(settings) as storage:
        await migrate.down(only(storage, store), to="6")
    meanwhile = settings.model_copy(update={"history": False, "migrate": False})
    backend = StoreBackend(meanwhile, recovers=False)
    async with Storage(backend) as storage:
        if store == "clickhouse":
            await save(storage, "105")
        else:
            [formula] = await storage.formulas.list()
            await storage.run(lambda uow: uow.formulas.save(replace(formula, name="105")))
        await migrate.up(only(storage, store))


async def test_the_history_of_candles_begins_anew_behind_a_gap(settings: StorageSettings) -> None:
    async with opened(settings) as storage:
        first = await save(storage, "101")
        second = await save(storage, "102")
        await storage.snapshots.create("before")
        seen = await storage.candles.get_range(KEY, *FOREVER, as_of=first)
        assert [str(each.close) for each in seen] == ["101.0000"]
    await down_and_up(settings, "clickhouse")
    async with opened(settings) as storage:
        for moment in (first, second, "before"):
            with pytest.raises(InvalidData, match="is before the history: it begins at"):
                await storage.candles.get_range(KEY, *FOREVER, as_of=moment)
        third = await save(storage, "103")
        fourth = await save(storage, "104")
    async with opened(settings) as storage:
        for moment, close in ((third, "103.0000"), (fourth, "104.0000")):
            seen = await storage.candles.get_range(KEY, *FOREVER, as_of=moment)
            assert [str(each.close) for each in seen] == [close]


async def test_the_history_of_documents_begins_anew_behind_a_gap(settings: StorageSettings) -> None:
    async with opened(settings) as storage:
        async with storage.unit_of_work() as uow:
            one = await uow.formulas.save(make_formula("one"))
            first = (await uow.commit()).commit
        two = await storage.run(lambda uow: uow.formulas.save(replace(one, name="two")))
        await storage.snapshots.create("before")
    assert first is not None
    await down_and_up(settings, "mongo")
    identity = one.id or ""
    async with opened(settings) as storage:
        for moment in (first, "before"):
            with pytest.raises(InvalidData, match="is before the history: it begins at"):
                await storage.formulas.get_by_id(identity, as_of=moment)
        now = await storage.formulas.get_by_id(identity)
        assert now is not None
        history = await storage.formulas.history(identity)
        assert [each.entity for each in history] == [one, two, now]
        began = history[-1].commit
        last = await storage.run(lambda uow: uow.formulas.save(replace(now, name="last")))
    async with opened(settings) as storage:
        assert await storage.formulas.get_by_id(identity, as_of=began) == now
        assert (await storage.formulas.history(identity))[-1].entity == last
