"""The Parquet store against bare pyarrow on the same rows and the same files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
from harness import compare, report, timed

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.lake import ParquetStorageEngine
from jts_storage.testing.factories import make_candles

KEY = SeriesKey("AAPL", Timeframe.M1)
DAY = date(2022, 1, 1)
START = datetime(2022, 1, 1, tzinfo=UTC)
DAYS = 700
ROWS_A_DAY = 1_429
TOTAL = DAYS * ROWS_A_DAY


def bare_write(table: Any, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def bare_reads(paths: list[Path]) -> dict[str, Any]:
    """The ways to read many files as one table with pyarrow; the quickest is the floor."""
    files = [str(path) for path in paths]
    schema = pq.read_schema(files[0]).remove_metadata()
    unbuffered = ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False)
    )
    return {
        "dataset": lambda: ds.dataset(files, format="parquet").to_table(),
        "dataset, schema given": lambda: ds.dataset(
            files, schema=schema, format=unbuffered
        ).to_table(),
        "read_table": lambda: pq.read_table(files),
    }


def fill(engine: ParquetStorageEngine) -> None:
    parts = [
        make_candles(KEY, ROWS_A_DAY, start=START + timedelta(days=n), seed=n) for n in range(DAYS)
    ]
    for n, part in enumerate(parts):
        day = DAY + timedelta(days=n)
        engine.write(part, frame="1m", symbol="AAPL", trading_day=day, job_id="job", overwrite=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = ParquetStorageEngine(Path(folder) / "lake")
        series = make_candles(KEY, 1_440, start=START)
        table = series.to_arrow()

        def write() -> Path:
            return engine.write(
                CandleSeries.trusted(KEY, series.columns),  # its fingerprint is not known yet
                frame="1m",
                symbol="AAPL",
                trading_day=DAY,
                job_id="job",
                overwrite=True,
            )

        write()
        compare(
            "lake_write_1440",
            write,
            lambda: bare_write(table, Path(folder) / "bare.parquet"),
            runs=101,
        )
        fill(engine)
        paths = sorted(engine.root.rglob("*.parquet"))
        compare_with_fastest(
            f"lake_load_{TOTAL}_rows_in_{DAYS}_files",
            lambda: engine.load_symbol_data("AAPL", "1m"),
            list(bare_reads(paths).values()),
        )


def compare_with_fastest(
    name: str, ours: Callable[[], object], floors: list[Callable[[], object]], runs: int = 15
) -> None:
    """As `compare`, with several ways to do it by hand, of which the quickest counts."""
    works = [ours, *floors]
    rounds = [[timed(work) for work in works] for _ in range(runs + 1)][1:]
    seconds, *bare = (median(times) for times in zip(*rounds, strict=True))
    report(name, seconds=seconds, floor_seconds=min(bare), ratio=seconds / min(bare))


if __name__ == "__main__":
    main()
