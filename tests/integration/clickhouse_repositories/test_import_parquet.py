"""Parquet files become the candles that `save_many` would make of them, or nothing."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jts_storage.clickhouse import parquet
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain import checks
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.testing.factories import SAMPLE_KEY as KEY
from jts_storage.testing.factories import START, make_candles

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
OLD, NEW = make_candles(KEY, 300, seed=1), make_candles(KEY, 300, seed=2)


def write(path: Path, table: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, store_decimal_as_integer=True)
    return path


async def test_the_later_file_and_the_later_row_count(
    candles: ClickHouseCandleRepository, tmp_path: Path
) -> None:
    folder = tmp_path / "frame=1m" / "symbol=other" / "date=2024-01-02"
    doubled = pa.concat_tables([NEW[:50].to_arrow(), OLD[40:50].to_arrow()])
    paths = [
        write(folder / "b.parquet", OLD.to_arrow()),
        write(folder / "a.parquet", doubled),
    ]
    assert await candles.import_parquet(KEY, paths) == 360
    assert await candles.get_range(KEY, *ALWAYS) == OLD.merge(NEW[:40])
    assert await candles.import_parquet(KEY, paths[:1]) == 300
    assert await candles.get_range(KEY, *ALWAYS) == OLD


async def test_many_files_go_in_parts(
    candles: ClickHouseCandleRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "FILES_AT_ONCE", 7)
    paths = [
        write(tmp_path / f"{n}.parquet", OLD[n * 10 : n * 10 + 10].to_arrow()) for n in range(30)
    ]
    assert await candles.import_parquet(KEY, paths) == 300
    assert await candles.get_range(KEY, *ALWAYS) == OLD
    assert await candles.import_parquet(KEY, []) == 0


async def test_names_that_are_patterns_are_names(
    candles: ClickHouseCandleRepository, tmp_path: Path
) -> None:
    write(tmp_path / "x1.parquet", NEW.to_arrow())
    path = write(tmp_path / "x*{1,2}'.parquet", OLD.to_arrow())
    await candles.import_parquet(KEY, [path])
    assert await candles.get_range(KEY, *ALWAYS) == OLD


async def test_files_of_other_types_are_converted_as_series_are(
    candles: ClickHouseCandleRepository, tmp_path: Path
) -> None:
    table = OLD.to_arrow()
    seconds = table.set_column(
        0, "timestamp", table["timestamp"].cast(pa.timestamp("us", "Asia/Seoul"))
    )
    await candles.import_parquet(KEY, [write(tmp_path / "a.parquet", seconds)])
    assert await candles.get_range(KEY, *ALWAYS) == OLD


def changed(row: int, **values: Any) -> Any:
    rows = OLD.to_arrow().to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, OLD.to_arrow().schema)


BAD = {
    "high below low": changed(7, high=Decimal(1)),
    "close above high": changed(7, close=Decimal(99_999_999)),
    "open below low": changed(7, open=Decimal(0)),
    "too early": changed(7, timestamp=ALWAYS[0] - timedelta(milliseconds=1)),
    "too late": changed(7, timestamp=ALWAYS[1] + timedelta(milliseconds=1)),
    "no price": changed(7, close=None),
    "no time": changed(7, timestamp=None),
    "no volume": changed(7, volume=None),
    "a float": OLD.to_arrow().set_column(1, "open", OLD.to_arrow()["open"].cast(pa.float64())),
    "a column missing": OLD.to_arrow().drop_columns(["volume"]),
    "no zone": OLD.to_arrow().set_column(
        0, "timestamp", OLD.to_arrow()["timestamp"].cast(pa.timestamp("ms"))
    ),
}


@pytest.mark.parametrize("table", BAD.values(), ids=BAD.keys())
async def test_what_save_many_refuses_is_refused_and_nothing_is_written(
    candles: ClickHouseCandleRepository, tmp_path: Path, table: Any
) -> None:
    with pytest.raises(InvalidData):
        await candles.save_many(KEY, table)
    paths = [write(tmp_path / "a.parquet", NEW.to_arrow()), write(tmp_path / "b.parquet", table)]
    with pytest.raises(InvalidData):
        await candles.import_parquet(KEY, paths)
    assert await candles.count(KEY) == 0


async def test_a_file_that_is_no_parquet_or_not_there(
    candles: ClickHouseCandleRepository, tmp_path: Path
) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    for name in ("text.parquet", "none.parquet"):
        with pytest.raises(InvalidData, match=name):
            await candles.import_parquet(KEY, [tmp_path / name])


async def test_the_engine_itself_reads_what_it_can(
    manager: ClickHouseManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path / "a.parquet", OLD.to_arrow())]
    passed: list[CandleSeries] = []
    candles = ClickHouseCandleRepository(manager)
    monkeypatch.setattr(candles, "write", lambda series, version, **_: passed.append(series))
    await candles.import_parquet(KEY, paths)
    assert bool(passed) != manager.config.is_embedded


async def test_extremes_are_exact(candles: ClickHouseCandleRepository, tmp_path: Path) -> None:
    largest, least = Decimal("99999999999999.9999"), Decimal("-99999999999999.9999")
    row = {"open": least, "high": largest, "low": least, "close": largest, "volume": 2**64 - 1}
    times = [*ALWAYS, START]
    table = pa.Table.from_pylist([{"timestamp": t} | row for t in times], OLD.to_arrow().schema)
    assert await candles.import_parquet(KEY, [write(tmp_path / "a.parquet", table)]) == 3
    found = await candles.get_range(KEY, *ALWAYS)
    assert [c.timestamp for c in found] == [ALWAYS[0], START, ALWAYS[1]]
    assert {(c.open, c.close, c.volume) for c in found} == {(least, largest, 2**64 - 1)}
