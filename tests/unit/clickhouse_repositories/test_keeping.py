"""What a write keeps of former candles, by what is stored already."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jts_storage import CandleSeries, SeriesKey, Timeframe
from jts_storage.clickhouse.history import CandleHistory, Kept
from jts_storage.clickhouse.tables import build
from jts_storage.domain.rows import SeriesRows
from jts_storage.testing.factories import make_candles

KEY = SeriesKey("A", Timeframe.M1)
OURS = make_candles(KEY, 1)
VERSION = 5


def with_volume(series: CandleSeries, volume: int) -> CandleSeries:
    volumes = np.full(len(series), volume, np.uint64)
    return CandleSeries.trusted(series.key, series.columns._replace(volume=volumes))


class Engine:
    """A manager that has one row stored, and notes what is inserted.

    :param since: which version first had its values; 0 is its own.
    """

    def __init__(self, stored: CandleSeries, version: int, since: int) -> None:
        columns = stored.columns
        self._stored = {
            "ms": columns.timestamp,
            **{f"{name}_": getattr(columns, name) for name in ("open", "high", "low", "close")},
            "volume": columns.volume,
            "version": np.array([version], np.uint64),
            "since": np.array([since], np.uint64),
            "deleted": np.array([0], np.uint8),
        }
        self.inserted: list[dict[str, Any]] = []

    def execute(self, *_: Any, **__: Any) -> list[tuple[int]]:
        return [(1,)]

    def read_columns(self, query: str, *_: Any, **__: Any) -> dict[str, Any]:
        return {} if "candles_history" in query else self._stored

    def insert_columns(self, _name: str, columns: dict[str, Any], **_more: Any) -> None:
        self.inserted.append(columns)


class Ends:
    """Everything lies in front of what is stored."""

    def reached(self, spans: Any) -> list[SeriesKey]:
        return list(spans)


def keep(engine: Engine) -> Kept:
    tables, manager, ends = build(), engine, Ends()
    history = CandleHistory(manager, tables.candles, tables.history, ends)  # type: ignore[arg-type]
    return history.keep(SeriesRows.of(OURS), VERSION, "late")


def ended(engine: Engine) -> list[tuple[int, int]]:
    """Since which version, and until which, the rows counted that were kept."""
    return [
        (int(np.ravel(columns["since"].values)[0]), int(np.ravel(columns["ended"].values)[0]))
        for columns in engine.inserted
    ]


def test_a_late_row_counts_until_another_came_to_have_its_values() -> None:
    """And not until that was written again, with the same values."""
    engine = Engine(with_volume(OURS, 7), version=9, since=7)
    keep(engine)
    assert ended(engine) == [(VERSION, 7)]


@pytest.mark.parametrize("since", [0, 3, 7])
def test_a_late_row_has_its_values_from_no_later_one(since: int) -> None:
    engine = Engine(OURS, version=9, since=since)
    kept = keep(engine)
    assert kept.since is not None
    assert kept.since.tolist() == [0]
