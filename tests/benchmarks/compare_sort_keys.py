"""Orders of candles on disk: `python tests/benchmarks/compare_sort_keys.py [rows] [names...]`.

Rows of 2,500 symbols, days and minutes in one table. Each candidate has a database of its own in
one embedded engine, and they take turns. A line of JSON each: bytes a row, seconds to fill it and
to merge it, and medians in milliseconds: 250 days of all symbols and of 250 by name, the latest day
and minute of each, 390 minutes of a random symbol and day, a new minute of all symbols written, and
a series of 100,000. JTS_BENCH_DIR names the folder to work in, JTS_BENCH_ROUNDS how often.
"""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import report, timed
from sqlalchemy.schema import CreateTable

from jts_storage.clickhouse import statements, tables
from jts_storage.clickhouse.candle_mappers import rows_to_columns
from jts_storage.clickhouse.constructs import ddl_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
NAMES = sys.argv[2:]
ROUNDS = int(os.environ.get("JTS_BENCH_ROUNDS", "11"))
SYMBOLS = 2_500
DAYS = 500 if ROWS >= 5_000_000 else 250
MINUTES = ROWS // SYMBOLS - DAYS
SESSION = 390
_DAY, _MINUTE = 86_400_000, 60_000
_FIRST_DAY = 1_577_836_800_000  # days begin in 2020, minutes in 2024
_FIRST_MINUTE = 1_704_186_000_000
_FILL_ROWS = 1_000_000
_VERSION = 1_700_000_000_000_000_000
_LAST_BAR = "(timestamp, version, is_deleted, open, high, low, close, volume)"
_NAMES = "timeframe, symbol, exchange"
_STORED = "timestamp AS ms, open AS open_, high AS high_, low AS low_, close AS close_, volume"
_READ = f"{_STORED}, is_deleted AS deleted, cityHash64(symbol, exchange) AS series"
_NEWEST = f"SELECT symbol, exchange, max({_LAST_BAR}) AS bar FROM candles"


@dataclass(frozen=True)
class Candidate:
    """An order of the rows, and what else answers.

    :param statements: that are sent before the table has rows.
    :param latest: reads the latest bar of each symbol, but for the condition on the timeframe.
    """

    order: str
    statements: tuple[str, ...] = ()
    latest: str = ""


SERIES_FIRST = "symbol, exchange, timeframe, timestamp"
TIMEFRAME_FIRST = "timeframe, symbol, exchange, timestamp"
_REBUILD = "ALTER TABLE candles MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild'"
_BY_TIMEFRAME = (
    _REBUILD,
    f"ALTER TABLE candles ADD PROJECTION by_timeframe (SELECT * ORDER BY {TIMEFRAME_FIRST})",
)
_LAST_BARS = (
    _REBUILD,
    f"ALTER TABLE candles ADD PROJECTION last_bars (SELECT {_NAMES}, max({_LAST_BAR})"
    f" GROUP BY {_NAMES})",
)
_ENDS = (
    _REBUILD,
    "ALTER TABLE candles ADD PROJECTION ends (SELECT timeframe, symbol, exchange, min(timestamp),"
    f" max(timestamp), count() GROUP BY {_NAMES})",
)
_TUPLE = (
    "Tuple(DateTime64(3, 'UTC'), UInt64, UInt8, Decimal(18, 4), Decimal(18, 4), Decimal(18, 4),"
    " Decimal(18, 4), UInt64)"
)
_VIEW = (
    "CREATE TABLE latest (timeframe LowCardinality(String), symbol LowCardinality(String),"
    f" exchange LowCardinality(String), bar SimpleAggregateFunction(max, {_TUPLE}))"
    f" ENGINE = AggregatingMergeTree ORDER BY ({_NAMES})",
    f"CREATE MATERIALIZED VIEW to_latest TO latest AS SELECT {_NAMES}, max({_LAST_BAR}) AS bar"
    f" FROM candles GROUP BY {_NAMES}",
)
CANDIDATES = {
    "series first": Candidate(SERIES_FIRST),
    "timeframe first": Candidate(TIMEFRAME_FIRST),
    "projection": Candidate(SERIES_FIRST, _BY_TIMEFRAME),
    "view of latest": Candidate(
        SERIES_FIRST, _VIEW, "SELECT symbol, exchange, max(bar) AS bar FROM latest"
    ),
    "timeframe first, last bars": Candidate(TIMEFRAME_FIRST, _LAST_BARS, _NEWEST),
    "timeframe first, ends": Candidate(TIMEFRAME_FIRST, _ENDS),
}


