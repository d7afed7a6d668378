"""Models of a service, as tests declare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from beanie import DecimalAnnotation, PydanticObjectId
from beanie.operators import And
from clickhouse_sqlalchemy import types
from pymongo import ASCENDING, IndexModel
from sqlalchemy import BigInteger, Boolean, Column, Float, MetaData, Table, Text

from jts_storage.models import (
    Exact,
    Mapper,
    Moment,
    RecordModel,
    TableModel,
    TableRepository,
)
from jts_storage.models.columns import Row
from jts_storage.models.document_repository import DocumentRepository
from jts_storage.mongo.documents import VersionedDocument
from jts_storage.mongo.model import DocumentModel
from jts_storage.mongo.values import decimal, id_text, whole


@dataclass(frozen=True, slots=True)
class Tick:
    symbol: str
    timestamp: datetime
    price: Decimal
    size: int


tick_table = Table(
    "ticks",
    MetaData(),
    Column("symbol", types.LowCardinality(types.String), nullable=False),
    Column("timestamp", types.DateTime64(3, "UTC"), nullable=False),
    Column("price", types.Decimal(18, 4), nullable=False),
    Column("size", types.UInt64, nullable=False),
    Column("version", types.UInt64, nullable=False),
)


def tick_to_row(tick: Tick) -> Row:
    return {
        "symbol": tick.symbol,
        "timestamp": tick.timestamp,
        "price": tick.price,
        "size": tick.size,
    }


def tick_from_row(row: Row) -> Tick:
    return Tick(row["symbol"], row["timestamp"], row["price"], row["size"])


class Ticks(TableRepository[Tick]):
    async def above(self, price: Decimal) -> Any:
        return await self.list(where=lambda c: c.price > price)


ticks = TableModel(
    Tick,
    tick_table,
    Mapper(tick_to_row, tick_from_row),
    mode="append",
    key=("symbol", "timestamp"),
    repository=Ticks,
)


@dataclass(frozen=True, slots=True)
class Fundamental:
    symbol: str
    published: date
    eps: Decimal | None


fundamental_table = Table(
    "fundamentals",
    MetaData(),
    Column("symbol", types.LowCardinality(types.String), nullable=False),
    Column("published", types.Date32, nullable=False),
    Column("eps", types.Nullable(types.Decimal(18, 4))),
    Column("version", types.UInt64, nullable=False),
    Column("is_deleted", types.UInt8, nullable=False),
)


def fundamental_to_row(figure: Fundamental) -> Row:
    return {"symbol": figure.symbol, "published": figure.published, "eps": figure.eps}


def fundamental_from_row(row: Row) -> Fundamental:
    return Fundamental(row["symbol"], row["published"], row["eps"])


class Fundamentals(TableRepository[Fundamental]):
    async def as_of(self, symbol: str, day: date) -> Fundamental | None:
        """What was known of a symbol on a day."""
        found = await self.list(
            where=lambda c: (c.symbol == symbol) & (c.published <= day), descending=True, limit=1
        )
        return found[0] if found else None


fundamentals = TableModel(
    Fundamental,
    fundamental_table,
    Mapper(fundamental_to_row, fundamental_from_row),
    mode="upsert",
    key=("symbol", "published"),
    repository=Fundamentals,
)


@dataclass(frozen=True, slots=True)
class Balance:
    account: str
    cash: Decimal
    changed_at: datetime
    version: int = 0


balance_table = Table(
    "balances",
    MetaData(),
    Column("account", Text, primary_key=True),
    Column("cash", Exact(18, 4), nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("version", BigInteger, nullable=False),
)


def balance_to_row(balance: Balance) -> Row:
    return {
        "account": balance.account,
        "cash": balance.cash,
        "changed_at": balance.changed_at,
        "version": balance.version,
    }


def balance_from_row(row: Row) -> Balance:
    return Balance(row["account"], row["cash"], row["changed_at"], row["version"])


balances = RecordModel(
    Balance, balance_table, Mapper(balance_to_row, balance_from_row), key=("account",)
)


class OrderState(StrEnum):
    OPEN = "open"
    FILLED = "filled"


@dataclass(frozen=True, slots=True)
class Order:
    symbol: str
    quantity: Decimal
    state: OrderState = OrderState.OPEN
    strategy_id: str | None = None
    id: str | None = None
    version: int = 1


class OrderDocument(VersionedDocument):
    collection: ClassVar[str] = "orders"

    symbol: str
    quantity: DecimalAnnotation
    state: OrderState
    strategy_id: PydanticObjectId | None = None

    @classmethod
    def indexes(cls) -> list[IndexModel]:
        return [IndexModel([(cls.path("symbol"), ASCENDING)], name="orders_symbol")]


def order_to_document(order: Order) -> OrderDocument:
    return OrderDocument.holding(
        id=order.id,
        symbol=order.symbol,
        quantity=order.quantity,
        state=order.state,
        strategy_id=order.strategy_id,
        version=order.version,
    )


def order_from_document(document: OrderDocument) -> Order:
    return Order(
        id=str(document.id),
        symbol=document.symbol,
        quantity=decimal(document.quantity),
        state=OrderState(document.state),
        strategy_id=id_text(document.strategy_id),
        version=whole(document.version, 1),
    )


class Orders(DocumentRepository[Order]):
    async def open_ones(self, symbol: str) -> Sequence[Order]:
        return await self.list(
            where=lambda order: And(order.symbol == symbol, order.state == OrderState.OPEN)
        )


orders = DocumentModel(
    Order,
    OrderDocument,
    Mapper(order_to_document, order_from_document),
    references={"strategy_id": "strategies"},
    repository=Orders,
)


@dataclass(frozen=True, slots=True)
class Fill:
    """A request to trade: what is not known before it is filled is None until then."""

    number: int
    asked_at: datetime
    filled_at: datetime | None = None
    settled_at: datetime | None = None
    fee: Decimal | None = None
    lots: int | None = None
    slippage: float | None = None
    is_final: bool | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class FillRecord(Fill):
    version: int = 0


fill_table = Table(
    "fills",
    MetaData(),
    Column("number", types.Int64),
    Column("asked_at", types.DateTime64(6, "UTC")),
    Column("filled_at", types.Nullable(types.DateTime64(3, "UTC"))),
    Column("settled_at", types.Nullable(types.DateTime64(6, "UTC"))),
    Column("fee", types.Nullable(types.Decimal(18, 4))),
    Column("lots", types.Nullable(types.UInt64)),
    Column("slippage", types.Nullable(types.Float32)),
    Column("is_final", types.Nullable(types.Boolean)),
    Column("note", types.LowCardinality(types.Nullable(types.String))),
    Column("version", types.UInt64),
    Column("is_deleted", types.UInt8),
)
fill_record_table = Table(
    "fill_records",
    MetaData(),
    Column("number", BigInteger, primary_key=True),
    Column("asked_at", Moment, nullable=False),
    Column("filled_at", Moment),
    Column("settled_at", Moment),
    Column("fee", Exact(18, 4)),
    Column("lots", BigInteger),
    Column("slippage", Float),
    Column("is_final", Boolean),
    Column("note", Text),
    Column("version", BigInteger, nullable=False),
)


def fill_to_row(fill: Fill) -> Row:
    return {field.name: getattr(fill, field.name) for field in fields(fill)}


fills = TableModel(
    Fill,
    fill_table,
    Mapper(fill_to_row, lambda row: Fill(**row)),
    mode="upsert",
    key=("number",),
)
fill_records = RecordModel(
    FillRecord,
    fill_record_table,
    Mapper(fill_to_row, lambda row: FillRecord(**row)),
    key=("number",),
)

quote_table = Table(
    "quotes",
    MetaData(),
    Column("symbol", types.LowCardinality(types.String)),
    Column("timestamp", types.DateTime64(3, "UTC")),
    Column("price", types.Decimal(18, 4)),
    Column("size", types.UInt64),
    Column("version", types.UInt64),
    Column("is_deleted", types.UInt8),
)
quotes = TableModel(
    Tick,
    quote_table,
    Mapper(tick_to_row, tick_from_row),
    mode="upsert",
    key=("symbol", "timestamp"),
)
"""Rows that are replaced, of which every column must have a value."""

MODELS = (ticks, fundamentals, balances, orders)
FILLS = (fills, fill_records)
