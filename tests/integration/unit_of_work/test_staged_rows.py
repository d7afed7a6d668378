"""What a unit of work has staged for a declared table, laid over what is stored there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.errors import Conflict
from jts_storage.memory.backend import InMemoryBackend
from tests.declared import MODELS, Balance, Fundamental, balances, fundamentals

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = date(2026, 3, 2)
NAMES = "ABCDE"
FIGURES = [Fundamental(name, DAY, Decimal(n)) for n, name in enumerate(NAMES)]
BALANCES = [Balance(name, Decimal(n), NOON, version=1) for n, name in enumerate(NAMES)]


@pytest.fixture(params=["stored", "in memory"])
async def storage(
    request: pytest.FixtureRequest, settings: StorageSettings
) -> AsyncIterator[Storage]:
    is_real = request.param == "stored"
    made = StoreBackend(settings, models=MODELS) if is_real else InMemoryBackend(models=MODELS)
    async with Storage(made) as storage:
        async with storage.unit_of_work() as uow:
            await uow.repository(fundamentals).save_many(FIGURES)
            await uow.repository(balances).save_many(replace(each, version=0) for each in BALANCES)
            await uow.commit()
        yield storage


@pytest.mark.parametrize(
    ("model", "entities"), [(fundamentals, FIGURES), (balances, BALANCES)], ids=["upsert", "record"]
)
async def test_a_page_is_full_though_rows_before_it_are_deleted(
    storage: Storage, model: Any, entities: list[Any]
) -> None:
    a, b, c, d, e = entities
    async with storage.unit_of_work() as uow:
        rows = uow.repository(model)
        assert await rows.delete(*model.key_of(a))
        assert await rows.list(limit=2) == [b, c]
        assert (await rows.read(limit=2)).equals(model.to_columns([b, c]))
        assert await rows.list(limit=2, after=model.key_of(a)) == [b, c]
        assert await rows.delete(*model.key_of(c))
        assert await rows.list(limit=2) == [b, d]
        assert await rows.list(limit=2, after=model.key_of(b)) == [d, e]
        assert await rows.delete(*model.key_of(e))
        assert await rows.list(limit=2, descending=True) == [d, b]


async def test_a_second_list_does_not_hide_what_somebody_else_changed(storage: Storage) -> None:
    """What a deletion may remove is what the unit of work read first."""
    found = BALANCES[0]
    async with storage.unit_of_work() as uow:
        mine = uow.repository(balances)
        assert await mine.list() == BALANCES
        async with storage.unit_of_work() as other:
            changed = await other.repository(balances).save(replace(found, cash=Decimal(7)))
            await other.commit()
        assert await mine.list(limit=1) == [changed]
        assert await mine.delete(found.account)
        with pytest.raises(Conflict, match=f"balances {found.account}"):
            await uow.commit()
    assert await storage.repository(balances).get(found.account) == changed
