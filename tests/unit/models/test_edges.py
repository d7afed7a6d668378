"""Values and conditions that would be changed, or answered otherwise, without a word."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from beanie.odm.operators import BaseOperator
from beanie.operators import And, In, Or
from clickhouse_sqlalchemy import types
from sqlalchemy import Column, MetaData, Table, and_, func, literal, not_, or_

from jts_storage import Storage
from jts_storage.errors import InvalidData
from jts_storage.models import Mapper, TableModel
from jts_storage.models.given import as_columns
from tests.declared import Fundamental, Order, Tick, fundamentals, orders, ticks

DAY = date(2026, 3, 2)


@dataclass(frozen=True, slots=True)
class Reading:
    at: datetime
    figure: float = 0.0
    share: Decimal = Decimal(1)


readings = TableModel(
    Reading,
    Table(
        "readings",
        MetaData(),
        Column("at", types.DateTime64(3, "UTC")),
        Column("figure", types.Float64),
        Column("share", types.Decimal(4, 2)),  # narrower than the values the kit would try
        Column("version", types.UInt64),
        Column("is_deleted", types.UInt8),
    ),
    Mapper(
        lambda each: {"at": each.at, "figure": each.figure, "share": each.share},
        lambda row: Reading(row["at"], row["figure"], row["share"]),
    ),
    mode="upsert",
    key=("at",),
)
# The hour that a clock in Berlin shows twice.
REPEATED = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))


async def test_a_key_in_a_zone_is_the_moment_that_it_is() -> None:
    async with Storage.in_memory(models=[readings]) as storage:
        async with storage.unit_of_work() as uow:
            table = uow.repository(readings)
            await table.save(Reading(REPEATED, 2.0))
            assert (await table.get(REPEATED)) == Reading(REPEATED.astimezone(UTC), 2.0)
            assert await table.delete(REPEATED)
            assert await table.get(REPEATED) is None
            await table.save(Reading(REPEATED, 3.0))
            await uow.commit()
        assert [each.figure for each in await storage.repository(readings).list()] == [3.0]


JOINED: list[Callable[[Any], Any]] = [
    lambda c: c.symbol == "A" and c.eps == 2,
    lambda c: c.symbol == "A" or c.eps == 2,
    lambda c: not (c.symbol == "A"),  # noqa: SIM201
    lambda c: 1 < c.eps < 3,
    lambda c: (c.symbol == "A" and c.eps == 2) & (c.eps > 1),
    lambda c: and_(c.symbol == "A") and c.eps == 2,
    lambda c: or_(c.symbol == "A") or c.eps == 2,
    lambda c: and_(c.symbol == "A", c.eps == 2) or c.eps == 3,
    lambda c: not_(c.symbol == "A") and c.eps == 2,
    lambda c: not_(c.symbol != "A") or c.eps == 2,
    lambda c: (literal("A") == c.symbol) or c.eps == 2,
    lambda c: (literal("A") != c.symbol) and c.eps == 2,
    lambda c: (func.lower(c.symbol) == "a") or c.eps == 2,
    lambda c: (literal("A") == c.symbol) or c.symbol == "B",
]


@pytest.mark.parametrize("where", JOINED)
async def test_conditions_joined_by_python_are_refused(where: Callable[[Any], Any]) -> None:
    async with Storage.in_memory(models=[fundamentals]) as storage:
        with pytest.raises(InvalidData, match=r"and, or, not|Boolean value"):
            await storage.repository(fundamentals).list(where=where)
        after: Any
        for after in (5, b"A", ("A",)):
            with pytest.raises(InvalidData, match="key"):
                await storage.repository(fundamentals).list(after=after)
        wrong: dict[str, Any] = {"no column 'nope'": lambda c: c.nope == 1, "cond": lambda c: 5}
        for message, said in wrong.items():
            with pytest.raises(InvalidData, match=message):
                await storage.repository(fundamentals).list(where=said)


@pytest.mark.parametrize(
    "where",
    [
        lambda order: order.symbol == "A" and order.quantity == 2,
        lambda order: order.symbol == "A" or order.quantity == 2,
        lambda order: 1 < order.quantity < 3,
        lambda order: not (order.symbol == "A"),  # noqa: SIM201
        lambda order: order.symbol and order.quantity == 2,
        lambda order: order.symbol.deeper and order.quantity == 2,
        lambda order: In(order.symbol, ["A"]) and order.quantity == 2,
        lambda order: In(order.symbol, ["A"]) or order.quantity == 2,
        lambda order: Or(order.symbol == "A", order.quantity == 2) or order.quantity == 3,
        lambda order: And(order.symbol == "A", order.quantity == 2) and order.quantity == 3,
        lambda order: not In(order.symbol, ["A"]),
        lambda order: (order.symbol == "A") & (order.quantity == 2) and order.quantity == 3,
        lambda order: order.symbol.in_(["A"]) or order.quantity == 3,
    ],
)
async def test_so_are_those_of_documents(where: Callable[[Any], Any]) -> None:
    async with Storage.in_memory(models=[orders]) as storage:
        with pytest.raises(InvalidData, match="and, or, not"):
            await storage.repository(orders).list(where=where)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (lambda order: (order.symbol == "A") & (order.quantity == 1), "A1"),
        (lambda order: (order.symbol == "B") | (order.quantity == 1), "A1 B1 B2"),
        (lambda order: ~(order.symbol == "A") & (order.quantity == 2), "B2"),
        (lambda order: order.symbol.in_(("A",)) & ~order.quantity.in_([1]), "A2"),
        (lambda order: order.symbol.not_in({"A"}), "B1 B2"),
        (lambda order: In(order.symbol, ["A"]), "A1 A2"),
        (lambda order: In(order.symbol, ["A"]) & (order.quantity == 2), "A2"),
        (lambda order: {"symbol": "A"} | (order.quantity == 2), "A1 A2 B2"),
        (lambda order: And(order.symbol == "A"), "A1 A2"),
    ],
)
async def test_conditions_on_documents_are_joined_as_those_on_columns(
    where: Callable[[Any], Any], expected: str
) -> None:
    async with Storage.in_memory(models=[orders]) as storage:
        async with storage.unit_of_work() as uow:
            for symbol, quantity in product("AB", (1, 2)):
                await uow.repository(orders).save(Order(symbol, Decimal(quantity)))
            await uow.commit()
        found = await storage.repository(orders).list(where=where)
        assert " ".join(sorted(f"{each.symbol}{each.quantity}" for each in found)) == expected


async def test_a_beanie_operator_is_true_outside_of_a_condition_as_it_was() -> None:
    async with Storage.in_memory(models=[orders]):
        assert In("symbol", ["A"])
        assert not type("Empty", (BaseOperator,), {"query": {}})()


@pytest.mark.parametrize(
    "where",
    [
        lambda order: And(),
        lambda order: Or(order.symbol == "A", And()),
        lambda order: And(order.symbol == "A", order.quantity is None),
        lambda order: (order.symbol == "A") & True,
        lambda order: order.symbol.in_("A"),
    ],
)
async def test_what_is_no_condition_on_documents_is_refused(where: Callable[[Any], Any]) -> None:
    async with Storage.in_memory(models=[orders]) as storage:
        with pytest.raises(InvalidData, match="where"):
            await storage.repository(orders).list(where=where)


@pytest.mark.filterwarnings("ignore:Invoking .*without arguments")
@pytest.mark.parametrize("where", [lambda c: and_(*[]), lambda c: (c.eps == 1) & or_(*[])])
async def test_nothing_joined_is_no_condition(where: Callable[[Any], Any]) -> None:
    async with Storage.in_memory(models=[fundamentals]) as storage:
        with pytest.raises(InvalidData, match=r"joins no|no condition"):
            await storage.repository(fundamentals).list(where=where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (lambda c: c.figure == np.float32(0.1), "float"),
        (lambda c: c.figure == np.uint64(2**64 - 1), "float"),
        (lambda c: c.figure.in_([0.0, 1.0]), "two signs"),
        (lambda c: c.share < Decimal("1E+37"), "digits"),
        (lambda c: c.share < Decimal("1E-37"), "digits"),
    ],
)
async def test_what_the_engine_would_answer_otherwise_is_refused(
    where: Callable[[Any], Any], message: str
) -> None:
    async with Storage.in_memory(models=[readings]) as storage:
        with pytest.raises(InvalidData, match=message):
            await storage.repository(readings).list(where=where)


async def test_nan_is_neither_between_nor_not_between() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    async with Storage.in_memory(models=[readings]) as storage:
        async with storage.unit_of_work() as uow:
            await uow.repository(readings).save(Reading(moment, float("nan")))
            await uow.commit()
        table = storage.repository(readings)
        assert await table.list(where=lambda c: ~c.figure.between(1, 2)) == []
        assert await table.list(where=lambda c: c.figure.between(1, 2)) == []


SCHEMA = pa.schema(
    [
        pa.field("at", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("day", pa.date32(), nullable=False),
        pa.field("figure", pa.float64(), nullable=False),
        pa.field("price", pa.decimal128(18, 4), nullable=False),
        pa.field("name", pa.string(), nullable=False),
    ]
)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
GIVEN = {"at": [MOMENT], "day": [DAY], "figure": [1.5], "price": [Decimal(2)], "name": ["A"]}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("at", [pd.Timestamp("2026-01-01T00:00:00.123000789", tz="UTC")]),
        ("at", [datetime(2026, 1, 1)]),
        ("day", [datetime(2026, 1, 1, 5)]),
        ("figure", [True]),
        ("figure", [np.uint64(2**64 - 1)]),
        ("figure", [2**53 + 1]),
        ("price", [1.5]),
        ("price", [None]),
        ("price", np.array([10**16])),
        ("name", [b"A"]),
    ],
)
def test_columns_by_name_are_refused_rather_than_changed(column: str, values: Any) -> None:
    with pytest.raises(InvalidData, match=column):
        as_columns({**GIVEN, column: values}, SCHEMA, "columns")


def test_columns_by_name_of_every_form_are_taken() -> None:
    expected = as_columns(GIVEN, SCHEMA, "columns")
    for given in (
        {**GIVEN, "price": [2]},
        {**GIVEN, "price": np.array([2])},
        {**GIVEN, "price": pd.Series([2])},
        {**GIVEN, "price": pa.array([2])},
        {**GIVEN, "figure": np.array([1.5])},
        {**GIVEN, "name": pd.Series(["A"])},
        {**GIVEN, "name": pa.array(["A"], pa.string_view())},
        {**GIVEN, "at": pd.Series([MOMENT])},
    ):
        assert as_columns(given, SCHEMA, "columns") == expected
    frame = pl.DataFrame({name: expected.column(name).to_pylist() for name in SCHEMA.names})
    frame = frame.with_columns(pl.col("price").cast(pl.Decimal(18, 4)))
    assert as_columns(frame, SCHEMA, "columns") == expected


async def test_a_polars_frame_of_ticks_is_appended() -> None:
    frame = pl.DataFrame(
        {"symbol": ["A"], "timestamp": [MOMENT], "price": [Decimal("1.5")], "size": [1]}
    ).with_columns(pl.col("size").cast(pl.UInt64))
    async with Storage.in_memory(models=[ticks]) as storage:
        async with storage.unit_of_work() as uow:
            await uow.repository(ticks).append(frame)
            await uow.commit()
        assert await storage.repository(ticks).list() == [Tick("A", MOMENT, Decimal("1.5"), 1)]


async def test_a_row_that_cannot_be_read_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async with Storage.in_memory(models=[fundamentals]) as storage:
        async with storage.unit_of_work() as uow:
            await uow.repository(fundamentals).save_many(
                [Fundamental("A", DAY, None), Fundamental("B", DAY, None)]
            )
            await uow.commit()
        table = storage.repository(fundamentals)
        real = fundamentals.mapper

        def picky(row: Any) -> Fundamental:
            if row["symbol"] == "A":
                raise ValueError("no such figure")
            return real.from_stored(row)

        fundamentals.mapper = Mapper(real.to_stored, picky)
        try:
            with caplog.at_level(logging.WARNING):
                assert [each.symbol for each in await table.list()] == ["B"]
            assert "A" in caplog.text
            with pytest.raises(InvalidData, match="no such figure"):
                await table.list(strict=True)
        finally:
            fundamentals.mapper = real


@pytest.mark.parametrize(
    "where",
    [
        lambda c: (c.symbol == "A") & ((c.eps == 1) != (c.eps == 2)),
        lambda c: (c.symbol == "A") & (c.eps is None),
        lambda c: (c.symbol == "A") | (c.eps is not None),
        lambda c: c.symbol.like("A"),
    ],
)
async def test_what_python_answers_itself_is_no_condition(where: Callable[[Any], Any]) -> None:
    async with Storage.in_memory(models=[fundamentals]) as storage:
        with pytest.raises(InvalidData, match="where"):
            await storage.repository(fundamentals).list(where=where)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("name", pa.array([b"\xff"]).view(pa.string())),
        ("name", pa.array([b"\xff"]).view(pa.string()).dictionary_encode()),
        ("name", "A"),
        ("name", {"A"}),
        ("name", 5),
        ("at", pa.array([datetime(2026, 1, 1)]).dictionary_encode()),
        ("at", pl.Series([1], dtype=pl.Int64).cast(pl.Datetime("ns", "UTC"))),
        ("figure", pa.array(["x"]).dictionary_encode()),
    ],
)
def test_columns_that_arrow_takes_as_they_are_are_checked(column: str, values: Any) -> None:
    with pytest.raises(InvalidData, match=column):
        as_columns({**GIVEN, column: values}, SCHEMA, "columns")


NULLABLE = pa.schema([field.with_nullable(True) for field in SCHEMA])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("price", pd.Series([2, pd.NA], dtype="Int64")),
        ("price", pd.Index([2, pd.NA], dtype="Int64")),
        ("price", pd.array([2, pd.NA], dtype="UInt8")),
        ("price", pd.Series([Decimal(2), pd.NA], dtype=object)),
        ("price", [Decimal(2), pd.NA]),
        ("name", pd.Series(["A", pd.NA], dtype="string")),
        ("name", pd.Series(["A", pd.NA], dtype=object)),
        ("name", ["A", pd.NA]),
        ("day", pd.Series([DAY, pd.NA], dtype=object)),
        ("at", pd.Series([pd.Timestamp(MOMENT), pd.NaT], dtype=object)),
        ("figure", pd.Series([1.5, pd.NA], dtype="Float64")),
        ("flag", pd.Series([True, pd.NA], dtype="boolean")),
        ("flag", pd.Series([True, pd.NA], dtype=object)),
    ],
)
def test_what_pandas_has_for_none_is_none_by_name_as_in_a_frame(column: str, values: Any) -> None:
    schema = pa.schema([*NULLABLE, pa.field("flag", pa.bool_())])
    one = pa.schema([schema.field(column)])
    made = as_columns({column: values}, one, "columns")
    values_of: dict[str, Any] = {**GIVEN, "flag": [True]}
    expected = values_of[column]
    assert made == as_columns({column: [*expected, None]}, one, "columns")
    assert made == as_columns(pd.DataFrame({column: values}), one, "columns")
    required = pa.schema([field.with_nullable(False) for field in one])
    with pytest.raises(InvalidData, match=column):
        as_columns({column: values}, required, "columns")


def test_dictionaries_and_nullable_columns_of_pandas_are_taken() -> None:
    expected = as_columns(GIVEN, SCHEMA, "columns")
    for given in (
        {**GIVEN, "name": pd.Series(["A"], dtype="category")},
        {**GIVEN, "price": pd.Series([2], dtype="Int64")},
        {**GIVEN, "price": pa.array([2]).dictionary_encode()},
        {**GIVEN, "name": pl.Series(["A"])},
        {**GIVEN, "name": pl.Series(["A"], dtype=pl.Categorical)},
    ):
        assert as_columns(given, SCHEMA, "columns") == expected
