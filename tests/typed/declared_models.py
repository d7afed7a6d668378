"""Nothing runs here: type checkers prove what repositories of declared models are typed as.

Where a line must not type-check, it says so by `type: ignore`, which is an error of its own where
the checker finds nothing to ignore.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, assert_type

from jts_storage import Mapper, Model, Storage, TableModel, sync
from jts_storage.models import RecordRepository, TableRepository
from jts_storage.sync.declared import Blocking
from tests.declared import (
    Balance,
    Fundamental,
    Fundamentals,
    Order,
    Orders,
    Tick,
    Ticks,
    balances,
    fundamentals,
    orders,
    tick_from_row,
    tick_table,
    tick_to_row,
    ticks,
)

plain_ticks = TableModel(
    Tick, tick_table, Mapper(tick_to_row, tick_from_row), mode="append", key=("symbol",)
)
assert_type(plain_ticks, TableModel[Tick, TableRepository[Tick]])


async def what_is_committed(storage: Storage) -> None:
    assert_type(storage.repository(orders), Orders)
    assert_type(storage.repository(ticks), Ticks)
    assert_type(storage.repository(fundamentals), Fundamentals)
    assert_type(storage.repository(balances), RecordRepository[Balance])
    assert_type(storage.repository(plain_ticks), TableRepository[Tick])

    assert_type(await storage.repository(orders).open_ones("A"), Sequence[Order])
    assert_type(await storage.repository(orders).get("x"), Order | None)
    assert_type(await storage.repository(balances).get("x"), Balance | None)
    known = await storage.repository(fundamentals).as_of("A", date(2026, 1, 1))
    assert_type(known, Fundamental | None)
    assert_type(await storage.repository(plain_ticks).list(), Sequence[Tick])

    wrong: Ticks = storage.repository(orders)  # type: ignore[assignment]
    await storage.repository(orders).as_of("A")  # type: ignore[attr-defined]
    await storage.repository(orders).open_ones(1)  # type: ignore[arg-type]
    storage.repository(Order)  # type: ignore[arg-type]
    assert_type(wrong, Ticks)


async def what_is_staged(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        assert_type(uow.repository(orders), Orders)
        assert_type(uow.repository(ticks), Ticks)
        assert_type(uow.repository(balances), RecordRepository[Balance])
        order = await uow.repository(orders).save(Order("A", Decimal(1)))
        assert_type(order, Order)
        assert_type(await uow.repository(ticks).append([]), int)

        await uow.repository(orders).save(order.symbol)  # type: ignore[arg-type]
        await uow.repository(orders).append([])  # type: ignore[attr-defined]


def what_is_committed_and_waited_for(storage: sync.Storage) -> None:
    assert_type(storage.repository(orders), Blocking[Orders])
    assert_type(storage.repository(balances), Blocking[RecordRepository[Balance]])
    assert_type(storage.repository(orders).call(lambda it: it.open_ones("A")), Sequence[Order])
    assert_type(storage.repository(fundamentals).call(lambda it: it.get("A")), Fundamental | None)

    storage.repository(orders).call(lambda it: it.as_of("A"))  # type: ignore[attr-defined]


def what_is_staged_and_waited_for(storage: sync.Storage) -> None:
    with storage.unit_of_work() as uow:
        assert_type(uow.repository(orders), Blocking[Orders])
        assert_type(uow.repository(ticks), Blocking[Ticks])
        saved = uow.repository(orders).call(lambda it: it.save(Order("A", Decimal(1))))
        assert_type(saved, Order)


MODELS: Sequence[Model[Any]] = [orders, ticks, balances]


async def what_is_listed_elsewhere() -> None:
    async with Storage.open(models=MODELS):
        pass
