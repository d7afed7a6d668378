"""What a small read costs, over bare chDB in the same process: ranges, ends, lists, many readers.

`python tests/benchmarks/bench_reads.py [millions of rows]`
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness import report

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.blocks import DictionaryColumn, MemoryReader, read_block
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.transport import READ_SETTINGS
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.testing.factories import START, make_candles

ROWS_OF_A_SERIES = 4_000
MINUTES = 390
READERS, SECONDS = 64, 3.0
MINUTE = timedelta(minutes=1)
LIVE = SeriesKey("LIVE", Timeframe.M1, "KRX")
Work = Callable[[], Awaitable[object]]

_FIRST = checks.to_ms(START)
_COLUMNS = "timestamp, open, high, low, close, volume"
_OF_KEY = "symbol = '{}' AND exchange = 'KRX' AND timeframe = '1m'"
_KEYS = "symbol, exchange, timeframe"
_FILL = f"""INSERT INTO candles ({_KEYS}, {_COLUMNS}, version)
SELECT concat('S', leftPad(toString(intDiv(number, {ROWS_OF_A_SERIES})), 5, '0')), 'KRX', '1m',
  fromUnixTimestamp64Milli(toInt64({_FIRST} + number % {ROWS_OF_A_SERIES} * 60000), 'UTC'),
  price, price + 1, price - 1, price, cityHash64(number) % 1000000, 1
