"""A condition finds the same rows in every store, staged, and in memory; others are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import and_, func, not_, or_

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.errors import InvalidData
from jts_storage.memory.backend import InMemoryBackend
from tests.declared import (
    FILLS,
    MODELS,
    Balance,
    Fill,
    FillRecord,
    Fundamental,
    Tick,
    balances,
    fill_records,
    fills,
    fundamentals,
    ticks,
)

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 3, tzinfo=UTC)
FIGURES = [
    Fundamental("A", DAY, Decimal("1.5")),
    Fundamental("B", DAY, None),
    Fundamental("C'%", DAY, Decimal(-2)),
]
TICKS = [Tick("A", NOON, Decimal("1.5"), 2**64 - 1), Tick("B", NOON, Decimal(7), 5)]
SOON = NOON + timedelta(milliseconds=1)
VALUES: dict[str, Any] = {
    "filled_at": SOON,
    "settled_at": SOON,
    "fee": Decimal("0.0001"),
    "lots": 2**62,
    "slippage": 0.5,
    "is_final": True,
    "note": "가",
}
FILLED = [
    (1, {}),
    (2, VALUES),
    (3, {"filled_at": NOON, "is_final": False, "slippage": -(2.0**100)}),
]
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
    "a number too large for the column": (fundamentals, lambda c: c.eps < 10**18, "A C'%"),
    "in numbers too large": (fundamentals, lambda c: c.eps.in_([10**18, Decimal("1.5")]), "A"),
    "not in numbers too large": (fundamentals, lambda c: c.eps.not_in([2**63, -2]), "A"),
    "more digits in": (fundamentals, lambda c: c.eps.in_([Decimal("1.50001"), -2]), "C'%"),
    "and_ of one": (fundamentals, lambda c: and_(c.symbol == "A"), "A"),
    "or_": (fundamentals, lambda c: or_(c.symbol == "A", c.eps == -2), "A C'%"),
    "not_": (fundamentals, lambda c: not_((c.symbol == "A") | (c.symbol == "B")), "C'%"),
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


def comparing(name: str, operator: str, *values: Any) -> Where:
    return lambda c: getattr(c[name], operator)(*values)


HAS = {"filled_at", "is_final", "slippage"}
"""What the third of the fills has, too."""
FILLS_FOUND: dict[str, tuple[Where, str]] = {
    "before": (lambda c: c.filled_at < SOON, "3"),
    "between moments": (lambda c: c.filled_at.between(NOON, SOON), "2 3"),
    "not between moments": (lambda c: ~c.filled_at.between(SOON, SOON), "3"),
    "two moments": (lambda c: c.settled_at > c.asked_at, "2"),
    "a flag": (lambda c: c.is_final == False, "3"),  # noqa: E712
    "a small float": (lambda c: c.slippage < 0, "3"),
    "open, or filled at noon": (
        lambda c: (c.filled_at == None) | (c.filled_at == NOON),  # noqa: E711
        "1 3",
    ),
}
for name, value in VALUES.items():
    others = ("1", "3", "2 3") if name in HAS else ("1 3", "", "2")
    FILLS_FOUND |= {
        f"{name} is None": (comparing(name, "__eq__", None), others[0]),
        f"{name} is some": (comparing(name, "__ne__", None), others[2]),
        f"{name} equals": (comparing(name, "__eq__", value), "2"),
        f"{name} differs": (comparing(name, "__ne__", value), others[1]),
        f"{name} in": (comparing(name, "in_", [value]), "2"),
        f"{name} in none": (comparing(name, "not_in", []), "1 2 3"),
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
    "a float that is NaN": (fills, lambda c: c.slippage == float("nan"), "NaN"),
    "NaN among others": (fills, lambda c: c.slippage.in_([1.0, float("nan")]), "NaN"),
    "a float of 64 bits": (fills, lambda c: c.slippage > 0.1, "32 bits"),
    "a flag for a number": (fills, lambda c: c.lots == True, "whole number"),  # noqa: E712
    "microseconds": (fills, lambda c: c.filled_at > NOON.replace(microsecond=1), "milliseconds"),
}


@pytest.fixture(params=["stored", "staged", "in memory"])
async def ask(
    request: pytest.FixtureRequest, settings: StorageSettings
) -> AsyncIterator[Callable[[Any], Any]]:
    in_memory = request.param == "in memory"
    models: list[Any] = [*MODELS, *FILLS]
    made = InMemoryBackend(models=models) if in_memory else StoreBackend(settings, models=models)
    async with Storage(made) as storage, storage.unit_of_work() as uow:
        await uow.repository(fundamentals).save_many(FIGURES)
        await uow.repository(ticks).append(TICKS)
        await uow.repository(balances).save_many(
            [Balance(each.account, each.cash, each.changed_at) for each in BALANCES]
        )
        await uow.repository(fills).save_many(Fill(n, NOON, **v) for n, v in FILLED)
        await uow.repository(fill_records).save_many(FillRecord(n, NOON, **v) for n, v in FILLED)
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


async def test_what_may_be_missing_is_found_the_same_everywhere(ask: Callable[[Any], Any]) -> None:
    for model in FILLS:
        for name, (where, expected) in FILLS_FOUND.items():
            found = await ask(model).list(where=where)
            assert " ".join(str(each.number) for each in found) == expected, (model, name)


async def test_what_is_missing_is_none_and_nothing_else(ask: Callable[[Any], Any]) -> None:
    assert await ask(fills).list() == [Fill(n, NOON, **values) for n, values in FILLED]
    assert await ask(fill_records).list() == [
        FillRecord(n, NOON, **values, version=1) for n, values in FILLED
    ]


async def test_others_are_refused_everywhere(ask: Callable[[Any], Any]) -> None:
    for name, (model, where, message) in REFUSED.items():
        with pytest.raises(InvalidData) as refused:
            await ask(model).list(where=where)
        assert message in str(refused.value), name
