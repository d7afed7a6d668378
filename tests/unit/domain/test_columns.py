from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain import checks
from jts_storage.domain.columns import (
    BLOCK,
    NAMES,
    Columns,
    blocks,
    checked,
    concatenate,
    empty,
    in_order,
    owner_of,
)
from jts_storage.errors import InvalidData

FIRST = checks.to_ms(checks.FIRST_TIMESTAMP)
LAST = checks.to_ms(checks.LAST_TIMESTAMP)


def columns(rows: int = 3, **changed: Any) -> Columns:
    values: dict[str, Any] = {
        "timestamp": np.arange(rows, dtype=np.int64),
        "open": np.full(rows, 11, np.int64),
        "high": np.full(rows, 13, np.int64),
        "low": np.full(rows, 10, np.int64),
        "close": np.full(rows, 12, np.int64),
        "volume": np.ones(rows, np.uint64),
    }
    return Columns(**values | changed)


def with_value(rows: int, name: str, row: int, value: int) -> Columns:
    made = columns(rows)
    getattr(made, name)[row] = value
    return made


def test_blocks_cover_every_row_once() -> None:
    rows = 2 * BLOCK + 1
    covered = [row for block in blocks(rows) for row in range(rows)[block]]
    assert covered == list(range(rows))
    assert list(blocks(0)) == []


def test_nothing_is_six_columns_that_cannot_be_written() -> None:
    assert [len(column) for column in empty()] == [0] * 6
    assert not any(column.flags.writeable for column in empty())
    assert empty().volume.dtype == np.uint64
    assert concatenate([]).rows == 0


def test_what_is_frozen_is_not_copied_and_cannot_be_thawed() -> None:
    given = columns()
    frozen = given.take(slice(1, None, 2)).frozen()
    assert all(map(np.shares_memory, frozen, given))
    assert all(owner_of(column) is owner for column, owner in zip(frozen, given, strict=True))
    assert frozen.frozen() == frozen
    for column in (*frozen, frozen.close[1:]):
        with pytest.raises(ValueError, match="WRITEABLE"):
            column.flags.writeable = True


def test_possible_rows_pass_unchanged() -> None:
    given = columns()
    assert checked(given) is given
    assert checked(empty()).rows == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestamp", FIRST),
        ("timestamp", LAST),
        ("volume", 2**64 - 1),
        ("low", 1 - 10**18),
        ("high", 10**18 - 1),
        ("high", 12),
        ("low", 11),
        *[(name, edge) for name in ("open", "close") for edge in (10, 13)],
    ],
)
def test_values_on_the_edge_are_possible(name: str, value: int) -> None:
    assert checked(with_value(3, name, 1, value))


@pytest.mark.parametrize("row", [0, 2, BLOCK - 1, BLOCK, BLOCK + 7])
@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("timestamp", FIRST - 1, "timestamp"),
        ("timestamp", LAST + 1, "timestamp"),
        ("timestamp", -(2**63), "timestamp"),
        ("low", -(10**18), "low"),
        ("low", -(2**63), "low"),
        ("high", 10**18, "high"),
        ("open", 9, "open"),
        ("open", 14, "open"),
        ("close", 9, "close"),
        ("close", 14, "close"),
        ("open", 10**18, "open"),
        ("close", -(10**18), "close"),
        ("high", 9, "high"),
    ],
)
def test_an_impossible_row_is_named(name: str, value: int, field: str, row: int) -> None:
    with pytest.raises(InvalidData) as caught:
        checked(with_value(BLOCK + 8, name, row, value))
    assert (caught.value.field, caught.value.row) == (field, row)


def test_the_first_impossible_row_is_named() -> None:
    given = with_value(BLOCK * 2, "open", BLOCK + 5, 14)
    given.close[BLOCK + 2] = 14
    with pytest.raises(InvalidData, match=r"row 32770, field 'close': must lie between low 0.0010"):
        checked(given)


def test_a_high_below_the_low_is_told_so() -> None:
    with pytest.raises(InvalidData, match=r"field 'high': must not be below low 0\.0010, got"):
        checked(with_value(3, "high", 1, 9))


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidData, match="differ in length"):
        checked(columns(3, volume=np.ones(2, np.uint64)))


def test_sorted_columns_are_handed_back() -> None:
    given = columns()
    ordered, duplicates = in_order(given)
    assert (ordered is given, duplicates) == (True, 0)


@given(st.lists(st.integers(0, 20), max_size=40))
def test_rows_are_sorted_and_the_last_of_equal_timestamps_stays(stamps: list[int]) -> None:
    rows = len(stamps)
    given = columns(
        rows, timestamp=np.array(stamps, np.int64), volume=np.arange(rows, dtype=np.uint64)
    )
    ordered, duplicates = in_order(given)
    model = dict(zip(stamps, range(rows), strict=True))
    assert ordered.timestamp.tolist() == sorted(model)
    assert ordered.volume.tolist() == [model[stamp] for stamp in sorted(model)]
    assert duplicates == rows - len(model)


def test_parts_are_put_end_to_end() -> None:
    joined = concatenate([columns(2), empty(), columns(3)])
    assert joined.timestamp.tolist() == [0, 1, 0, 1, 2]
    assert [column.dtype for column in joined] == [np.int64] * 5 + [np.uint64]
    assert joined._fields == NAMES
