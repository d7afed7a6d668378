"""Whole numbers as moments: judged by their column, never by the first or the largest alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.epochs import Numbers
from jts_storage.readers.moments import plan_of
from jts_storage.readers.timestamps import TimestampReader

SECOND = 1_704_153_600  # 2 January 2024
MILLIS = SECOND * 1_000
DAY = 86_400
MARCH_1962 = -246_240_000


def read(numbers: list[int], *, text: bool, timeframe: Timeframe = Timeframe.M1) -> list[int]:
    column = pa.array(numbers, pa.int64())
    found = TimestampReader(timeframe, "UTC").read(column.cast(pa.string()) if text else column)
    return list(map(int, found))


@pytest.mark.parametrize("text", [True, False], ids=["text", "integers"])
@pytest.mark.parametrize(
    ("numbers", "row"),
    [
        ([MILLIS, SECOND - 60, MILLIS + 60_000], 1),
        ([SECOND, MILLIS + 60_000, SECOND - 60], 1),
        ([MILLIS, MILLIS, MILLIS * 1_000 - 60_000_000, MILLIS + 1], 2),
        ([MILLIS * 10**6, SECOND - 60, MILLIS * 10**6], 1),
    ],
)
def test_a_number_of_another_unit_is_refused_by_its_row(
    numbers: list[int], row: int, text: bool
) -> None:
    with pytest.raises(InvalidData, match="another unit") as refused:
        read(numbers, text=text)
    assert refused.value.row == row


@pytest.mark.parametrize("text", [True, False], ids=["text", "integers"])
@pytest.mark.parametrize("factor", [1, 1_000, 10**6, 10**9])
@pytest.mark.parametrize("later", [1, 1_000, 10**6, 10**9])
@pytest.mark.parametrize("step", [60, -60])
def test_a_file_whose_unit_changed_on_some_day_is_read(
    factor: int, later: int, step: int, text: bool
) -> None:
    moments = [SECOND + step * n for n in range(6)]
    numbers = [m * (factor if n < 3 else later) for n, m in enumerate(moments)]
    assert read(numbers, text=text) == [m * 1_000 for m in moments]


@pytest.mark.parametrize("text", [True, False], ids=["text", "integers"])
@pytest.mark.parametrize("factor", [1, 1_000, 10**6, 10**9])
def test_daily_bars_since_1962_pass_through_1970(factor: int, text: bool) -> None:
    moments = list(range(MARCH_1962, SECOND, DAY))
    numbers = [moment * factor for moment in moments]
    assert read(numbers, text=text, timeframe=Timeframe.D1) == [m * 1_000 for m in moments]


@pytest.mark.parametrize("text", [True, False], ids=["text", "integers"])
def test_milliseconds_of_twelve_digits_are_no_date(text: bool) -> None:
    year_2000 = 946_612_310_000  # reads as 31 December 9466, too
    numbers = [year_2000 + 60_000 * n for n in range(100)]
    assert read(numbers, text=text) == numbers
    assert read(numbers[:1], text=text) == numbers[:1]
    into_2001 = [999_999_880_000 + 60_000 * n for n in range(5)]
    assert read(into_2001, text=text) == into_2001


@pytest.mark.parametrize("text", [True, False], ids=["text", "integers"])
@pytest.mark.parametrize(
    ("numbers", "moment"),
    [
        ([20240102, 20240103], datetime(2024, 1, 2, tzinfo=UTC)),
        ([202401020900, 202401020901], datetime(2024, 1, 2, 9, tzinfo=UTC)),
        ([20240102090000, 20240102090100], datetime(2024, 1, 2, 9, tzinfo=UTC)),
    ],
)
def test_dates_in_digits(numbers: list[int], moment: datetime, text: bool) -> None:
    assert read(numbers, text=text)[0] == moment.timestamp() * 1_000


@pytest.mark.parametrize("text", [True, False], ids=["text", "integers"])
@pytest.mark.parametrize("bad", [202413020902, 20240102090, 202401022460])
def test_a_damaged_date_makes_no_epochs_of_the_others(bad: int, text: bool) -> None:
    with pytest.raises(InvalidData) as refused:
        read([202401020900, 202401020901, bad], text=text)
    assert refused.value.row == 2


def test_what_a_column_shows_holds_for_each_of_its_parts() -> None:
    first, second, third = (
        [MILLIS, MILLIS + 60_000],
        [SECOND - 60, SECOND],
        [SECOND + 120, SECOND + 180],
    )
    reader = TimestampReader(Timeframe.M1)
    rising = plan_of(pa.array(first + third))
    assert reader.read(pa.array(third), rising).tolist() == [MILLIS + 120_000, MILLIS + 180_000]
    mixed = plan_of(pa.array([*first, MILLIS + 120_000, *second]))
    with pytest.raises(InvalidData, match="another unit") as refused:
        reader.read(pa.array(second), mixed)
    assert refused.value.row == 0


def test_a_part_that_lies_in_january_1970_is_of_the_unit_of_all() -> None:
    reader = TimestampReader(Timeframe.D1)
    days = [DAY * n * 1_000 for n in range(-800, 100)]
    plan = plan_of(pa.array(days))
    found: list[Any] = []
    for part in (days[:795], days[795:830], days[830:]):
        found += reader.read(pa.array(part), plan).tolist()
    assert found == days


@given(
    st.lists(st.integers(3 * 10**8, 4 * 10**9), min_size=1, max_size=30),
    st.sampled_from([1, 1_000, 10**6, 10**9]),
)
def test_one_unit_is_never_refused(moments: list[int], factor: int) -> None:
    numbers = np.array(moments, np.int64) * factor
    seen = Numbers()
    seen.look(numbers, np.arange(len(numbers)))
    epochs = seen.settled()
    assert epochs is not None
    assert epochs.milliseconds(numbers).tolist() == [m * 1_000 for m in moments]


@given(
    st.lists(
        st.one_of(
            st.integers(-(10**19), 10**19),
            st.sampled_from([SECOND, MILLIS, 0, 202401020900, 20240102, 5 * 10**9]),
        ),
        max_size=30,
    ),
    st.integers(1, 7),
)
def test_what_a_column_shows_is_the_same_however_it_is_cut(numbers: list[int], size: int) -> None:
    kept = np.array([n for n in numbers if -(2**63) <= n < 2**63], np.int64)

    def settled(size: int) -> object:
        seen = Numbers()
        for start in range(0, len(kept), size):
            seen.look(kept[start : start + size], np.arange(len(kept))[start : start + size])
        try:
            return seen.settled()
        except InvalidData as exc:
            return str(exc), exc.row

    assert settled(size) == settled(100)
