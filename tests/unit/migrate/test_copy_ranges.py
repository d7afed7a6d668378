"""A table is cut into ranges that miss no row and repeat none."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from jts_storage.migrate.copying import count_rows, cut_ranges

Series = tuple[str, str, int, int, int]


@st.composite
def tables(draw: st.DrawFn) -> list[Series]:
    keys = draw(
        st.sets(st.tuples(st.sampled_from("ABCDEFGH"), st.sampled_from(["1d", "1m"])), min_size=1)
    )
    found = []
    for symbol, timeframe in sorted(keys):
        first = draw(st.integers(-1_000, 1_000))
        last = first + draw(st.integers(0, 10_000))
        found.append((symbol, timeframe, draw(st.integers(1, 500)), first, last))
    return found


def covers(where: str, series: Series, ms: int) -> bool:
    symbol, timeframe, *_ = series
    if between := re.fullmatch(r"symbol BETWEEN '(.*)' AND '(.*)'", where):
        return between[1] <= symbol <= between[2]
    exact = re.match(r"symbol = '(.*?)' AND timeframe = '(.*?)'", where)
    assert exact, where
    bounds = [int(number) for number in re.findall(r"toInt64\((-?\d+)\)", where)]
    inside = not bounds or bounds[0] <= ms <= bounds[1]
    return (symbol, timeframe) == exact.groups() and inside


@given(tables(), st.integers(1, 400), st.data())
def test_every_row_is_in_one_range(
    series: list[Series], chunk_rows: int, data: st.DataObject
) -> None:
    ranges = list(cut_ranges(series, chunk_rows))
    for each in series:
        ms = data.draw(st.integers(each[3], each[4]))
        assert sum(covers(cut.where, each, ms) for cut in ranges) == 1


@given(tables(), st.integers(1, 400))
def test_small_symbols_share_a_range_but_not_too_many(
    series: list[Series], chunk_rows: int
) -> None:
    for cut in cut_ranges(series, chunk_rows):
        assert cut.rows <= chunk_rows


def test_names_are_quoted() -> None:
    (cut,) = cut_ranges([("O'X", "1d", 1, 0, 0)], 10)
    assert cut.where == r"symbol BETWEEN 'O\'X' AND 'O\'X'"


def test_a_condition_is_sent_as_it_is_written() -> None:
    """A colon and a percent sign in a symbol's name are no parameters."""
    sent: list[str] = []

    def execute(sql: str, /, **_: object) -> list[tuple[int]]:
        sent.append(" ".join(sql.split()))
        return [(7,)]

    (cut,) = cut_ranges([("A :b%(c)s", "1d", 1, 0, 0)], 10)
    assert count_rows(execute, "candles", cut.where) == 7
    assert sent == [f"SELECT count(*) AS count_1 FROM candles WHERE {cut.where}"]
