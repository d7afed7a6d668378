"""Rows and columns come back as they went."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.columns import Columns
from jts_storage.errors import InvalidData
from jts_storage.relational import mappers

_signed = st.integers(-(2**63), 2**63 - 1)


@st.composite
def any_columns(draw: st.DrawFn) -> Columns:
    rows = draw(st.integers(0, 20))
    numbers = [
        np.array(draw(st.lists(_signed, min_size=rows, max_size=rows)), np.int64) for _ in range(5)
    ]
    volume = draw(st.lists(st.integers(0, 2**64 - 1), min_size=rows, max_size=rows))
    return Columns.of(numbers[0], numbers[1:], np.array(volume, np.uint64))


def same(one: Columns, other: Columns) -> bool:
    return all(map(np.array_equal, one, other)) and other.volume.dtype == np.uint64


@given(any_columns())
def test_columns_survive_postgresqls_binary_copy(columns: Columns) -> None:
    assert same(columns, mappers.from_copy(mappers.to_copy(columns)))


@given(any_columns())
def test_columns_survive_rows_of_integers(columns: Columns) -> None:
    rows = mappers.matrix(columns).tolist()
    assert same(columns, mappers.from_rows(rows, len(rows)))


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _json, max_size=4))
def test_json_survives(data: dict[str, Any]) -> None:
    assert mappers.from_json(mappers.to_json(data), "x") == data


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", '{"a": NaN}', '{"a": -Infinity}'])
def test_foreign_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidData, match="document x"):
        mappers.from_json(text, "x")


@given(st.datetimes(datetime(1900, 1, 1), datetime(2299, 12, 30), timezones=st.just(UTC)))
def test_moments_survive_sqlite(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    east = moment.astimezone(timezone(timedelta(hours=9)))
    assert mappers.moment(mappers.moment_text(east)) == moment
    assert checks.utc(mappers.moment(mappers.moment_text(moment)), "x") == moment


def test_sqlites_own_moments_are_utc() -> None:
    assert mappers.moment("2024-01-02 03:04:05") == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


@given(
    st.builds(
        SymbolBars,
        symbol=st.just("A"),
        trading_day=st.dates(),
        version=st.integers(0, 2**63 - 1),
        collection_started=st.just(True),
        is_complete=st.booleans(),
        bar_count=st.integers(0, 2**63 - 1),
        created_at=st.just(datetime(2024, 1, 2, tzinfo=UTC)),
        updated_at=st.just(datetime(2024, 1, 3, tzinfo=UTC)),
    )
)
def test_aggregates_come_back_as_their_constructor_made_them(bars: SymbolBars) -> None:
    row = (
        bars.symbol,
        bars.trading_day.isoformat(),
        bars.version,
        int(bars.collection_started),
        int(bars.is_complete),
        bars.bar_count,
        "2024-01-02 00:00:00.000",
        datetime(2024, 1, 3, tzinfo=UTC),
    )
    restored = mappers.symbol_bars(row)
    assert restored == bars
    assert all(getattr(restored, field.name) is not None for field in fields(SymbolBars))


def test_checkpoints_come_back_as_their_constructor_made_them() -> None:
    made = Checkpoint("x", {"a": [1]}, datetime(2024, 1, 2, tzinfo=UTC))
    assert mappers.checkpoint(("x", '{"a": [1]}', "2024-01-02 00:00:00")) == made


def test_the_copy_is_laid_out_as_postgresql_wants_it() -> None:
    """Signature, flags and no extension; a count of fields, then each with its size; an end."""
    column = np.array([1], np.int64)
    columns = Columns.of(column, [column + n for n in (1, 2, 3, 4)], np.array([6], np.uint64))
    header = b"PGCOPY\n\xff\r\n\x00" + bytes(4) + bytes(4)
    fields_ = [n.to_bytes(8, "big", signed=True) for n in (1, 2, 3, 4, 5, 6 - 2**63)]
    row = b"\x00\x06" + b"".join(b"\x00\x00\x00\x08" + field for field in fields_)
    assert mappers.to_copy(columns) == header + row + b"\xff\xff"


def test_json_is_written_as_it_is_and_without_what_json_has_not() -> None:
    assert mappers.to_json({"a": ["\u00fc", 1], "b": None}) == '{"a":["\u00fc",1],"b":null}'
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            mappers.to_json({"a": number})


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_foreign_json_is_told_with_its_place(text: str) -> None:
    with pytest.raises(InvalidData) as caught:
        mappers.from_json(text, "x")
    error = caught.value
    assert (error.document, error.field, error.value) == ("x", "checkpoint_data", text)


@pytest.mark.parametrize(
    ("given_", "kept"), [(0, 0), (1, 0), (999, 0), (123_000, 123_000), (123_456, 123_000)]
)
def test_moments_are_kept_to_the_millisecond(given_: int, kept: int) -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, given_, tzinfo=UTC)
    assert mappers.moment(moment) == moment.replace(microsecond=kept)
    assert mappers.moment(moment.isoformat()) == moment.replace(microsecond=kept)
