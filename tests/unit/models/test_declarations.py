"""Bad declarations are refused when they are made, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import ObjectId
from clickhouse_sqlalchemy import engines, types
from pydantic import Field
from sqlalchemy import BigInteger, Column, DateTime, MetaData, Numeric, Table, Text

from jts_storage import Storage
from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.errors import InvalidConfiguration
from jts_storage.models import Mapper, Models, RecordModel, TableModel
from jts_storage.mongo.documents import FormulaDocument, VersionedDocument
from jts_storage.mongo.documents import Models as KitsDocuments
from jts_storage.mongo.model import DocumentModel
from jts_storage.mongo.stored import Stored
from tests.declared import (
    Balance,
    Order,
    OrderDocument,
    Tick,
    balance_from_row,
    balance_to_row,
    balances,
    fundamentals,
    order_from_document,
    order_to_document,
    orders,
    tick_from_row,
    tick_to_row,
    ticks,
)


def tick_table(*more: Any, without: str = "", name: str = "ticks") -> Table:
    columns = [
        Column("symbol", types.LowCardinality(types.String), nullable=False),
        Column("timestamp", types.DateTime64(3, "UTC"), nullable=False),
        Column("price", types.Decimal(18, 4), nullable=False),
        Column("size", types.UInt64, nullable=False),
        Column("version", types.UInt64, nullable=False),
    ]
    replaced = {column.name for column in more if isinstance(column, Column)}
    kept = [column for column in columns if column.name not in {without, *replaced}]
    return Table(name, MetaData(), *kept, *more)


def declared(table: Table, **options: Any) -> TableModel[Any, Any]:
    mapper = Mapper(tick_to_row, tick_from_row)
    given: dict[str, Any] = {"mode": "append", "key": ("symbol", "timestamp"), **options}
    return TableModel(Tick, table, mapper, **given)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no version": (
        lambda: declared(tick_table(without="version"), mode="upsert"),
        "table ticks has no column 'version'",
    ),
    "unknown mode": (lambda: declared(tick_table(), mode="replace"), "the mode of ticks"),
    "unknown key": (lambda: declared(tick_table(), key=("code",)), "no column 'code'"),
    "key outside of the sort key": (
        lambda: declared(tick_table(), order_by=("symbol",)),
        r"key column 'timestamp' of ticks is not in the sort key \(symbol\)",
    ),
    "upsert by more than its key": (
        lambda: declared(
            tick_table(), mode="upsert", key=("symbol",), order_by=("symbol", "timestamp")
        ),
        "replaces rows by its sort key",
    ),
    "a key that may be empty": (
        lambda: declared(tick_table(Column("symbol", types.Nullable(types.String)))),
        "column 'symbol', by which rows are sorted, may be empty",
    ),
    "key as a text": (lambda: declared(tick_table(), key="symbol"), "the key of ticks"),
    "an engine": (
        lambda: declared(tick_table(engines.MergeTree(order_by=("symbol",)))),
        "names an engine",
    ),
    "a type": (
        lambda: declared(tick_table(Column("tags", types.Array(types.String)))),
        "column ticks.tags has the type Array",
    ),
    "a time without a zone": (
        lambda: declared(tick_table(Column("timestamp", types.DateTime64(3)))),
        "column ticks.timestamp has the type DateTime64",
    ),
    "a float for money": (
        lambda: declared(tick_table(Column("price", types.Float64, nullable=False))),
        "column ticks.price is a float, which cannot hold money exactly",
    ),
    "a column that is not mapped": (
        lambda: declared(tick_table(Column("venue", types.String, nullable=False))),
        "a value of ticks is missing",
    ),
    "a field that is lost": (
        lambda: TableModel(
            Tick,
            tick_table(),
            Mapper(tick_to_row, lambda row: Tick(**{**row, "size": 0})),
            mode="append",
            key=("symbol", "timestamp"),
        ),
        "the mapper of ticks loses size: 1 comes back as 0",
    ),
    "a record with money as a float of SQLite": (
        lambda: RecordModel(
            Balance,
            balance_table(Column("cash", Numeric(18, 4), nullable=False)),
            Mapper(balance_to_row, balance_from_row),
            key=("account",),
        ),
        "balances.cash is a Numeric",
    ),
    "a record with a time without a zone": (
        lambda: RecordModel(
            Balance,
            balance_table(Column("changed_at", DateTime, nullable=False)),
            Mapper(balance_to_row, balance_from_row),
            key=("account",),
        ),
        "balances.changed_at is a DateTime",
    ),
    "a record without its primary key": (
        lambda: RecordModel(
            Balance, balance_table(), Mapper(balance_to_row, balance_from_row), key=("cash",)
        ),
        "the primary key of table balances is not cash",
    ),
    "a document without a version": (
        lambda: DocumentModel(Order, Plain, Mapper(order_to_document, order_from_document)),  # type: ignore[misc]
        "Plain is no document with a version",
    ),
    "a document without a collection": (
        lambda: DocumentModel(Order, Nameless, Mapper(nameless_to_document, order_from_document)),  # type: ignore[misc]
        "Nameless names no collection",
    ),
    "a reference by no field": (
        lambda: DocumentModel(
            Order,
            OrderDocument,
            Mapper(order_to_document, order_from_document),
            references={"strategie_id": "strategies"},
        ),
        "OrderDocument has no field 'strategie_id'",
    ),
    "an entity without an id": (
        lambda: DocumentModel(Tick, OrderDocument, Mapper(no_document, no_tick)),
        "Tick, which orders holds, has no id and no version",
    ),
    "two models of one name": (
        lambda: Models([ticks, ticks]),
        "two models are called 'ticks'. Rename one: names are unique, also those of installed",
    ),
    "two models whose names differ by capitals": (
        lambda: Models([orders, declared(tick_table(name="Orders"))]),
        "two models are called 'orders' and 'Orders', which differ by capitals alone. Rename one",
    ),
    "a name of the kit in capitals": (
        lambda: Models([declared(tick_table(name="Candles"))]),
        "the name 'Candles' is the kit's own, whatever its capitals",
    ),
    "a prefix of the kit in capitals": (
        lambda: Models([declared(tick_table(name="UOW_ticks"))]),
        "the name 'UOW_ticks' is the kit's own",
    ),
    "two fields of one stored name": (
        lambda: DocumentModel(Order, TwiceStored, Mapper(order_to_document, order_from_document)),
        "TwiceStored stores its fields 'strategy_id' and 'strategyId' under one name, 'strategyId'",
    ),
    "two fields whose stored names differ by capitals": (
        lambda: DocumentModel(Order, Capitals, Mapper(order_to_document, order_from_document)),
        "Capitals stores its fields 'quantity' and 'Quantity' under .* that differ by capitals",
    ),
    "two nested fields whose stored names differ by capitals": (
        lambda: DocumentModel(Order, WithLegs, Mapper(order_to_document, order_from_document)),
        "WithLegs.Leg stores its fields 'unit_price' and 'unitprice'",
    ),
    "a registered document with a field that differs by capitals": (
        lambda: KitsDocuments().replaced_by(LoudFormula),
        "LoudFormula stores its fields 'name' and 'NAME'",
    ),
    "a name of the kit": (
        lambda: Models([declared(tick_table(name="candles"))]),
        "the name 'candles' is the kit's own",
    ),
    **{
        f"a table called {name!r}": (
            lambda name=name: declared(tick_table(name=name)),  # type: ignore[misc]
            "has a name that not every statement takes",
        )
        for name in ("my ticks", "ticks%", "ti`cks", 'ti"cks', "a.ticks", "1ticks", "", "t" * 64)
    },
    **{
        f"a column called {name!r}": (
            lambda name=name: declared(tick_table(Column(name, types.String))),  # type: ignore[misc]
            "column .* of ticks has a name that not every statement takes",
        )
        for name in ("the venue", "ven%ue", "ven`ue", "ven:ue")
    },
    "a column with the name of one of the kit's": (
        lambda: declared(tick_table(Column("_gone", types.String))),
        "column '_gone' of ticks has a name that the kit itself uses",
    ),
    "two columns that differ by capitals": (
        lambda: RecordModel(
            Balance,
            balance_table(Column("Account", Text, nullable=False)),
            Mapper(balance_to_row, balance_from_row),
            key=("account",),
        ),
        "table balances has two columns called 'account'",
    ),
    "the local table of another": (
        lambda: Models([ticks, declared(tick_table(name="ticks_local"))]),
        "'ticks_local' is that of the rows of ticks on each server of a cluster",
    ),
    "the table whose local one is there": (
        lambda: Models([declared(tick_table(name="ticks_local")), ticks]),
        "'ticks_local' is that of the rows of ticks",
    ),
    "the local table of the kit's": (
        lambda: Models([declared(tick_table(name="candles_local"))]),
        "'candles_local' is that of the rows of candles",
    ),
    "a collection that MongoDB refuses": (
        lambda: DocumentModel(Order, Dollars, Mapper(order_to_document, order_from_document)),  # type: ignore[misc]
        r"Dollars names the collection 'or\$ders'",
    ),
    "what is no model": (lambda: Models([Tick]), "is no model"),  # type: ignore[list-item]
    "a reference to nothing": (
        lambda: Storage.in_memory(models=[lost_orders()]),
        "orders refers to portfolios, which is no collection that is known",
    ),
}


class Plain:
    collection = "orders"


class Dollars(VersionedDocument):
    collection = "or$ders"


class TwiceStored(OrderDocument):
    strategyId: str | None = None


class Capitals(OrderDocument):
    Quantity: int | None = Field(default=None, alias="Quantity")


class Leg(Stored):
    unit_price: int = 0
    unitprice: int = 0


class WithLegs(OrderDocument):
    legs: list[Leg] = Field(default_factory=list)


class LoudFormula(FormulaDocument):
    NAME: str | None = Field(default=None, alias="NAME")


class Nameless(VersionedDocument):
    symbol: str


def nameless_to_document(order: Order) -> Nameless:
    return Nameless.of(id=ObjectId(order.id), symbol=order.symbol)


def no_document(tick: Tick) -> OrderDocument:
    raise NotImplementedError


def no_tick(document: OrderDocument) -> Tick:
    raise NotImplementedError


def lost_orders() -> DocumentModel[Any, Any]:
    return DocumentModel(
        Order,
        OrderDocument,
        Mapper(order_to_document, order_from_document),
        references={"strategy_id": "portfolios"},
    )


def balance_table(*more: Column[Any]) -> Table:
    columns = [
        Column("account", Text, primary_key=True),
        *more,
        Column("version", BigInteger, nullable=False),
    ]
    return Table("balances", MetaData(), *columns)


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_declaration_is_refused(name: str) -> None:
    declare, message = REFUSED[name]
    with pytest.raises(InvalidConfiguration, match=message):
        declare()


def test_an_entity_with_rules_needs_examples() -> None:
    @dataclass(frozen=True)
    class Strict:
        symbol: str

        def __post_init__(self) -> None:
            if len(self.symbol) != 6:
                raise ValueError("six characters")

    table = Table(
        "strict",
        MetaData(),
        Column("symbol", types.String, nullable=False),
        Column("version", types.UInt64, nullable=False),
    )
    mapper: Mapper[Strict, Any] = Mapper(
        lambda strict: {"symbol": strict.symbol}, lambda row: Strict(row["symbol"])
    )
    with pytest.raises(InvalidConfiguration, match=r"six characters.*examples="):
        TableModel(Strict, table, mapper, mode="upsert", key=("symbol",))
    given = [Strict("005930")]
    model = TableModel(Strict, table, mapper, mode="upsert", key=("symbol",), examples=given)
    assert model.examples == (Strict("005930"),)


def test_good_declarations_know_their_columns() -> None:
    assert ticks.schema.names == ["symbol", "timestamp", "price", "size"]
    assert fundamentals.schema.names == ["symbol", "published", "eps"]
    assert balances.schema.names == ["account", "cash", "changed_at", "version"]
    assert orders.references == {"strategyId": "strategies"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("price", 70_000.0, "must be exact, and this is a float"),
        ("price", Decimal("1.00001"), "does not fit"),
        ("price", Decimal(10) ** 15, "does not fit"),
        ("size", -1, "does not fit"),
        ("size", 2**64, "does not fit"),
        ("size", True, "must be a whole number, and this is a bool"),
        ("timestamp", datetime(2026, 1, 1), "must carry a time zone"),
        ("symbol", None, "must have a value"),
        ("symbol", 5, "must be a text, and this is a int"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(field: str, value: Any, message: str) -> None:
    from dataclasses import replace

    from jts_storage.errors import InvalidData

    with pytest.raises(InvalidData, match=message) as refused:
        ticks.to_columns([replace(ticks.examples[0], **{field: value})])
    assert field in str(refused.value)


def test_the_model_of_symbols_passes_the_trial_that_it_is_spared() -> None:
    tried = TableModel._tried(SYMBOLS, ())
    assert {symbol.sector for symbol in tried} > {None}
    assert len(tried) > 2
