"""A condition finds the same rows in every store, staged, and in memory; others are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.errors import InvalidData
from jts_storage.memory.backend import InMemoryBackend
from tests.declared import MODELS, Balance, Fundamental, Tick, balances, fundamentals, ticks

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 3, tzinfo=UTC)
FIGURES = [
    Fundamental("A", DAY, Decimal("1.5")),
    Fundamental("B", DAY, None),
    Fundamental("C'%", DAY, Decimal(-2)),
]
TICKS = [Tick("A", NOON, Decimal("1.5"), 2**64 - 1), Tick("B", NOON, Decimal(7), 5)]
BALANCES = [Balance("A", Decimal("1.5"), NOON, 1), Balance("B", Decimal(-2), NOON, 1)]

Where = Callable[[Any], Any]
FOUND: dict[str, tuple[Any, Where, str]] = {
    "equal": (fundamentals, lambda c: c.eps == Decimal("1.50"), "A"),
    "a whole number": (fundamentals, lambda c: c.eps > 1, "A"),
    "more digits": (fundamentals, lambda c: c.eps < Decimal("1.50001"), "A C'%"),
    "unequal leaves nulls out": (fundamentals, lambda c: c.eps != Decimal("1.5"), "C'%"),
    "in": (fundamentals, lambda c: c.eps.in_([Decimal("1.5"), 3]), "A"),
    "in nothing": (fundamentals, lambda c: c.eps.in_([]), ""),
    "not in leaves nulls out": (fundamentals, lambda c: c.eps.not_in([3]), "A C'%"),
    "not": (fundamentals, lambda c: ~(c.eps == 3), "A C'%"),
    "between": (fundamentals, lambda c: c.eps.between(-2, 1), "C'%"),
    "not between": (fundamentals, lambda c: ~c.eps.between(-2, 1), "A"),
    "none": (fundamentals, lambda c: c.eps.is_(None), "B"),
    "some": (fundamentals, lambda c: c.eps.is_not(None), "A C'%"),
    "or": (fundamentals, lambda c: (c.symbol == "B") | (c.eps == -2), "B C'%"),
    "quotes": (fundamentals, lambda c: c.symbol == "C'%", "C'%"),
    "a date": (fundamentals, lambda c: (c.published <= DAY) & (c.symbol < "B"), "A"),
    "64 bits": (ticks, lambda c: c.size == 2**64 - 1, "A"),
    "64 bits between": (ticks, lambda c: c.size.between(1, 6), "B"),
    "a moment": (ticks, lambda c: (c.timestamp >= NOON) & (c.price < 2), "A"),
    "a record": (balances, lambda c: c.cash >= Decimal("1.5"), "A"),
    "records": (balances, lambda c: c.changed_at == NOON, "A B"),
    "a negative record": (balances, lambda c: c.cash.in_([-2]), "B"),
}
REFUSED: dict[str, tuple[Any, Where, str]] = {
    "None": (fundamentals, lambda c: c.eps > None, "None"),
    "None among others": (fundamentals, lambda c: c.eps.in_([1, None]), "None"),
    "a float": (fundamentals, lambda c: c.eps == 1.5, "Decimal"),
    "NaN": (fundamentals, lambda c: c.eps == Decimal("NaN"), "finite"),
    "beyond the column": (ticks, lambda c: c.size < 2**64, "size"),
    "below the column": (ticks, lambda c: c.size > -1, "size"),
    "a naive time": (ticks, lambda c: c.timestamp > datetime(2026, 1, 1), "time zone"),
    "a surrogate": (ticks, lambda c: c.symbol == "\ud800", "symbol"),
    "a bare column": (ticks, lambda c: c.size, "no condition"),
    "True": (ticks, lambda c: True, "no condition"),
    "a function": (ticks, lambda c: func.length(c.symbol) == 1, "no condition"),
    "what the kit fills": (ticks, lambda c: c.version > 1, "filled by the kit"),
    "a flag": (fundamentals, lambda c: c.eps.is_(True), "no condition"),
}


@pytest.fixture(params=["stored", "staged", "in memory"])
async def ask(
    request: pytest.FixtureRequest, settings: StorageSettings
) -> AsyncIterator[Callable[[Any], Any]]:
    in_memory = request.param == "in memory"
    made = InMemoryBackend(models=MODELS) if in_memory else StoreBackend(settings, models=MODELS)
    async with Storage(made) as storage, storage.unit_of_work() as uow:
        await uow.repository(fundamentals).save_many(FIGURES)
        await uow.repository(ticks).append(TICKS)
        await uow.repository(balances).save_many(
            [Balance(each.account, each.cash, each.changed_at) for each in BALANCES]
        )
        if request.param == "staged":
            yield uow.repository
            return
        await uow.commit()
        yield storage.repository


async def test_a_condition_finds_the_same_everywhere(ask: Callable[[Any], Any]) -> None:
    for name, (model, where, expected) in FOUND.items():
        found = await ask(model).list(where=where)
        names = [each.account if model is balances else each.symbol for each in found]
        assert " ".join(sorted(names)) == expected, name


async def test_others_are_refused_everywhere(ask: Callable[[Any], Any]) -> None:
    for name, (model, where, message) in REFUSED.items():
        with pytest.raises(InvalidData) as refused:
            await ask(model).list(where=where)
        assert message in str(refused.value), name
