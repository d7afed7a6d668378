"""Codecs of the candles' columns: `python tests/benchmarks/compare_codecs.py`.

Each variant has a database of its own in one embedded engine, and they take turns. A line of JSON
each: bytes a candle on disk for three kinds of series, a million candles in one part, and medians
in milliseconds: 100,000 written, a million read as a series, and with FINAL while duplicates of
all of them wait for a merge.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from harness import report, timed

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries

ROWS = 1_000_000
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
NOW = {
    "timestamp": "Delta, LZ4",
    "open": "T64, LZ4",
    "high": "T64, LZ4",
    "low": "T64, LZ4",
    "close": "T64, LZ4",
    "volume": "T64, LZ4",
    "version": "Delta, ZSTD(1)",
}
PRICES = ("open", "high", "low", "close")
VARIANTS: dict[str, dict[str, str]] = {
    "as decided": {},
    "DoubleDelta timestamp": {"timestamp": "DoubleDelta"},
    "DoubleDelta timestamp and version": {
        "timestamp": "DoubleDelta",
        "version": "DoubleDelta, LZ4",
    },
    "ZSTD timestamp": {"timestamp": "Delta, ZSTD(1)"},
    "T64 version": {"version": "T64, LZ4"},
    "bare T64 prices": dict.fromkeys(PRICES, "T64"),
    "ZSTD prices": dict.fromkeys(PRICES, "T64, ZSTD(1)"),
    "Delta prices": dict.fromkeys(PRICES, "Delta, LZ4"),
    "DoubleDelta prices": dict.fromkeys(PRICES, "DoubleDelta, LZ4"),
    "ZSTD for all": dict.fromkeys(NOW, "ZSTD(1)"),
    "LZ4 for all": dict.fromkeys(NOW, "LZ4"),
}
_ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
_MINUTE = 60_000
_DAY = 86_400_000
_START_MS = 1_704_153_600_000


def _series(name: str, step: int, *, in_sessions: bool) -> CandleSeries:
    """A random walk of prices in units of `step` ten-thousandths."""
    random = np.random.default_rng(0)
    close = np.maximum(np.cumsum(random.integers(-3, 4, ROWS)) + 7_000, 10) * step
    opening = close + random.integers(-3, 4, ROWS) * step
    above, below = random.integers(0, 4, (2, ROWS)) * step
    minutes = np.arange(ROWS, dtype=np.int64)
    if in_sessions:
        stamps = _START_MS + (minutes // 390) * _DAY + (minutes % 390) * _MINUTE
        volume = (random.pareto(1.2, ROWS) * 100).astype(np.uint64) + 1
    else:
        stamps = _START_MS + minutes * _MINUTE
        volume = random.integers(1, 1_000_000, ROWS).astype(np.uint64)
    prices = (opening, np.maximum(opening, close) + above, np.minimum(opening, close) - below)
    return CandleSeries.trusted(
        SeriesKey(name, Timeframe.M1, "KRX"), Columns.of(stamps, (*prices, close), volume)
    )


SERIES = {
    "walk": _series("walk", 1_000_000, in_sessions=False),
    "krx": _series("krx", 1_000_000, in_sessions=True),
    "cents": _series("cents", 100, in_sessions=False),
}


class Variant:
    def __init__(self, path: Path, number: int, codecs: dict[str, str]) -> None:
        with ClickHouseManager(embedded_path=str(path)) as manager:
            manager.execute(f"CREATE DATABASE v{number}", idempotent=False)
        self._manager = ClickHouseManager(embedded_path=str(path), database=f"v{number}")
        tables.build().metadata.create_all(self._manager.engine)
        for column, codec in (NOW | codecs).items():
            self._execute(f"ALTER TABLE candles MODIFY COLUMN {column} CODEC({codec})")
        self._candles = ClickHouseCandleRepository(self._manager, cache_bytes=0)
        self._loop = asyncio.new_event_loop()
        self.seconds: dict[str, list[float]] = {"write": [], "read": [], "merged_read": []}

    def bytes_a_candle(self, series: CandleSeries) -> float:
        self._write(series)
        self._execute("OPTIMIZE TABLE candles FINAL")
        size = self._manager.execute(
            "SELECT sum(bytes_on_disk) FROM system.parts"
            " WHERE active AND database = currentDatabase() AND table = 'candles'"
        )
        self._execute("TRUNCATE TABLE candles")
        return float(size[0][0] / len(series))

    def fill(self, series: CandleSeries) -> None:
        self._write(series)
        self._execute("SYSTEM STOP MERGES candles")

    def turn(self, what: str, series: CandleSeries) -> None:
        self.seconds[what].append(
            timed(lambda: self._write(series))
            if what == "write"
            else timed(lambda: self._run(self._candles.get_range(series.key, *_ALWAYS)))
        )

    def double(self, series: CandleSeries) -> None:
        self._write(series)
        self._run(self._candles.get_range(series.key, *_ALWAYS))  # it learns of them

    def _execute(self, statement: str) -> None:
        self._manager.execute(statement, idempotent=False)

    def _write(self, series: CandleSeries) -> None:
        self._run(self._candles.save_many(series.key, series))

    def _run(self, work: object) -> object:
        return self._loop.run_until_complete(work)  # type: ignore[arg-type]


def main() -> None:
    walk = SERIES["walk"]
    with tempfile.TemporaryDirectory() as folder:
        variants = {
            name: Variant(Path(folder, "store"), number, codecs)
            for number, (name, codecs) in enumerate(VARIANTS.items())
        }
        sizes = {
            name: {kind: variant.bytes_a_candle(s) for kind, s in SERIES.items()}
            for name, variant in variants.items()
        }
        for variant in variants.values():
            variant.fill(walk)
        for number in range(ROUNDS):
            key = SeriesKey(f"part{number}", Timeframe.M1, "KRX")
            part = CandleSeries.trusted(key, walk[:100_000].columns)
            turns = list(variants.values())
            turns = turns[number % len(turns) :] + turns[: number % len(turns)]
            for what, series in (("write", part), ("read", walk)):
                for variant in turns:
                    variant.turn(what, series)
        for variant in variants.values():
            variant.double(walk)
        for _ in range(max(1, ROUNDS // 3)):
            for variant in variants.values():
                variant.turn("merged_read", walk)
        for name, variant in variants.items():
            taken = {what: median(taken) * 1_000 for what, taken in variant.seconds.items()}
            report(name, **sizes[name], **taken)


if __name__ == "__main__":
    main()
