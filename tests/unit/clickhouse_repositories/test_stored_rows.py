"""Rows as they lie, and which of them count now and as of a version, beside a plain reading."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.clickhouse.past_rows import counted
from jts_storage.clickhouse.stored_rows import columns_of, of_one
from jts_storage.clickhouse.unmerged import without_deleted
from jts_storage.domain.checks import FIRST_MS
from jts_storage.domain.columns import PRICES, Columns


class Row(NamedTuple):
    minute: int
    version: int
    since: int
    is_deleted: bool
    value: int


def rows(least_version: int = 1) -> st.SearchStrategy[list[Row]]:
    """In any order, each with a version of its own."""
    row = st.builds(
        Row,
        minute=st.integers(0, 6),
        version=st.integers(least_version, 20),
        since=st.sampled_from((0, 0, 1, 3)),
        is_deleted=st.booleans(),
        value=st.integers(0, 999),
    )
    return st.lists(row, max_size=14, unique_by=lambda each: each.version)


def found(lying: list[Row]) -> dict[str, Any]:
    if not lying:
        return {}
    value = np.array([row.value for row in lying])
    return {
        "ms": FIRST_MS + np.array([row.minute for row in lying]) * 60_000,
        "version": np.array([row.version for row in lying], np.uint64),
        "since": np.array([row.since for row in lying], np.uint64),
        "deleted": np.array([row.is_deleted for row in lying], np.uint8),
        "volume": value.astype(np.uint64),
        **{f"{price}_": value for price in PRICES},
    }


def values(columns: Columns) -> dict[int, int]:
    minutes = ((columns.timestamp - FIRST_MS) // 60_000).tolist()
    assert minutes == sorted(set(minutes))
    assert all((column == columns.open).all() for column in columns[2:])
    return dict(zip(minutes, columns.open.tolist(), strict=True))


@given(rows())
def test_the_latest_row_of_a_time_counts_unless_it_is_deleted(lying: list[Row]) -> None:
    latest = {row.minute: row for row in sorted(lying, key=lambda row: row.version)}
    expected = {minute: row.value for minute, row in latest.items() if not row.is_deleted}
    assert values(of_one(found(lying)).present) == expected


def by_time(lying: list[Row], version: int) -> dict[str, Any]:
    """As the engine gives them for a version."""
    columns = found(sorted(lying, key=lambda row: row.minute))
    gone = [
        row.is_deleted or (row.since or row.version) > version
        for row in sorted(lying, key=lambda row: row.minute)
    ]
    return columns | {"deleted": np.array(gone, np.uint8)}


@given(rows(), rows(least_version=8), st.integers(0, 20))
def test_as_of_a_version_the_later_of_a_present_and_a_former_row_counts(
    lying: list[Row], replaced: list[Row], version: int
) -> None:
    former = {row.minute: (min(row.since or 1, version), row.value) for row in replaced}
    latest = {row.minute: row for row in sorted(lying, key=lambda row: row.version)}
    counting = {
        minute: row.value
        for minute, row in latest.items()
        if not row.is_deleted and (row.since or row.version) <= version
    }
    is_open = any(
        minute not in latest or (minute in counting and counting[minute] != value)
        for minute, (_, value) in former.items()
    )
    columns = found([row for row in replaced if former[row.minute][1] == row.value])
    past = columns and columns | {
        "begins": np.array([former[(ms - FIRST_MS) // 60_000][0] for ms in columns["ms"].tolist()])
    }
    places = [each["ms"] if each else np.zeros(0, np.int64) for each in (found(lying), past)]
    was = counted(np.sort(places[0]), by_time(lying, version), places[1], past) if lying else None
    if was is None:
        assert is_open or not lying  # the engine is asked
        return
    assert not is_open
    given_back = values(columns_of(without_deleted(was)))
    assert given_back == counting | {minute: value for minute, (_, value) in former.items()}


def test_of_two_former_rows_of_a_time_that_which_began_later_counts() -> None:
    lying = by_time([Row(1, 9, 0, True, 5), Row(2, 3, 0, False, 6)], 7)
    former = found([Row(1, 9, 0, False, value) for value in (40, 60, 50)])
    former["begins"] = np.array([2, 6, 4], np.uint64)
    was = counted(lying["ms"], lying, former["ms"], former)
    assert was is not None and values(columns_of(without_deleted(was))) == {1: 60, 2: 6}


def test_rows_that_are_not_in_order_are_not_told() -> None:
    lying = by_time([Row(1, 9, 0, False, 5), Row(2, 3, 0, False, 6)], 9)
    assert counted(lying["ms"][::-1], lying, np.zeros(0, np.int64), {}) is None
