"""Text becomes columns the fast way or the slow one, and both give the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain.enums import Timeframe
from jts_storage.readers.blocks import Block, Reader
from jts_storage.readers.numbers import plain_prices
from jts_storage.readers.rows import RowLine
from jts_storage.readers.timestamps import TimestampReader
from jts_storage.readers.written import joined

whole = st.integers(0, 10**10).map(str)


@given(st.integers(0, 4).flatmap(lambda n: st.lists(st.tuples(whole, decimals(n)), min_size=1)))
def test_prices_of_alike_decimals_are_read_as_integers(rows: list[tuple[str, str]]) -> None:
    text = [f"{number}.{fraction}" if fraction else number for number, fraction in rows]
    column = pa.array(["skipped", *text]).slice(1)
    found = plain_prices(column)
    assert found is not None
    assert found[0].tolist() == [int(Decimal(value) * 10_000) for value in text]
    assert found[1] == len(rows[0][1])


def decimals(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=count, max_size=count)


@pytest.mark.parametrize(
    "column",
    [
        ["1.5", "1.25"],
        ["1.5", "1"],
        ["1", "1.0."],
        ["1.00001"],
        ["-1"],
        ["1,5"],
        ["1e3"],
        [""],
        ["."],
        [None],
        [],
        ["1" * 30],
        [str(10**14)],
        ["1/2"],
    ],
)
def test_all_else_is_left_to_decimals(column: list[Any]) -> None:
    assert plain_prices(pa.array(column, pa.string())) is None


class Tables:
    """A source that comes in tables of given lengths."""

    name = "tables"
    identity = None
    commas_separate = False

    def __init__(self, table: Any, lengths: list[int]) -> None:
        self._table = table
        self._lengths = lengths

    def tables(self, broken: Any = None) -> Iterator[Any]:
        done = 0
        for length in [*self._lengths, self._table.num_rows]:
            yield self._table.slice(done, length)
            done += length

    def columns(self, targets: Collection[str]) -> Iterator[Any]:
        names = [name for name in self._table.column_names if name in targets]
        for table in self.tables():
            yield table.select(names)

    def location(self, row: int, target: str) -> str:
        return f"row {row}, {target}"

    def lines_of(self, rows: Sequence[int]) -> list[RowLine]:
        return [RowLine(row + 1) for row in rows]

    def progress(self) -> float | None:
        return None


@given(
    lengths=st.lists(st.integers(0, 9), max_size=9),
    rows=st.integers(1, 12),
    skip=st.integers(0, 25),
)
def test_blocks_are_the_same_however_the_source_is_cut(
    lengths: list[int], rows: int, skip: int
) -> None:
    numbers = [str(n) for n in range(20)]
    prices = [str(n) if n % 3 else f"{n}.5" for n in range(1, 21)]
    table = pa.table(
        {
            "timestamp": [str(1_704_153_600 + 60 * n) for n in range(20)],
            **dict.fromkeys(("open", "high", "low", "volume"), numbers),
            "close": prices,
            "symbol": ["A"] * 20,
        }
    )
    found = blocks(Tables(table, lengths), rows, skip)
    assert [int(block.rows[0]) for block in found] == list(range(skip, 20, rows))
    read = [value for block in found for value in block.columns.close.tolist()]
    assert read == [int(Decimal(price) * 10_000) for price in prices[skip:]]
    assert [len(block.rows) for block in found] == [block.table.num_rows for block in found]


def blocks(source: Tables, rows: int, skip: int) -> list[Block]:
    return list(Reader(TimestampReader(Timeframe.M1)).blocks(source, rows, skip))


def test_points_group_thousands_where_another_column_has_decimal_commas() -> None:
    row = {"timestamp": ["1704153600"], "open": ["78.500,5"], "high": ["79.000"]}
    table = pa.table({**row, "low": ["78.000"], "close": ["78.600"], "volume": ["1.234"]})
    (block,) = blocks(Tables(table, []), 1, 0)
    assert [int(column[0]) for column in block.columns[1:]] == [
        785_005_000,
        790_000_000,
        780_000_000,
        786_000_000,
        1_234,
    ]


def test_decimal_commas_may_begin_late() -> None:
    column = ["78500"] * 5 + ["78500,5"]
    table = pa.table(
        {
            "timestamp": [str(1_704_153_600 + 60 * n) for n in range(6)],
            **dict.fromkeys(("open", "high", "low", "close"), column),
            "volume": ["1"] * 6,
        }
    )
    (block,) = blocks(Tables(table, [5]), 6, 0)
    assert block.columns.close.tolist() == [785_000_000] * 5 + [785_005_000]


@pytest.mark.parametrize(
    "moments",
    [
        ["2024-01-02T00:00:00Z", "2024-01-02T00:00:00.500000Z"],
        ["2024-01-02T09:00:00.000000+09:00", "2024-01-02T09:00:00.500000+09:00"],
        ["2024-01-02 00:00:00 UTC", "2024-01-02 00:00:00.5 UTC"],
        ["2024/1/2 09:00:00 +09:00", "2024/1/2 09:00:00.500 +09:00"],
        ["1704153600000", "1704153600500"],
    ],
)
def test_moments_of_one_column_may_differ_in_their_spelling(moments: list[str]) -> None:
    found = TimestampReader(Timeframe.M1).read(pa.array(moments))
    assert found.tolist() == [1_704_153_600_000, 1_704_153_600_500]


@pytest.mark.parametrize(
    ("times", "read"),
    [
        (["500", "1000"], ["05:00", "10:00"]),
        (["900", "90000"], ["00:09:00", "09:00:00"]),
        (["500", "10000", "235959"], ["00:05:00", "01:00:00", "23:59:59"]),
        (["09:00", "0900"], ["09:00", "09:00"]),
        ([None, "0900"], [None, "2024-01-02 09:00"]),
    ],
)
def test_times_without_marks_are_all_of_one_width(
    times: list[str | None], read: list[str | None]
) -> None:
    dates = pa.array(["20240102"] * len(times))
    found = joined(dates, pa.array(times, pa.string())).to_pylist()
    expected = [t if t is None or " " in t else f"2024-01-02 {t}" for t in read]
    assert found == expected
