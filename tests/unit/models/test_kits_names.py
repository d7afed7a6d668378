"""No model has the name of a table or collection of the kit's; what is given wrongly is told so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from jts_storage import Storage
from jts_storage.clickhouse import tables
from jts_storage.errors import InvalidConfiguration, InvalidData, StorageError
from jts_storage.models import TableModel
from jts_storage.models.registry import KITS_OWN
from jts_storage.mongo.schema import collection_schemas
from jts_storage.relational.tables import metadata
from tests.declared import Tick, balances, ticks

TICK = Tick("005930", datetime(2026, 3, 2, tzinfo=UTC), Decimal(71_200), 12)


def test_the_names_of_all_that_the_kit_stores_are_its_own() -> None:
    stored = {*tables.build().metadata.tables, *metadata.tables}
    stored |= {each.name for each in collection_schemas()}
    unknown = {name for name in stored if not name.startswith(("uow_", "jts_"))} - KITS_OWN
    assert not unknown


async def appended(storage: Storage, rows: Any) -> None:
    async with storage.unit_of_work() as uow:
        await uow.repository(ticks).append(rows)


async def saved(storage: Storage, entity: Any) -> None:
    async with storage.unit_of_work() as uow:
        await uow.repository(balances).save_many(entity)


WRONG: dict[str, tuple[Callable[[Storage], Awaitable[object]], str]] = {
    "one tick": (lambda storage: appended(storage, TICK), r"field 'ticks': must be several.*list"),
    "one balance": (lambda storage: saved(storage, 5), r"field 'balances': must be several"),
    "a column that there is none of": (
        lambda storage: storage.repository(ticks).read(columns=["prce"]),
        r"field 'prce': ticks has no such column. It has symbol, timestamp, price",
    ),
    "a text as a condition": (
        lambda storage: storage.repository(ticks).list(where="size > 1"),  # type: ignore[arg-type]
        r"field 'where': is no condition: .* Give a function of the columns: lambda c:",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_given_wrongly_is_told_in_words(case: str) -> None:
    call, message = WRONG[case]
    async with Storage.in_memory(models=[ticks, balances]) as storage:
        with pytest.raises(InvalidData, match=message):
            await call(storage)


async def test_a_model_that_was_declared_again_is_told_apart() -> None:
    """As in a notebook whose cell is run again."""
    again = TableModel(Tick, ticks.table, ticks.mapper, mode="append", key=("symbol", "timestamp"))
    async with Storage.in_memory(models=[ticks]) as storage:
        with pytest.raises(StorageError, match="'ticks', but another declaration of that name"):
            storage.repository(again)
        with pytest.raises(StorageError, match=r"'balances'\. Open it with"):
            storage.repository(balances)


def test_one_model_is_no_list_of_models() -> None:
    with pytest.raises(InvalidConfiguration, match=r"Give a list of them: models=\[ticks\]"):
        Storage.in_memory(models=ticks)  # type: ignore[arg-type]
