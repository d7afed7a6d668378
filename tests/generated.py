"""Generated declarations of tables, rows for them, and conditions on these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from typing import Any

from clickhouse_sqlalchemy import types
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, Date, Float, MetaData, Table, Text, and_, or_

from jts_storage.models import Exact, Mapper, Moment, RecordModel, TableModel

_numbers = count()


@dataclass(frozen=True)
class Row:
    """An entity of whatever columns its table has."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """A type of columns with values that it can hold.

    :param sorts: whether rows are sorted by it.
    """

    type: Any
    values: st.SearchStrategy[Any]
    sorts: bool = True


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    return st.integers(-most, most).map(lambda n: Decimal(f"{n}E-{scale}"))


def moments(digits: int, last: datetime) -> st.SearchStrategy[datetime]:
    step = 10 ** (6 - digits)
    given = st.datetimes(datetime(1900, 1, 1), last, timezones=st.just(UTC))
    return given.map(lambda m: m.replace(microsecond=m.microsecond // step * step))


def whole(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    return (
        st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if signed
        else st.integers(0, 2**bits - 1)
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_LAST = datetime(2299, 12, 31, 23, 59, 59, 999_999)
CLICKHOUSE: Mapping[str, Kind] = {
    **{f"i{n}": Kind(getattr(types, f"Int{n}"), whole(n, signed=True)) for n in (8, 16, 32, 64)},
    **{f"u{n}": Kind(getattr(types, f"UInt{n}"), whole(n, signed=False)) for n in (8, 16, 32, 64)},
    "f32": Kind(types.Float32, st.floats(width=32), sorts=False),
    "f64": Kind(types.Float64, st.floats(), sorts=False),
    "flag": Kind(types.Boolean, st.booleans(), sorts=False),
    "text": Kind(types.String, TEXTS),
    "d9": Kind(types.Decimal(9, 2), decimals(9, 2)),
    "d18": Kind(types.Decimal(18, 4), decimals(18, 4)),
    "d38": Kind(types.Decimal(38, 10), decimals(38, 10)),
    "day": Kind(types.Date, st.dates(date(1970, 1, 1), date(2149, 6, 6))),
    "day32": Kind(types.Date32, st.dates(date(1900, 1, 1), date(2299, 12, 31))),
    "ms": Kind(types.DateTime64(3, "UTC"), moments(3, _LAST)),
    "us": Kind(types.DateTime64(6, "UTC"), moments(6, _LAST)),
    "ns": Kind(types.DateTime64(9, "UTC"), st.integers(-(10**18), 9 * 10**18)),
}
RECORDS: Mapping[str, Kind] = {
    "i64": Kind(BigInteger, whole(64, signed=True)),
    # SQLite keeps no sign of zero.
    "f64": Kind(
        Float,
        st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0),
        sorts=False,
    ),
    "flag": Kind(Boolean, st.booleans(), sorts=False),
    # PostgreSQL has no NUL, and sorts by its locale.
    "text": Kind(Text, st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), max_size=8)),
    "d4": Kind(Exact(18, 4), decimals(18, 4)),
    "d0": Kind(Exact(9, 0), decimals(9, 0)),
    "day": Kind(Date, st.dates(date(1900, 1, 1), date(2299, 12, 31))),
    "ms": Kind(Moment, moments(3, _LAST)),
}


@dataclass(frozen=True)
class Declared:
    """A generated model with rows, and a condition on its columns."""

    model: Any
    rows: Sequence[Row]
    where: Callable[[Any], Any]

    def __repr__(self) -> str:
        condition = self.where(self.model.table.c)
        shown = condition.compile(compile_kwargs={"literal_binds": False})
        columns = {column.name: column.type for column in self.model.table.columns}
        return f"{self.model} {columns} {list(self.rows)} WHERE {shown} {shown.params}"


@st.composite
def tables(draw: st.DrawFn) -> Declared:
    """A table of ClickHouse."""
    kinds, keys, nullable = draw(_columns(CLICKHOUSE))
    mode: Any = draw(st.sampled_from(["append", "upsert"]))
    columns = [
        Column(name, types.Nullable(kind.type) if name in nullable else kind.type)
        for name, kind in kinds.items()
    ]
    table = (
        Table(
            f"generated_{next(_numbers)}",
            MetaData(),
            *columns,
            Column("version", types.UInt64),
            Column("is_deleted", types.UInt8),
        )
        if mode == "upsert"
        else Table(
            f"generated_{next(_numbers)}", MetaData(), *columns, Column("version", types.UInt64)
        )
    )
    rows = draw(_rows(kinds, keys, nullable))
    model = TableModel(Row, table, _MAPPER, mode=mode, key=keys, examples=[_tried(rows[0])])
    return Declared(model, rows, draw(_conditions(kinds, rows)))


@st.composite
def records(draw: st.DrawFn) -> Declared:
    """A table of the bookkeeping database."""
    kinds, keys, nullable = draw(_columns(RECORDS))
    table = Table(
        f"generated_{next(_numbers)}",
        MetaData(),
        *(
            Column(name, kind.type, primary_key=name in keys, nullable=name in nullable)
            for name, kind in kinds.items()
        ),
        Column("version", BigInteger, nullable=False),
    )
    rows = [
        Row({**row.values, "version": number % 3 + 1})
        for number, row in enumerate(draw(_rows(kinds, keys, nullable)))
    ]
    model = RecordModel(Row, table, _MAPPER, key=keys, examples=[_tried(rows[0])])
    return Declared(model, rows, draw(_conditions(kinds, rows)))


_MAPPER: Mapper[Row, Any] = Mapper(lambda row: row.values, lambda row: Row(dict(row)))


def _tried(row: Row) -> Row:
    """A declaration is tried with values that equal themselves, which NaN does not."""
    return Row({name: 0.0 if value != value else value for name, value in row.values.items()})


@st.composite
def _columns(
    draw: st.DrawFn, known: Mapping[str, Kind]
) -> tuple[dict[str, Kind], list[str], set[str]]:
    """Columns, those of the key first, and which of the others may be empty."""
    names = [name for name, kind in known.items() if kind.sorts]
    keys = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    others = draw(st.lists(st.sampled_from([*known]), max_size=5))
    kinds = {f"k_{name}": known[name] for name in keys}
    kinds |= {f"c{number}_{name}": known[name] for number, name in enumerate(others)}
    optional = [name for name in kinds if name.startswith("c")]
    nullable = set(draw(st.lists(st.sampled_from(optional)))) if optional else set()
    return kinds, [f"k_{name}" for name in keys], nullable


@st.composite
def _rows(
    draw: st.DrawFn, kinds: Mapping[str, Kind], keys: Sequence[str], nullable: set[str]
) -> list[Row]:
    values = {
        name: st.none() | kind.values if name in nullable else kind.values
        for name, kind in kinds.items()
    }
    found = st.lists(
        st.fixed_dictionaries(values),
        min_size=1,
        max_size=8,
        unique_by=lambda row: tuple(row[name] for name in keys),
    )
    return [Row(row) for row in draw(found)]


def _conditions(
    kinds: Mapping[str, Kind], rows: Sequence[Row]
) -> st.SearchStrategy[Callable[[Any], Any]]:
    """Conditions with values that are there, and others."""
    comparisons = st.sampled_from([*kinds]).flatmap(lambda name: _comparison(name, kinds, rows))

    def joined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        pairs = st.tuples(inner, inner)
        return (
            pairs.map(lambda two: lambda c: and_(two[0](c), two[1](c)))
            | pairs.map(lambda two: lambda c: or_(two[0](c), two[1](c)))
            | inner.map(lambda one: lambda c: ~one(c))
        )

    return st.recursive(comparisons, joined, max_leaves=4)


def _comparison(
    name: str, kinds: Mapping[str, Kind], rows: Sequence[Row]
) -> st.SearchStrategy[Callable[[Any], Any]]:
    kind = kinds[name]
    there = [row.values[name] for row in rows if _compares(row.values[name])]
    values = kind.values.filter(_compares)
    values = st.sampled_from(there) | values if there else values
    alike = [other for other, its in kinds.items() if its is kind]
    is_flag = kind.type in (types.Boolean, Boolean)
    operators = ["__eq__", "__ne__", *([] if is_flag else ["__lt__", "__le__", "__gt__", "__ge__"])]
    # Zero, which has two signs, is refused among floats.
    several = st.lists(values.filter(lambda value: repr(value) not in ("0.0", "-0.0")), max_size=3)
    found = [
        st.tuples(st.sampled_from(operators), values).map(
            lambda two: lambda c: getattr(c[name], two[0])(two[1])
        ),
        st.tuples(st.sampled_from(operators), st.sampled_from(alike)).map(
            lambda two: lambda c: getattr(c[name], two[0])(c[two[1]])
        ),
        several.map(lambda listed: lambda c: c[name].in_(listed)),
        several.map(lambda listed: lambda c: c[name].not_in(listed)),
        st.booleans().map(
            lambda is_it: lambda c: c[name].is_(None) if is_it else c[name].is_not(None)
        ),
    ]
    if not is_flag:
        found.append(st.tuples(values, values).map(lambda two: lambda c: c[name].between(*two)))
    return st.one_of(found)


def _compares(value: Any) -> bool:
    return value is not None and value == value  # NaN is refused
