"""Whatever travels comes back as it was: errors, values, entities and conditions."""

from __future__ import annotations

import inspect
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from sqlalchemy import Column, Integer, MetaData, String, Table, and_, false, not_, or_, true

from jts_storage import errors
from jts_storage.errors import ConnectionFailed, InvalidData, QuotaExhausted, StorageError
from jts_storage.models.conditions import has_text
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote import conditions, problems, values
from jts_storage.remote.kinds import MEMBERS
from jts_storage.testing import factories

# A quota of rate limits is never asked for through a gateway.
KINDS = sorted(
    (kind for kind in problems.KINDS.values() if kind is not QuotaExhausted),
    key=lambda kind: kind.__name__,
)
TEXTS = st.text(max_size=50)
SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    TEXTS,
    st.binary(max_size=50),
    st.datetimes(timezones=st.just(UTC)).map(lambda each: each.replace(fold=0)),
    st.datetimes().map(lambda each: each.replace(fold=0)),
    st.dates(),
    st.timedeltas(timedelta(days=-(10**8)), timedelta(days=10**8)),
    st.sampled_from([member for kind in MEMBERS.values() for member in kind]),
)
ANY = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(TEXTS, inner, max_size=5),
    ),
    max_leaves=20,
)


def through(value: Any) -> Any:
    message = pb.Value()
    values.fill(message, value, "value")
    return values.read(pb.Value.FromString(message.SerializeToString()))


def same(found: Any, value: Any) -> bool:
    """Equal, of equal types, and written alike: `1 == True`, and `Decimal` has many zeros."""
    return type(found) is type(value) and found == value and repr(found) == repr(value)


@given(ANY)
def test_values(value: Any) -> None:
    assert same(through(value), value)


@given(st.frozensets(st.one_of(st.integers(), TEXTS, st.dates()), max_size=5))
def test_sets(value: frozenset[Any]) -> None:
    assert through(value) == value


def test_entities() -> None:
    for name, make in inspect.getmembers(factories, inspect.isfunction):
        if name in ENTITIES:
            entity = make(*ENTITIES[name])
            assert through(entity) == entity
            assert repr(through([entity] * 2)) == repr([entity] * 2)


ENTITIES: dict[str, tuple[Any, ...]] = {
    "make_backtest": (),
    "make_formula": ("f",),
    "make_strategy": (),
    "make_symbol": ("A",),
    "make_trade": (),
}


def test_all_entities_are_made() -> None:
    assert ENTITIES.keys() <= vars(factories).keys()


@given(
    st.sampled_from(KINDS),
    SHORT,
    st.one_of(st.none(), SHORT.filter(bool)),
    st.one_of(st.none(), st.integers(-(2**40), 2**40), SHORT),
    st.booleans(),
    st.booleans(),
)
def test_errors(
    kind: type[StorageError],
    message: str,
    remedy: str | None,
    code: int | str | None,
    transient: bool,
    repeatable: bool,
) -> None:
    error = kind(message, remedy=remedy)
    error.code, error.transient, error.repeatable = code, transient, repeatable
    assert_same(back(error), error)


@given(
    SHORT,
    st.one_of(st.none(), SHORT.filter(bool)),
    PLAIN,
    st.one_of(st.none(), st.integers(0, 2**40)),
    st.one_of(st.none(), SHORT.filter(bool)),
)
def test_refusals(
    message: str, field: str | None, value: Any, row: int | None, document: str | None
) -> None:
    error = InvalidData(message, field=field, value=value, row=row, document=document)
    found = back(error)
    assert_same(found, error)
    assert isinstance(found, InvalidData)
    assert (found.field, found.row, found.document) == (field, row, document)
    assert same(found.value, value)


@given(st.lists(SHORT, max_size=5))
def test_hosts(hosts: list[str]) -> None:
    for kind in KINDS:
        if issubclass(kind, ConnectionFailed):
            found = back(kind("away", hosts=hosts))
            assert isinstance(found, ConnectionFailed)
            assert found.hosts == tuple(hosts)


def back(error: StorageError) -> StorageError:
    message = problems.problem_of(error)
    return problems.error_of(pb.Problem.FromString(message.SerializeToString()))


def assert_same(found: StorageError, error: StorageError) -> None:
    assert type(found) is type(error)
    assert str(found) == str(error)
    names = ("remedy", "code", "transient", "repeatable", "args")
    assert [getattr(found, n) for n in names] == [getattr(error, n) for n in names]


def test_all_errors_travel() -> None:
    known = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, StorageError)
    }
    assert set(problems.KINDS.values()) == known


LARGE = ("x" * 10**6, b"x" * 10**6, list(range(10**5)), object(), 10**5000)


@pytest.mark.parametrize("value", LARGE, ids=["text", "bytes", "list", "object", "number"])
def test_a_large_value_of_a_refusal_is_shortened(value: Any) -> None:
    error = InvalidData("is too much", field="f", value=value, remedy="y" * 10**5)
    data = problems.problem_of(error).SerializeToString()
    assert len(data) < 8_000
    assert isinstance(problems.error_of(pb.Problem.FromString(data)), InvalidData)


TABLE = Table("t", MetaData(), Column("a", Integer), Column("b", Integer), Column("s", String))
NUMBERS = st.integers(-(2**40), 2**40)
LEAVES = st.one_of(
    st.builds(lambda n: TABLE.c.a == n, NUMBERS),
    st.builds(lambda n: TABLE.c.a != n, NUMBERS),
    st.builds(lambda n: TABLE.c.a < n, NUMBERS),
    st.builds(lambda n: TABLE.c.a >= n, NUMBERS),
    st.builds(lambda n: TABLE.c.a.in_(n), st.lists(NUMBERS, max_size=4)),
    st.builds(lambda n: TABLE.c.a.not_in(n), st.lists(NUMBERS, max_size=4)),
    st.builds(lambda n, m: TABLE.c.a.between(n, m), NUMBERS, NUMBERS),
    st.builds(lambda n, m: ~TABLE.c.a.between(n, m), NUMBERS, NUMBERS),
    st.builds(lambda text: has_text(TABLE.c.s, text), SHORT),
    st.just(TABLE.c.a.is_(None)),
    st.just(TABLE.c.s.is_not(None)),
    st.just(TABLE.c.a < TABLE.c.b),
    st.just(true()),
    st.just(false()),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(and_, inner, inner), st.builds(or_, inner, inner), st.builds(not_, inner)
    ),
    max_leaves=8,
)


@given(CONDITIONS)
def test_conditions(condition: Any) -> None:
    text = through(conditions.written(condition))
    found = conditions.read(text, TABLE)
    assert found is not None
    again = conditions.written(found)
    if "none" not in str(text) and "all" not in str(text):  # these two swallow others
        assert again == text
    # SQLAlchemy leaves out what changes nothing, a little more each time it is read.
    for _ in range(10):
        before, again = again, conditions.written(conditions.read(through(again), TABLE))
    assert again == before


@given(ANY)
def test_no_condition(value: Any) -> None:
    """Anything that is none is refused as such."""
    with suppress(InvalidData):
        conditions.read(value, TABLE)


def test_times() -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    for value in (moment, date.min, date.max, Decimal("1.10"), Decimal("-0E+5")):
        assert same(through(value), value)
    for span in (timedelta.min, timedelta.max):
        with pytest.raises(InvalidData, match="is out of range"):
            through(span)
