"""Every type of a declared column comes back as it was given, or is refused before the commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_sqlalchemy import types as t
from sqlalchemy import Column, MetaData, Table

from jts_storage import Mapper, Storage, StorageSettings, TableModel
from jts_storage.backend import StoreBackend
from jts_storage.errors import InvalidData
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.testing.factories import make_formula

LAST = datetime(2299, 12, 31, 23, 59, 59, 999_999, UTC)
COLUMNS: dict[str, tuple[Any, Any, Any]] = {
    "i8": (t.Int8, -(2**7), 2**7 - 1),
    "i16": (t.Int16, -(2**15), 2**15 - 1),
    "i32": (t.Int32, -(2**31), 2**31 - 1),
    "i64": (t.Int64, -(2**63), 2**63 - 1),
    "u8": (t.UInt8, 0, 2**8 - 1),
    "u16": (t.UInt16, 0, 2**16 - 1),
    "u32": (t.UInt32, 0, 2**32 - 1),
    "u64": (t.UInt64, 0, 2**64 - 1),
    "f64": (t.Float64, -1e300, 0.1),
    "flag": (t.Boolean, False, True),
    "text": (t.String, "", "가' \\ % \n \x00"),
    "word": (t.LowCardinality(t.String), "a", "나"),
    "d9": (t.Decimal(9, 2), Decimal("-9999999.99"), Decimal("71200.50")),
    "d10": (t.Decimal(10, 2), Decimal("-99999999.99"), Decimal(10**8 - 1)),
    "d18": (t.Decimal(18, 4), Decimal("-99999999999999.9999"), Decimal("0.0001")),
    "d38": (t.Decimal(38, 10), Decimal("-9999999999999999999999999999.9999999999"), Decimal(1)),
    "day": (t.Date, date(1970, 1, 1), date(2149, 6, 6)),
    "day32": (t.Date32, date(1900, 1, 1), date(2299, 12, 31)),
    "ms": (
        t.DateTime64(3, "UTC"),
        datetime(1900, 1, 1, tzinfo=UTC),
        datetime(2299, 12, 31, 23, 59, 59, 999000, UTC),
    ),
    "us": (
        t.DateTime64(6, "UTC"),
        datetime(1900, 1, 1, 0, 0, 0, 1, UTC),
        datetime(2299, 12, 31, 23, 59, 59, 999999, UTC),
    ),
    "ns": (t.DateTime64(9, "UTC"), -1, 1_790_000_000_000_000_001),
    "maybe": (t.Nullable(t.Decimal(18, 4)), None, Decimal("1.5")),
    "perhaps": (t.Nullable(t.String), None, "x"),
    "f32": (t.Float32, -(2.0**127), float(np.float32(0.1))),
    "maybe_f32": (t.Nullable(t.Float32), None, 0.5),
    "maybe_f64": (t.Nullable(t.Float64), None, 0.1),
    "maybe_flag": (t.Nullable(t.Boolean), None, True),
    "maybe_u64": (t.Nullable(t.UInt64), None, 2**64 - 1),
    "maybe_i8": (t.Nullable(t.Int8), None, -(2**7)),
    "maybe_d38": (t.Nullable(t.Decimal(38, 10)), None, Decimal("-0.0000000001")),
    "maybe_day": (t.Nullable(t.Date32), None, date(2299, 12, 31)),
    "maybe_word": (t.LowCardinality(t.Nullable(t.String)), None, "가"),
    "maybe_ms": (t.Nullable(t.DateTime64(3, "UTC")), None, LAST.replace(microsecond=999_000)),
    "maybe_us": (t.Nullable(t.DateTime64(6, "UTC")), None, LAST),
    "maybe_ns": (t.Nullable(t.DateTime64(9, "UTC")), None, 1_790_000_000_000_000_001),
}


@dataclass(frozen=True)
class Wide:
    i8: int
    i16: int
    i32: int
    i64: int
    u8: int
    u16: int
    u32: int
    u64: int
    f64: float
    flag: bool
    text: str
    word: str
    d9: Decimal
    d10: Decimal
    d18: Decimal
    d38: Decimal
    day: date
    day32: date
    ms: datetime
    us: datetime
    ns: int
    maybe: Decimal | None
    perhaps: str | None
    f32: float
    maybe_f32: float | None
    maybe_f64: float | None
    maybe_flag: bool | None
    maybe_u64: int | None
    maybe_i8: int | None
    maybe_d38: Decimal | None
    maybe_day: date | None
    maybe_word: str | None
    maybe_ms: datetime | None
    maybe_us: datetime | None
    maybe_ns: int | None


LEAST = Wide(**{name: values[1] for name, values in COLUMNS.items()})
MOST = Wide(**{name: values[2] for name, values in COLUMNS.items()})

table = Table(
    "wide",
    MetaData(),
    *(Column(name, values[0]) for name, values in COLUMNS.items()),
    Column("version", t.UInt64),
)


def to_row(wide: Wide) -> dict[str, Any]:
    return {field.name: getattr(wide, field.name) for field in fields(wide)}


def from_row(row: Any) -> Wide:
    return Wide(**row)


wides = TableModel(
    Wide, table, Mapper(to_row, from_row), mode="append", key=("i8",), examples=[LEAST, MOST]
)


@pytest.fixture(params=["stored", "in memory"])
async def storage(
    request: pytest.FixtureRequest, settings: StorageSettings
) -> AsyncIterator[Storage]:
    is_real = request.param == "stored"
    made = StoreBackend(settings, models=[wides]) if is_real else InMemoryBackend(models=[wides])
    async with Storage(made) as storage:
        yield storage


@pytest.mark.parametrize("is_journalled", [False, True])
async def test_the_ends_of_every_type_come_back(storage: Storage, is_journalled: bool) -> None:
    async with storage.unit_of_work() as uow:
        await uow.repository(wides).append([LEAST, MOST])
        if is_journalled:
            await uow.formulas.save(make_formula())
        await uow.commit()
    found = await storage.repository(wides).list()
    for field in fields(Wide):
        assert [getattr(each, field.name) for each in found] == [
            getattr(LEAST, field.name),
            getattr(MOST, field.name),
        ], field.name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, None) for name, (_, least, _) in COLUMNS.items() if least is not None),
        ("i8", 128),
        ("u64", -1),
        ("d9", Decimal("10000000")),
        ("d9", Decimal("0.001")),
        ("d38", Decimal(10**28)),
        ("day", date(1969, 12, 31)),
        ("day", date(2149, 6, 7)),
        ("day32", date(1899, 12, 31)),
        ("day", datetime(2026, 1, 1, tzinfo=UTC)),
        ("ms", datetime(1899, 12, 31, tzinfo=UTC)),
        ("ms", datetime(2026, 1, 1, 0, 0, 0, 1, UTC)),
        ("us", datetime(1899, 12, 31, tzinfo=UTC)),
        ("us", datetime(2026, 1, 1)),
        ("ns", 2**63 - 1),
        ("ns", datetime(2026, 1, 1, tzinfo=UTC)),
        ("flag", "yes"),
        ("text", "\ud800"),
        ("text", b"x"),
        ("f32", 0.1),
        ("f32", 1e300),
        ("f32", 2**24 + 1),
        ("f32", "1"),
        ("f32", Decimal("0.1")),
        ("f64", Decimal("0.1")),
        ("f64", 2**53 + 1),
        ("f64", True),
        ("maybe_f32", 0.1),
        ("maybe_ms", datetime(2026, 1, 1, 0, 0, 0, 1, UTC)),
        ("maybe_ms", datetime(2026, 1, 1)),
        ("maybe_us", datetime(1899, 12, 31, tzinfo=UTC)),
        ("maybe_ns", 2**63 - 1),
    ],
)
def test_what_a_column_cannot_hold_is_refused_where_it_is_given(name: str, value: Any) -> None:
    with pytest.raises(InvalidData, match=name):
        wides.to_columns([LEAST, replace(MOST, **{name: value})])


async def test_columns_are_held_to_the_same_limits(storage: Storage) -> None:
    columns = wides.to_columns([LEAST, MOST])
    late = columns.column("day").cast("int32").to_pylist()
    place = columns.column_names.index("day")
    spoiled = columns.set_column(place, "day", pa.array([late[0], late[1] + 1], pa.date32()))
    async with storage.unit_of_work() as uow:
        with pytest.raises(InvalidData, match="day"):
            await uow.repository(wides).append(spoiled)


async def test_a_float_of_64_bits_is_not_rounded_to_one_of_32(storage: Storage) -> None:
    columns = wides.to_columns([LEAST, MOST])
    place = columns.column_names.index("f32")
    doubles = columns.set_column(place, "f32", pa.array([float("nan"), 0.5], pa.float64()))
    spoiled = columns.set_column(place, "f32", pa.array([0.5, 0.1], pa.float64()))
    async with storage.unit_of_work() as uow:
        with pytest.raises(InvalidData, match=r"f32.*32 bits"):
            await uow.repository(wides).append(spoiled)
        await uow.repository(wides).append(doubles)
        await uow.commit()
    assert str((await storage.repository(wides).list())[0].f32) == "nan"


async def test_a_stream_is_as_exact_as_a_read(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.repository(wides).append([LEAST, MOST])
        await uow.commit()
    blocks = [block async for block in storage.repository(wides).stream(block_rows=1)]
    assert [block.num_rows for block in blocks] == [1, 1]
    assert pa.concat_tables(blocks) == wides.to_columns([LEAST, MOST])
    assert pa.concat_tables(blocks) == await storage.repository(wides).read()


async def test_columns_go_through_parquet_as_they_are(storage: Storage, tmp_path: Path) -> None:
    """A service's export gives back what it was given, nanoseconds and None among it."""
    async with storage.unit_of_work() as uow:
        await uow.repository(wides).append([LEAST, MOST])
        await uow.commit()
    pq.write_table(await storage.repository(wides).read(), tmp_path / "wide.parquet")
    async with storage.unit_of_work() as uow:
        await uow.repository(wides).append(pq.read_table(tmp_path / "wide.parquet"))
        await uow.commit()
    assert await storage.repository(wides).list() == [LEAST, LEAST, MOST, MOST]


async def test_times_of_nanoseconds_are_compared_as_the_numbers_they_are(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        await uow.repository(wides).append([LEAST, MOST])
        await uow.commit()
    for name in ("ns", "maybe_ns"):
        last = getattr(MOST, name)
        for found in (
            lambda c, name=name, last=last: c[name] == last,
            lambda c, name=name, last=last: c[name].in_([last, 5]),
            lambda c, name=name, last=last: c[name].between(last, last + 1),
            lambda c, name=name, last=last: (c[name] > last - 1) & (c[name] != 9_223_372_037),
        ):
            assert await storage.repository(wides).list(where=found) == [MOST], name
