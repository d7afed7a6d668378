"""Of rows as they lie in the table, those that count."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.clickhouse.candle_mappers import series_from_end
from jts_storage.testing.factories import SAMPLE_KEY


def rows_of(rows: list[tuple[int, int, bool]]) -> dict[str, np.ndarray]:
    stamps = np.array([row[0] for row in rows], np.int64)
    version = np.array([row[1] for row in rows], np.uint64)
    deleted = np.array([row[2] for row in rows], np.uint8)
    prices = {name: version.view(np.int64) for name in ("open_", "high_", "low_", "close_")}
    return {"ms": stamps, **prices, "volume": version, "deleted": deleted, "version": version}


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**63), st.booleans()), max_size=20)
    .map(lambda rows: list({row[:2]: row for row in rows}.values()))
    .map(lambda rows: sorted(rows, key=lambda row: -row[0])),
    st.booleans(),
)
def test_the_latest_of_each_timestamp_counts_unless_it_says_deleted(
    rows: list[tuple[int, int, bool]], is_cut: bool
) -> None:
    known = [row for row in rows if not is_cut or row[0] != rows[-1][0]]
    latest = {row[0]: row for row in sorted(known, key=lambda row: row[1])}
    wanted = [(stamp, row[1]) for stamp, row in sorted(latest.items()) if not row[2]]
    found = series_from_end(SAMPLE_KEY, rows_of(rows), is_cut=is_cut).columns
    assert list(zip(found.timestamp.tolist(), found.volume.tolist(), strict=True)) == wanted
