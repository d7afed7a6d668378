"""The few objects over which all processes work, so that they meet often."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from jts_storage import (
    Candle,
    DomainEvent,
    Formula,
    FormulaCategory,
    SeriesKey,
    Storage,
    Strategy,
    Timeframe,
)
from tests import declared
from tests.declared import Order

MODELS = declared.MODELS

START = datetime(2024, 1, 2, tzinfo=UTC)
FIRST_DAY = date(2024, 1, 2)
SHARED_ROWS = 6
"""Rows of a series that everybody writes; those behind them belong to one transaction each."""
_OWN_ROWS = 1_000


@dataclass(frozen=True, kw_only=True)
class Happened(DomainEvent):
    """The `number`-th event of a transaction under `name`."""

    scene: str
    name: str
    transaction: int
    number: int

    @property
    def key(self) -> str:
        return f"{self.scene} {self.name}"


@dataclass(frozen=True, slots=True)
class Scene:
    """The objects of one run, told apart from those of others by `name`.

    :param ledgers: ids of formulas that are never deleted.
    :param strategies: ids of strategies that are never deleted.
    :param orders: ids of documents of a declared model, likewise.
    """

    name: str
    ledgers: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ("B0", "B1")
    figures: tuple[str, ...] = ("F0", "F1", "F2")
    series: tuple[str, ...] = ("A", "B")
    symbols: tuple[str, ...] = ("S0", "S1", "S2")
    checkpoints: tuple[str, ...] = ("C0", "C1")
    days: int = 3
    keys: tuple[str, ...] = ("K0", "K1", "K2")

    def own(self, name: str) -> str:
        """The name under which an object of this scene is stored."""
        return f"{self.name}-{name}"

    def series_key(self, name: str) -> SeriesKey:
        return SeriesKey(self.own(name), Timeframe.M1)

    def day(self, number: int) -> date:
        return FIRST_DAY + timedelta(days=number)


async def prepared(storage: Storage, name: str) -> Scene:
    """A scene whose documents are stored."""
    ledgers, strategies, orders = [], [], []
    async with storage.unit_of_work() as uow:
        for n in range(2):
            ledger = Formula(name=f"{name} L{n}", expression="0", category=FormulaCategory.ENTRY)
            ledgers.append((await uow.formulas.save(ledger)).id or "")
            strategy = Strategy(name=f"{name} X{n}", description="0")
            strategies.append((await uow.strategies.save(strategy)).id or "")
            order = await uow.repository(declared.orders).save(Order("0", Decimal(0)))
            orders.append(order.id or "")
        await uow.commit()
    return Scene(name, tuple(ledgers), tuple(strategies), tuple(orders))


def moment(row: int) -> datetime:
    return START + timedelta(minutes=row)


def row_of(at_ms: int) -> int:
    return (at_ms - int(START.timestamp() * 1000)) // 60_000


def own_row(tx: int) -> int:
    return _OWN_ROWS + tx


def candle(row: int, tx: int) -> Candle:
    price = Decimal(100)
    return Candle(moment(row), price, price, price, price, tx)


def appended(values: str | None) -> list[int]:
    """The transactions that a text lists; it begins with a 0 that stands for nobody."""
    return [int(value) for value in (values or "0").split()][1:]


def as_text(values: list[int]) -> str:
    return " ".join(map(str, [0, *values]))


def last(values: list[int]) -> int:
    return values[-1] if values else 0