class Turns:
    """One candidate with its rows, and the work that is measured."""

    def __init__(self, path: Path, number: int, candidate: Candidate) -> None:
        with ClickHouseManager(embedded_path=str(path)) as manager:
            manager.execute(f"CREATE DATABASE v{number}", idempotent=False)
        self._manager = ClickHouseManager(embedded_path=str(path), database=f"v{number}")
        self._candidate = candidate
        self._declared = tables.build().candles
        self._types = statements.stored_types(self._declared)
        self._random = random.Random(0)
        self._minutes = MINUTES
        create = ddl_of(CreateTable(self._declared))
        self.execute(re.sub(r"ORDER BY \([^)]*\)", f"ORDER BY ({candidate.order})", create))
        for statement in candidate.statements:
            self.execute(statement)
        self.seconds: dict[str, list[float]] = {}

    def execute(self, statement: str, **settings: Any) -> list[tuple[Any, ...]]:
        return self._manager.execute(statement, idempotent=False, settings=settings)

    def fill(self) -> None:
        each = DAYS + MINUTES
        for first in range(0, SYMBOLS * each, _FILL_ROWS):
            count = min(_FILL_ROWS, SYMBOLS * each - first)
            self.execute(_filling(first, count), max_threads=1, max_insert_threads=1)

    def merge(self) -> float:
        return timed(lambda: self.execute("OPTIMIZE TABLE candles FINAL"))

    def bytes_a_row(self) -> float:
        size = self.execute(
            "SELECT sumIf(rows, table = 'candles'), sum(bytes_on_disk) FROM system.parts"
            " WHERE active AND database = currentDatabase()"
        )
        return float(size[0][1] / size[0][0])

    def turn(self, what: str) -> None:
        work = getattr(self, what)()
        self.seconds.setdefault(what, []).append(timed(work))

    # ---- reading

    def universe(self) -> Any:
        return self._reading(f"timeframe = '1d' AND {_last_days()}")

    def universe_by_list(self) -> Any:
        names = ", ".join(f"('{_name(n)}', 'KRX', '1d')" for n in range(0, SYMBOLS, 10))
        among = f"(symbol, exchange, timeframe) IN ({names})"
        return self._reading(f"timeframe = '1d' AND {_last_days()} AND {among}")

    def latest_day(self) -> Any:
        return self._latest("1d")

    def latest_minute(self) -> Any:
        return self._latest("1m")

    def minutes_of_a_day(self) -> Any:
        day = self._random.randrange(max(1, MINUTES // SESSION))
        first = _FIRST_MINUTE + day * _DAY
        key = f"symbol = '{_name(self._random.randrange(SYMBOLS))}' AND exchange = 'KRX'"
        where = f"{key} AND timeframe = '1m' AND {_between(first, first + SESSION * _MINUTE)}"
        query = f"SELECT {_STORED}, is_deleted FROM candles WHERE {where} ORDER BY timestamp"
        return lambda: self._manager.read_columns(query, stored=self._types)

    def _reading(self, where: str, after: str = "") -> Any:
        order = after or f"ORDER BY {self._candidate.order}"
        query = f"SELECT {_READ}, symbol, exchange FROM candles WHERE {where} {order}"
        return lambda: self._manager.read_columns(query, stored=self._types)

    def _latest(self, timeframe: str) -> Any:
        where = f"timeframe = '{timeframe}'"
        if self._candidate.latest:
            query = f"{self._candidate.latest} WHERE {where} GROUP BY {_NAMES} ORDER BY {_NAMES}"
            bar = [f"bar.{n} AS c{n}" for n in (1, 2, 3, 8)]
            bar += [f"reinterpret(bar.{n}, 'Int64') AS c{n}" for n in range(4, 8)]
            flat = f"SELECT symbol, exchange, {', '.join(bar)} FROM ({query})"
            return lambda: self._manager.read_columns(flat)
        backwards = ", ".join(f"{name} DESC" for name in self._candidate.order.split(", "))
        # Only by what the rows are ordered by, from the first on, are they taken as they come.
        series = self._candidate.order.removesuffix(", timestamp")
        return self._reading(where, f"ORDER BY {backwards} LIMIT 1 BY {series}")

    # ---- writing

    def write_market(self) -> Any:
        self._minutes += 1
        stamp = np.array([_minute(self._minutes)])
        many = [_series(n, stamp, self._minutes) for n in range(SYMBOLS)]
        return self._writing(many)

    def write_series(self) -> Any:
        self._minutes += 1
        stamps = _minute(-200_000 * self._minutes) + np.arange(100_000) * _MINUTE
        return self._writing([_series(self._random.randrange(SYMBOLS), stamps, self._minutes)])

    def _writing(self, many: list[CandleSeries]) -> Any:
        rows = SeriesRows.joined([SeriesRows.of(each) for each in many])
        columns = rows_to_columns(self._declared, rows, version=_VERSION + self._minutes)
        return lambda: self._manager.insert_columns(
            "candles", columns, settings=statements.write_settings
        )


READS = ("universe", "universe_by_list", "latest_day", "latest_minute", "minutes_of_a_day")
WRITES = ("write_market", "write_series")


def _name(number: int) -> str:
    return f"S{number:05}"


def _minute(number: int) -> int:
    days, minutes = divmod(number, SESSION)
    return _FIRST_MINUTE + days * _DAY + minutes * _MINUTE


def _last_days() -> str:
    return _between(_FIRST_DAY + (DAYS - 250) * _DAY, _FIRST_DAY + (DAYS - 1) * _DAY)


def _between(first: int, last: int) -> str:
    ends = (f"fromUnixTimestamp64Milli(toInt64({ms}), 'UTC')" for ms in (first, last))
    return f"timestamp BETWEEN {' AND '.join(ends)}"


def _series(number: int, stamps: Any, seed: int) -> CandleSeries:
    rng = np.random.default_rng(seed)
    close = 700_000 + np.cumsum(rng.integers(-5, 6, len(stamps))) * 100
    prices = (close, close + 200, close - 200, close + 100)
    volume = rng.integers(1, 100_000, len(stamps)).astype(np.uint64)
    key = SeriesKey(_name(number), Timeframe.M1, "KRX")
    return CandleSeries.trusted(key, Columns.of(stamps, prices, volume))


def _filling(first: int, count: int) -> str:
    """The rows from one number on: symbol by symbol, its days and then its minutes."""
    each = DAYS + MINUTES
    minute = f"(at - {DAYS})"
    stamp = (
        f"if(at < {DAYS}, {_FIRST_DAY} + at * {_DAY}, {_FIRST_MINUTE}"
        f" + intDiv({minute}, {SESSION}) * {_DAY} + {minute} % {SESSION} * {_MINUTE})"
    )
    prices = ", ".join(
        f"toDecimal64(70 + {up} + round(20 * sin(at / 900 + series), 2) + noise / 100, 4)"
        for up in (0, 0.02, -0.02, 0.01)
    )
    return (
        f"INSERT INTO candles SELECT 'S' || leftPad(toString(series), 5, '0'), 'KRX',"
        f" if(at < {DAYS}, '1d', '1m'), fromUnixTimestamp64Milli(toInt64({stamp}), 'UTC'),"
        f" {prices}, 1 + cityHash64(number) % 100000, {_VERSION} + at, 0 FROM"
        f" (SELECT number, intDiv(number, {each}) AS series, toInt64(number % {each}) AS at,"
        f" cityHash64(number) % 7 AS noise FROM numbers({first}, {count}))"
    )


def compare(folder: Path) -> None:
    chosen = {name: each for name, each in CANDIDATES.items() if not NAMES or name in NAMES}
    running = {
        name: Turns(folder / "store", number, each)
        for number, (name, each) in enumerate(chosen.items())
    }
    sizes = {}
    for name, each in running.items():
        filling, merging = timed(each.fill), each.merge()
        sizes[name] = {
            "bytes_a_row": each.bytes_a_row(),
            "fill_s": filling,
            "merge_s": merging,
        }
    for each in running.values():
        for _ in range(3):  # parts that wait for a merge, as live writes leave them
            each.write_market()()
    for number in range(ROUNDS):
        turns = list(running.values())
        turns = turns[number % len(turns) :] + turns[: number % len(turns)]
        for what in READS:
            for each in turns:
                for _ in range(10 if what == "minutes_of_a_day" else 1):
                    each.turn(what)
    for number in range(2 * ROUNDS):
        for what in WRITES:
            for each in list(running.values())[:: 1 if number % 2 else -1]:
                each.turn(what)
    for name, each in running.items():
        taken = {what: median(taken) * 1_000 for what, taken in each.seconds.items()}
        report(name, rows=ROWS, **sizes[name], **taken)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("JTS_BENCH_DIR")) as folder:
        compare(Path(folder))


if __name__ == "__main__":
    main()
