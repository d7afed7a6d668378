"""Rows as they lie, and which of them count now and as of a version, beside a plain reading."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.clickhouse.stored_rows import of_one
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


@given(rows(), rows(least_version=8), st.integers(0, 20))
def test_as_of_a_version_the_later_of_a_present_and_a_former_row_counts(
    lying: list[Row], replaced: list[Row], version: int
) -> None:
    former = [
        row._replace(is_deleted=False, since=min(row.since or 1, version)) for row in replaced
    ]
    expected: dict[int, tuple[int, int]] = {}
    for row in sorted(former, key=lambda row: row.version):  # the latest of each time
        expected[row.minute] = row.since, row.value
    for row in {row.minute: row for row in sorted(lying, key=lambda row: row.version)}.values():
        begins = row.since or row.version
        if not row.is_deleted and begins <= version and begins > expected.get(row.minute, (-1,))[0]:
            expected[row.minute] = begins, row.value
    was = of_one(found(lying)).as_of(version, of_one(found(former)))
    assert values(was) == {minute: value for minute, (_, value) in expected.items()}
