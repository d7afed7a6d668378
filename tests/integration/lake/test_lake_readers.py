"""ClickHouse's engine reads the files of the store directly, exactly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.lake import ParquetStorageEngine
from jts_storage.testing.factories import make_candles

chdb = pytest.importorskip("chdb")


def test_clickhouse_reads_the_store(tmp_path: Path, engine_used: Callable[[str], None]) -> None:
    engine = ParquetStorageEngine(tmp_path)
    series = make_candles(SeriesKey("BRK.B", Timeframe.M1), 1_000)
    engine.write(series, frame="1m", symbol="BRK.B", trading_day=date(2024, 1, 2), job_id="job")
    engine_used("chDB")
    answer = chdb.query(
        "SELECT symbol, toString(date), count(), sum(reinterpret(close, 'Int64')), sum(volume), "
        "min(toUnixTimestamp64Milli(timestamp)), any(toTypeName(close)) "
        f"FROM file('{tmp_path}/frame=1m/symbol=*/date=*/job.parquet') GROUP BY ALL "
        "SETTINGS use_hive_partitioning = 1",
        "TabSeparated",
    )
    columns = series.to_columns()
    assert str(answer).strip().split("\t") == [
        "BRK.B",
        "2024-01-02",
        "1000",
        str(columns["close"].sum()),
        str(columns["volume"].sum()),
        str(columns["timestamp"][0]),
        "Decimal(18, 4)",
    ]
