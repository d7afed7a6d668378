"""The ClickHouse repositories against bare chDB and bare clickhouse-driver on the same rows.

Both sides write to disk with fsync and read the same table; `clickhouse_floor` is the bare side.
With `--long` also a day out of 50 million rows.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from clickhouse_floor import TABLE, BareChdb, BareDriver, of
from harness import compare, report

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.embedded import engine
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.testing.clickhouse_server import ServerProcess
from jts_storage.testing.factories import START, make_candles

MILLION = 1_000_000
DAY = START + timedelta(days=3_000)
DAY_END = DAY + timedelta(days=1) - timedelta(milliseconds=1)
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
Work = Callable[[], object]


def key(symbol: str) -> SeriesKey:
    return SeriesKey(symbol, Timeframe.M1, "KRX")


def renamed(series: CandleSeries, symbol: str) -> CandleSeries:
    return CandleSeries.trusted(key(symbol), series.columns)


def between(start: datetime, end: datetime) -> str:
    first, last = (f"fromUnixTimestamp64Milli({checks.to_ms(t)}, 'UTC')" for t in (start, end))
    return f"timestamp BETWEEN {first} AND {last}"


class Bench:
    """One database, its repository, and the bare side on the same tables."""

    def __init__(self, where: str, manager: ClickHouseManager, bare: BareChdb | BareDriver) -> None:
        self.where, self.manager, self.bare = where, manager, bare
        tables.build().metadata.create_all(manager.engine)
        manager.execute(TABLE.format(name="bare"))
        self.candles = ClickHouseCandleRepository(manager, cache_bytes=0)
        self.cached = ClickHouseCandleRepository(manager)
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        self._loop.close()
        self.manager.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def compare(self, name: str, ours: Work, floor: Work, runs: int = 9) -> None:
        compare(f"clickhouse {self.where}: {name}", ours, floor, runs)

    def write(self, name: str = "save_many 100,000") -> None:
        series = make_candles(key("any"), 100_000)
        for label in (name, f"{name} again"):
            symbols = iter(range(100))
            bare_symbols = iter(range(100))

            def ours(symbols: Any = symbols) -> None:
                mine = renamed(series, f"W{next(symbols)}")
                self.run(self.candles.save_many(mine.key, mine))

            def floor(symbols: Any = bare_symbols) -> None:
                self.bare.write(f"W{next(symbols)}", series, time.time_ns())

            self.compare(label, ours, floor)

    def fill(self) -> None:
        """A million, ten million, both merged; and a million twice, which wait for a merge."""
        for symbol, rows in (("one", MILLION), ("ten", 10 * MILLION)):
            self.run(self.candles.save_many(key(symbol), make_candles(key(symbol), rows)))
        self.manager.execute("OPTIMIZE TABLE candles FINAL")
        self.manager.execute("SYSTEM STOP MERGES candles")
        for _ in range(2):
            self.run(self.candles.save_many(key("two"), make_candles(key("two"), MILLION)))

    def range(self) -> None:
        query = f"SELECT {self.bare.columns} FROM candles WHERE {of('one')} ORDER BY timestamp"
        self.compare(
            "get_range 1,000,000",
            lambda: self.run(self.candles.get_range(key("one"), *ALWAYS)),
            lambda: self.bare.read(query, MILLION),
        )

    def day(self) -> None:
        where = f"{of('ten')} AND {between(DAY, DAY_END)}"
        query = f"SELECT {self.bare.columns} FROM candles WHERE {where} ORDER BY timestamp"
        self.compare(
            "one day of 10,000,000",
            lambda: self.run(self.candles.get_range(key("ten"), DAY, DAY_END)),
            lambda: self.bare.read(query),
            25,
        )

    def latest(self) -> None:
        for symbol, state in (("ten", "merged"), ("two", "duplicates waiting")):
            for count in (1, 100):
                final = "" if symbol == "ten" else "FINAL"  # or the bare answer is wrong
                query = (
                    f"SELECT {self.bare.columns} FROM candles {final} WHERE {of(symbol)}"
                    f" ORDER BY timestamp DESC LIMIT {count}"
                )
                self.compare(
                    f"latest {count}, {state}",
                    lambda c=count, s=symbol: self.run(self.candles.get_latest(key(s), c)),  # type: ignore[misc]
                    lambda q=query: self.bare.read(q),  # type: ignore[misc]
                    15,
                )

    def aggregates(self) -> None:
        for symbol, state in (("ten", "10,000,000"), ("two", "duplicates waiting")):
            where = f"candles FINAL WHERE {of(symbol)}"
            self.compare(
                f"coverage, {state}",
                lambda s=symbol: self.run(self.candles.get_coverage(key(s))),  # type: ignore[misc]
                lambda w=where: self.bare.read(  # type: ignore[misc]
                    "SELECT toUnixTimestamp64Milli(min(timestamp)),"
                    f" toUnixTimestamp64Milli(max(timestamp)) FROM {w}"
                ),
            )
            self.compare(
                f"count, {state}",
                lambda s=symbol: self.run(self.candles.count(key(s))),  # type: ignore[misc]
                lambda w=where: self.bare.read(f"SELECT count() FROM {w}"),  # type: ignore[misc]
            )

    def resample(self) -> None:
        query = (
            "SELECT intDiv(toUnixTimestamp64Milli(timestamp), 3600000) AS hour,"
            " argMin(reinterpret(open, 'Int64'), timestamp), max(reinterpret(high, 'Int64')),"
            " min(reinterpret(low, 'Int64')), argMax(reinterpret(close, 'Int64'), timestamp),"
            f" sum(volume) FROM candles FINAL WHERE {of('one')}"
            f" AND {between(*ALWAYS)} GROUP BY hour ORDER BY hour"
        )
        self.compare(
            "resample 1,000,000 to hours",
            lambda: self.run(self.candles.resample(key("one"), Timeframe.H1, *ALWAYS)),
            lambda: self.bare.read(query),
        )

    def second_read(self) -> None:
        series = self.run(self.cached.get_range(key("one"), *ALWAYS))
        self.compare(
            "second read of 1,000,000, floor: copying the columns",
            lambda: self.run(self.cached.get_range(key("one"), *ALWAYS)),
            lambda: [column.copy() for column in series.columns],
            25,
        )

    def size(self) -> None:
        query = (
            "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts"
            " WHERE active AND database = currentDatabase() AND table = 'candles'"
        )
        report(f"clickhouse {self.where}: bytes a candle", bytes=self.manager.execute(query)[0][0])


def embedded(path: Path) -> None:
    manager = ClickHouseManager(embedded_path=str(path))
    connection = engine.acquire(str(path))
    connection.query("CREATE DATABASE IF NOT EXISTS jts")
    connection.query("USE jts")
    connection.query("SET async_insert = 0")
    bench = Bench("embedded", manager, BareChdb(connection, "bare"))
    try:
        bench.write()
        bench.fill()
        bench.size()
        for work in (bench.range, bench.day, bench.latest, bench.aggregates, bench.resample):
            work()
        bench.second_read()
    finally:
        bench.close()
        engine.release(connection)


def tcp(path: Path) -> None:
    with ServerProcess(path) as server:
        manager = ClickHouseManager(host=server.host, port=server.port)
        bare = BareDriver(server.port, "bare")
        bench = Bench("TCP", manager, bare)
        bench.write()
        series = make_candles(key("one"), MILLION)
        bench.run(bench.candles.save_many(key("one"), series))
        manager.execute("OPTIMIZE TABLE candles FINAL")
        bench.range()
        bench.compare(
            "200 small statements",
            lambda: [manager.execute("SELECT 1") for _ in range(200)],
            lambda: [bare.client.execute("SELECT 1") for _ in range(200)],
        )
        bench.close()
        bare.client.disconnect()


def memory(path: Path) -> None:
    """The highest resident size while ten million candles are written and streamed."""
    for phase in ("write", "stream"):
        command = [sys.executable, __file__, "--memory", phase, str(path)]
        grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        report(f"clickhouse embedded: MB above the start, {phase} 10,000,000", mb=float(grown))


def measure_memory(phase: str, path: str) -> None:
    with ClickHouseManager(embedded_path=path) as manager:
        tables.build().metadata.create_all(manager.engine)
        candles = ClickHouseCandleRepository(manager)
        if phase == "write":
            asyncio.run(candles.save_many(key("warm"), make_candles(key("warm"), 100_000)))
            series = make_candles(key("ten"), 10 * MILLION)
        else:
            asyncio.run(candles.get_range(key("warm"), *ALWAYS))
        start = _resident()
        peak = _Peak()
        if phase == "write":
            asyncio.run(candles.save_many(key("ten"), series))
        else:
            assert asyncio.run(_streamed(candles)) == 10 * MILLION
        print((peak.stop() - start) / 2**20)


async def _streamed(candles: ClickHouseCandleRepository) -> int:
    return sum([len(block) async for block in candles.stream(key("ten"), *ALWAYS)])


class _Peak:
    """Watches this process's resident size."""

    def __init__(self) -> None:
        self._highest = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self._highest

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._highest = max(self._highest, _resident())


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth(path: Path) -> None:
    """A day out of a table of one million rows (the floor) and of fifty."""
    manager = ClickHouseManager(embedded_path=str(path))
    tables.build().metadata.create_all(manager.engine)
    candles = ClickHouseCandleRepository(manager)
    loop = asyncio.new_event_loop()
    series = make_candles(key("any"), MILLION)
    day = (START + timedelta(days=300), START + timedelta(days=301))

    def read() -> object:
        return loop.run_until_complete(candles.get_range(key("S0"), *day))

    taken = []
    for rows in (1, 50):
        for number in range(rows):
            loop.run_until_complete(
                candles.save_many(key(f"S{number}"), renamed(series, f"S{number}"))
            )
        manager.execute("OPTIMIZE TABLE candles FINAL")
        taken.append(compare(f"clickhouse embedded: one day of {rows} million", read, read, 25))
    loop.close()
    manager.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        embedded(Path(folder, "embedded"))
        tcp(Path(folder, "tcp"))
        memory(Path(folder, "memory"))
        if "--long" in sys.argv:
            growth(Path(folder, "growth"))


if __name__ == "__main__":
    if "--memory" in sys.argv:
        measure_memory(*sys.argv[2:])
    else:
        main()
