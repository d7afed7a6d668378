"""Staged rows that wait in files are the same rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage import CandleSeries, SeriesKey, Timeframe
from jts_storage.domain import candle_changes
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.columns import Columns, concatenate
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.spilled_rows import SpilledRows
from jts_storage.testing.factories import make_candles

KEYS = [SeriesKey(symbol, Timeframe.M1, "KRX") for symbol in ("B", "A", "C")]


def rows_of(key: SeriesKey, stamps: Sequence[int], price: int) -> SeriesRows:
    count = len(stamps)
    prices = np.full(count, price)
    columns = Columns.of(
        np.array(sorted(stamps), np.int64) * 60_000,
        (prices, prices, prices, prices),
        np.full(count, price, np.uint64),
    )
    return SeriesRows.of(CandleSeries.trusted(key, columns))


Write = tuple[int, list[int], tuple[int, int] | None]
WRITES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.lists(st.integers(0, 30), unique=True, max_size=8),
        st.none() | st.tuples(st.integers(0, 30), st.integers(0, 30)),
    ),
    max_size=12,
)


def staged(writes: Sequence[Write], most: int) -> CandleChanges:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candle_changes, "MOST_IN_MEMORY", most)
        changes = CandleChanges()
        for price, (number, stamps, deleted) in enumerate(writes, 1):
            if deleted is not None:
                first, last = sorted(deleted)
                changes.delete(KEYS[number], first * 60_000, last * 60_000)
            changes.save(rows_of(KEYS[number], stamps, price))
    return changes


def plain(rows: SeriesRows) -> list[object]:
    return [(series.key, [column.tolist() for column in series.columns]) for series in rows]


@given(WRITES, st.integers(1, 40), st.integers(0, 20))
def test_they_are_what_they_were(writes: list[Write], most: int, in_memory: int) -> None:
    here = staged(writes, 10_000)
    for ask in (
        lambda changes: plain(changes.upserts),
        lambda changes: sorted(map(str, changes.keys)),
        lambda changes: changes.few_keys(10),
        lambda changes: changes.deletions,
        bool,
        lambda changes: {
            key: [column.tolist() for column in each.upserts]
            for key, each in changes.by_series().items()
        },
    ):
        question: Callable[[CandleChanges], object] = ask
        assert question(staged(writes, in_memory)) == question(here)
    pieces = list(staged(writes, in_memory).pieces(most))
    assert all(0 < piece.rows <= most for piece in pieces)
    together = [series for piece in pieces for series in piece if len(series)]
    keys = [series.key for series in together]
    assert keys == sorted(keys, key=lambda key: key.sort_key)
    expected = {series.key: series.columns for series in staged(writes, 10_000).upserts}
    for key in dict.fromkeys(keys):
        joined = concatenate([series.columns for series in together if series.key == key])
        for ours, theirs in zip(joined, expected[key], strict=True):
            assert ours.tolist() == theirs.tolist()
    assert set(keys) == {key for key, columns in expected.items() if columns.rows}


def test_what_is_in_files_is_not_read_for_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = staged([(0, [1, 2, 3], None), (1, [4], None)], 1)

    def refuse(*_: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(SpilledRows, "_read", refuse)
    assert changes.few_keys(10) == {KEYS[0], KEYS[1]}
    assert set(changes.keys) == {KEYS[0], KEYS[1]}
    assert changes.rows == 4
    with pytest.raises(AssertionError, match="it was read"):
        changes.by_series()


def test_a_long_series_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = staged([(0, [*range(50)], None), (0, [*range(50, 90)], None)], 1)
    sizes: list[int] = []
    read = SpilledRows._read

    def watched(self: SpilledRows, begin: int, end: int) -> Columns:
        sizes.append(end - begin)
        return read(self, begin, end)

    monkeypatch.setattr(SpilledRows, "_read", watched)
    pieces = list(changes.pieces(20))
    stamps = np.concatenate([piece.columns.timestamp for piece in pieces])
    assert len(stamps) == 90
    assert (np.diff(stamps) > 0).all()
    assert max(sizes) <= 20


def test_without_room_they_stay_in_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SpilledRows, "_write", full)
    with caplog.at_level(logging.WARNING):
        changes = staged([(0, [1, 2], None), (0, [3, 4], None)], 1)
    assert changes.upserts.rows == 4
    assert [record.message for record in caplog.records] == [
        "Staged rows stay in memory: no temporary file takes them."
    ]


def test_a_file_that_was_cut_short_is_noticed() -> None:
    spilled = SpilledRows(rows_of(KEYS[0], [1, 2, 3], 1))
    spilled._file.truncate(10)
    with pytest.raises(OSError, match="cut short"):
        spilled.of(KEYS[0])


def test_each_of_several_series_in_one_file_is_its_own() -> None:
    given = [rows_of(key, range(5 * number, 5 * number + 5), number) for number, key in
             enumerate(KEYS, 1)]  # fmt: skip
    spilled = SpilledRows(SeriesRows.joined(given))
    for rows in given:
        (expected,) = rows
        found = spilled.of(expected.key)
        assert found is not None
        assert [column.tolist() for column in found] == [
            column.tolist() for column in expected.columns
        ]


def test_candles_that_come_one_by_one_wait_in_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_changes, "MOST_IN_MEMORY", 5)
    monkeypatch.setattr(candle_changes, "_LOOSE_CANDLES", 2)
    key, changes = KEYS[0], CandleChanges()
    candles = make_candles(key, 21)
    for candle in candles:
        changes.add(key, [candle])
        assert sum(part.columns.rows for part in changes._here) <= 6
    assert changes.upserts.columns.timestamp.tolist() == (
        CandleSeries(key, candles).columns.timestamp.tolist()
    )


def test_parts_are_not_looked_through_at_each_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of 2,500 symbols would look three million times."""
    looks, here = 0, CandleChanges._here.fget  # type: ignore[attr-defined]

    def look(changes: CandleChanges) -> object:
        nonlocal looks
        looks += 1
        return here(changes)

    monkeypatch.setattr(CandleChanges, "_here", property(look))
    monkeypatch.setattr(candle_changes, "MOST_IN_MEMORY", 70)
    changes = CandleChanges()
    for number in range(200):
        changes.save(rows_of(SeriesKey(f"{number:04}", Timeframe.M1), [number], 1))
    assert looks == 2, "once for each file"
    assert changes.upserts.rows == 200