FROM (SELECT number, toDecimal64(70 + cityHash64(number) % 1000 / 100, 4) AS price
      FROM numbers({{}}))"""


class Reads:
    """Random small reads of one store, ours and as bare statements."""

    def __init__(self, manager: ClickHouseManager, series: int) -> None:
        self._manager, self._series = manager, series
        self.cold = ClickHouseCandleRepository(manager, cache_bytes=0)
        self.holding = ClickHouseCandleRepository(manager)
        self._random = random.Random(1)

    def key(self) -> SeriesKey:
        return SeriesKey(f"S{self._random.randrange(self._series):05}", Timeframe.M1, "KRX")

    def minute(self) -> int:
        return self._random.randrange(ROWS_OF_A_SERIES - MINUTES)

    async def day(self, candles: ClickHouseCandleRepository, key: SeriesKey, minute: int) -> object:
        start = START + minute * MINUTE
        return await candles.get_range(key, start, start + (MINUTES - 1) * MINUTE)

    async def bare(self, query: str) -> object:
        """The columns of a statement in a thread, as the kit has them, and nothing else."""
        return await self._manager.run(self._ask, query)

    async def bare_day(self) -> object:
        first = _FIRST + self.minute() * 60_000
        moments = (first, first + (MINUTES - 1) * 60_000)
        between = " AND ".join(f"fromUnixTimestamp64Milli(toInt64({ms}), 'UTC')" for ms in moments)
        of_key = _OF_KEY.format(self.key().symbol)
        return await self.bare(
            f"SELECT {_COLUMNS} FROM candles WHERE {of_key} AND timestamp BETWEEN {between}"
            " ORDER BY timestamp"
        )

    def _ask(self, query: str) -> list[Any]:
        with self._manager.transport() as transport:
            connection: Any = transport
            connection.apply(READ_SETTINGS)
            memory = connection._connection.query(query, "Native").get_memview()
            reader, found = MemoryReader(memory.view()), []
            while not reader.exhausted:
                block = read_block(reader, connection._context, raw=True)
                found.append([_owned(array) for array in block.arrays])
            return found


def _owned(column: Any) -> Any:
    return column.to_array() if isinstance(column, DictionaryColumn) else column.copy()


async def compare(name: str, ours: Work, floor: Work | None, runs: int) -> None:
    """Run both in turn and print the medians."""
    taken: dict[str, list[float]] = {"seconds": [], "floor_seconds": []}
    for run in range(runs + 2):
        for field, work in (("floor_seconds", floor), ("seconds", ours)):
            if work is not None:
                begin = time.perf_counter()
                await work()
                if run > 1:
                    taken[field].append(time.perf_counter() - begin)
    figures = {field: statistics.median(times) for field, times in taken.items() if times}
    figures["p99"] = sorted(taken["seconds"])[int(len(taken["seconds"]) * 0.99)]
    if floor is not None:
        figures["ratio"] = figures["seconds"] / figures["floor_seconds"]
    report(name, **figures)


async def crowd(name: str, read: Work, write: Work | None = None) -> None:
    """64 readers, perhaps beside a writer: how many reads a second, and how long each takes."""
    end = time.perf_counter() + SECONDS
    taken: dict[str, list[float]] = {"read": [], "write": []}

    async def repeat(what: str, work: Work, pause: float | None) -> None:
        while time.perf_counter() < end:
            begin = time.perf_counter()
            await work()
            taken[what].append(time.perf_counter() - begin)
            if pause is not None:
                await asyncio.sleep(pause)

    tasks = [repeat("read", read, None) for _ in range(READERS)]
    await asyncio.gather(*tasks, *([repeat("write", write, 0.05)] if write else []))
    p50, p99 = (sorted(taken["read"])[int(len(taken["read"]) * part)] for part in (0.5, 0.99))
    figures = {
        "a_second": len(taken["read"]) / SECONDS,
        "p50": p50,
        "p99": p99,
        "spread": p99 / p50,
    }
    if write:
        figures["write_p50"] = statistics.median(taken["write"])
    report(name, **figures)


async def run(millions: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        ClickHouseManager(embedded_path=str(Path(folder) / "store"), fsync=False) as manager,
    ):
        tables.build().metadata.create_all(manager.engine)
        rows = millions * 1_000_000
        manager.execute(_FILL.format(rows))
        manager.execute("OPTIMIZE TABLE candles FINAL")
        reads = Reads(manager, rows // ROWS_OF_A_SERIES)
        await points(reads, f"{millions}m")
        await summaries(reads, f"{millions}m")
        await crowds(reads, f"{millions}m")


async def points(reads: Reads, of: str) -> None:
    key, minute = reads.key(), reads.minute()
    cold, holding = reads.cold, reads.holding
    await compare(
        f"{of}_day_cold",
        lambda: reads.day(cold, reads.key(), reads.minute()),
        reads.bare_day,
        60,
    )
    await compare(f"{of}_day_held", lambda: reads.day(holding, key, minute), None, 500)
    await holding.get_range(key, START, START + ROWS_OF_A_SERIES * MINUTE)
    await compare(f"{of}_day_sliced", lambda: reads.day(holding, key, reads.minute()), None, 500)


async def summaries(reads: Reads, of: str) -> None:
    cold, holding = reads.cold, reads.holding
    of_key = f"FROM candles WHERE {_OF_KEY.format(reads.key().symbol)}"
    newest = f"SELECT {_COLUMNS} {of_key} ORDER BY timestamp DESC LIMIT 1"
    ends = f"SELECT min(timestamp), max(timestamp) {of_key}"
    asked: dict[str, tuple[str, Callable[[Any, SeriesKey], Awaitable[object]]]] = {
        "latest": (newest, lambda candles, key: candles.get_latest(key)),
        "coverage": (ends, lambda candles, key: candles.get_coverage(key)),
        "count": (f"SELECT count() {of_key}", lambda candles, key: candles.count(key)),
        "list_keys": (
            f"SELECT DISTINCT {_KEYS} FROM candles ORDER BY {_KEYS}",
            lambda candles, _: candles.list_keys(limit=100_000),
        ),
    }
    key = reads.key()
    for name, (query, ask) in asked.items():

        async def floor(query: str = query) -> object:
            return await reads.bare(query)

        async def first(ask: Any = ask) -> object:
            return await ask(cold, reads.key())

        async def again(ask: Any = ask) -> object:
            return await ask(holding, key)

        await compare(f"{of}_{name}_cold", first, floor, 15)
        await compare(f"{of}_{name}_held", again, None, 500)


async def crowds(reads: Reads, of: str) -> None:
    written = 0

    async def write() -> None:
        nonlocal written
        written += 1
        await reads.cold.save_many(LIVE, make_candles(LIVE, 1, start=START + written * MINUTE))

    async def ours() -> object:
        return await reads.day(reads.cold, reads.key(), reads.minute())

    for beside, writer in (("", None), ("_beside_a_writer", write)):
        await crowd(f"{of}_64_readers_bare{beside}", reads.bare_day, writer)
        await crowd(f"{of}_64_readers{beside}", ours, writer)


def main() -> None:
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 1))


if __name__ == "__main__":
    main()
