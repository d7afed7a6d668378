"""What `peers.py` runs in each venv: one store, the same work, a line of JSON with medians in ms.

It imports nothing of ours but in the run that measures ours.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import numpy as np

Table = dict[str, Any]
START_MS = 1_704_153_600_000
MINUTE = 60_000
DAY_AT = 3_000 * 1_440
NAMES = ("timestamp", "open", "high", "low", "close", "volume")


class Store(Protocol):
    """Prices are handed over as integers times 10**4; a store keeps what its users would."""

    def write(self, symbol: str, rows: Table) -> object: ...
    def range(self, symbol: str, first: int, last: int) -> object: ...
    def latest(self, symbol: str) -> object: ...
    def ends(self, symbol: str) -> object: ...
    def hours(self, symbol: str, first: int, last: int) -> object: ...


def candles(rows: int) -> Table:
    random = np.random.default_rng(0)
    close = (np.maximum(np.cumsum(random.integers(-3, 4, rows)) + 700, 10)) * 1_000_000
    spread = random.integers(0, 4, (2, rows)) * 1_000_000
    opening = close + random.integers(-3, 4, rows) * 1_000_000
    return {
        "timestamp": START_MS + np.arange(rows, dtype=np.int64) * MINUTE,
        "open": opening,
        "high": np.maximum(opening, close) + spread[0],
        "low": np.minimum(opening, close) - spread[1],
        "close": close,
        "volume": random.integers(1, 1_000_000, rows).astype(np.uint64),
    }


class Ours:
    def __init__(self, place: Path) -> None:
        from jts_storage.clickhouse import tables
        from jts_storage.clickhouse.candles import ClickHouseCandleRepository
        from jts_storage.clickhouse.manager import ClickHouseManager

        manager = ClickHouseManager(embedded_path=str(place / "store"))
        tables.build().metadata.create_all(manager.engine)
        self._candles = ClickHouseCandleRepository(manager)
        self._loop = asyncio.new_event_loop()

    def _key(self, symbol: str) -> Any:
        from jts_storage.domain.candle import SeriesKey
        from jts_storage.domain.enums import Timeframe

        return SeriesKey(symbol, Timeframe.M1, "KRX")

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def write(self, symbol: str, rows: Table) -> object:
        return self._run(self._candles.save_many(self._key(symbol), rows))

    def range(self, symbol: str, first: int, last: int) -> object:
        return self._run(self._candles.get_range(self._key(symbol), _time(first), _time(last)))

    def latest(self, symbol: str) -> object:
        return self._run(self._candles.get_latest(self._key(symbol)))

    def ends(self, symbol: str) -> object:
        key = self._key(symbol)
        return self._run(self._candles.get_coverage(key)), self._run(self._candles.count(key))

    def hours(self, symbol: str, first: int, last: int) -> object:
        from jts_storage.domain.enums import Timeframe

        ends = _time(first), _time(last)
        return self._run(self._candles.resample(self._key(symbol), Timeframe.H1, *ends))


class Arctic:
    def __init__(self, place: Path) -> None:
        import arcticdb  # type: ignore[import-not-found]

        self._adb = arcticdb
        uri = f"lmdb://{place / 'store'}?map_size=8GB"
        self._library = arcticdb.Arctic(uri).get_library("candles", create_if_missing=True)

    def write(self, symbol: str, rows: Table) -> object:
        import pandas as pd

        data = {n: rows[n] if n == "volume" else rows[n] / 10_000 for n in NAMES[1:]}
        frame = pd.DataFrame(data, index=pd.DatetimeIndex(rows["timestamp"].view("M8[ms]")))
        return self._library.update(symbol, frame, upsert=True)

    def range(self, symbol: str, first: int, last: int) -> object:
        import pandas as pd

        ends = (pd.Timestamp(first, unit="ms"), pd.Timestamp(last, unit="ms"))
        return self._library.read(symbol, date_range=ends).data

    def latest(self, symbol: str) -> object:
        return self._library.tail(symbol, 1).data

    def ends(self, symbol: str) -> object:
        found = self._library.get_description(symbol)
        return found.date_range, found.row_count

    def hours(self, symbol: str, first: int, last: int) -> object:
        names = dict(zip(NAMES[1:], ("first", "max", "min", "last", "sum"), strict=True))
        query = self._adb.QueryBuilder().resample("1h").agg(names)
        return self._library.read(symbol, query_builder=query).data


class Duck:
    def __init__(self, place: Path) -> None:
        import duckdb  # type: ignore[import-not-found]

        self._db = duckdb.connect(str(place / "store"))
        prices = ", ".join(f"{name} DECIMAL(18, 4)" for name in NAMES[1:5])
        self._db.execute(
            f"CREATE TABLE c (symbol VARCHAR, ts BIGINT, {prices}, volume UBIGINT,"
            " PRIMARY KEY (symbol, ts))"
        )

    def write(self, symbol: str, rows: Table) -> object:
        import pyarrow as pa

        batch = pa.table(rows)  # noqa: F841 - duckdb finds it by name
        prices = ", ".join(f"({name} / 10000)::DECIMAL(18, 4)" for name in NAMES[1:5])
        return self._db.execute(
            f"INSERT OR REPLACE INTO c SELECT '{symbol}', timestamp, {prices}, volume FROM batch"
        )

    def range(self, symbol: str, first: int, last: int) -> object:
        columns = ", ".join(("ts", *NAMES[1:]))
        found = self._db.execute(
            f"SELECT {columns} FROM c WHERE symbol = '{symbol}'"
            f" AND ts BETWEEN {first} AND {last} ORDER BY ts"
        )
        return found.to_arrow_table() if hasattr(found, "to_arrow_table") else found.arrow()

    def latest(self, symbol: str) -> object:
        return self._db.execute(
            f"SELECT * FROM c WHERE symbol = '{symbol}' ORDER BY ts DESC LIMIT 1"
        ).fetchall()

    def ends(self, symbol: str) -> object:
        return self._db.execute(
            f"SELECT min(ts), max(ts), count(*) FROM c WHERE symbol = '{symbol}'"
        ).fetchall()

    def hours(self, symbol: str, first: int, last: int) -> object:
        return self._db.execute(
            "SELECT ts // 3600000 AS h, arg_min(open, ts), max(high), min(low),"
            f" arg_max(close, ts), sum(volume) FROM c WHERE symbol = '{symbol}'"
            " GROUP BY h ORDER BY h"
        ).fetchnumpy()


class Parquet:
    """One file a symbol: a write reads the file, merges and replaces it."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def _path(self, symbol: str) -> Path:
        return self._place / f"{symbol}.parquet"

    def write(self, symbol: str, rows: Table) -> object:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._path(symbol)
        if path.exists():
            old = pq.read_table(path)
            kept = ~np.isin(old["timestamp"].to_numpy(), rows["timestamp"])
            old_rows = {name: old[name].to_numpy()[kept] for name in NAMES}
            rows = {name: np.concatenate([old_rows[name], rows[name]]) for name in NAMES}
        pq.write_table(
            pa.table(rows),
            path,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            column_encoding=dict.fromkeys(NAMES, "DELTA_BINARY_PACKED"),
            row_group_size=65_536,
        )
        return path

    def range(self, symbol: str, first: int, last: int) -> object:
        import pyarrow.parquet as pq

        filters = [("timestamp", ">=", first), ("timestamp", "<=", last)]
        table = pq.read_table(self._path(symbol), filters=filters)
        return [table[name].to_numpy() for name in NAMES]

    def latest(self, symbol: str) -> object:
        import pyarrow.parquet as pq

        file = pq.ParquetFile(self._path(symbol))
        group = file.read_row_group(file.num_row_groups - 1)
        return group.slice(group.num_rows - 1)

    def ends(self, symbol: str) -> object:
        import pyarrow.parquet as pq

        found = pq.read_metadata(self._path(symbol))
        first, last = found.row_group(0), found.row_group(found.num_row_groups - 1)
        return first.column(0).statistics.min, last.column(0).statistics.max, found.num_rows

    def hours(self, symbol: str, first: int, last: int) -> object:
        import pandas as pd

        frame = pd.read_parquet(self._path(symbol))
        groups = frame.groupby(frame["timestamp"] // 3_600_000)
        names = dict(zip(NAMES[1:], ("first", "max", "min", "last", "sum"), strict=True))
        return groups.agg(names)


class Nautilus:
    """Its catalog keeps objects, so writing begins with making them."""

    def __init__(self, place: Path) -> None:
        persistence = import_module("nautilus_trader.persistence.catalog")
        self._catalog = persistence.ParquetDataCatalog(str(place))
        self._data = import_module("nautilus_trader.model.data")

    def _type(self, symbol: str) -> Any:
        return self._data.BarType.from_str(f"{symbol}.KRX-1-MINUTE-LAST-EXTERNAL")

    def write(self, symbol: str, rows: Table) -> object:
        objects = import_module("nautilus_trader.model.objects")
        bar_type = self._type(symbol)
        prices = [
            [objects.Price(p / 10_000, 4) for p in rows[name].tolist()] for name in NAMES[1:5]
        ]
        volumes = [objects.Quantity.from_int(v) for v in rows["volume"].tolist()]
        times = (rows["timestamp"] * 1_000_000).tolist()
        bars = [
            self._data.Bar(bar_type, *row, volume, at, at)
            for *row, volume, at in zip(*prices, volumes, times, strict=True)
        ]
        return self._catalog.write_data(bars, skip_disjoint_check=True)

    def range(self, symbol: str, first: int, last: int) -> object:
        return self._catalog.bars(
            [str(self._type(symbol))], start=first * 1_000_000, end=last * 1_000_000
        )

    def latest(self, symbol: str) -> object:
        last = START_MS + (10_000_000 - 1) * MINUTE
        return self.range(symbol, last - 60 * MINUTE, last)

    def ends(self, symbol: str) -> object:
        return self._catalog.get_intervals(self._data.Bar, str(self._type(symbol)))

    def hours(self, symbol: str, first: int, last: int) -> object:
        return None  # it has no such thing


STORES: dict[str, Callable[[Path], Store]] = {
    "ours": Ours,
    "arcticdb": Arctic,
    "duckdb": Duck,
    "parquet": Parquet,
    "nautilus": Nautilus,
}


def _time(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def measure(work: Callable[[int], object], runs: int) -> float:
    taken = []
    for run in range(runs):
        begun = perf_counter()
        work(run)
        taken.append((perf_counter() - begun) * 1_000)
    return median(taken)


def main(who: str, place: Path) -> None:
    store = STORES[who](place)
    is_objects = who == "nautilus"
    small, big = candles(100_000), candles(1_000_000)
    huge = 1_000_000 if is_objects else 10_000_000
    store.write("warm", candles(1_000))
    figures = {
        "W1": measure(lambda run: store.write(f"w{run}", small), 5),
        "W3": measure(lambda run: store.write(f"w{run}", small), 5),
    }
    store.write("one", big)
    for start in range(0, huge, 1_000_000):
        part = candles(1_000_000)
        part["timestamp"] = part["timestamp"] + start * MINUTE
        store.write("ten", part)
    first, last = START_MS, START_MS + (1_000_000 - 1) * MINUTE
    day = START_MS + min(DAY_AT, huge - 2_000) * MINUTE
    figures |= {
        # Each range reaches further than those before it, so that none of them can answer for it.
        "R1": measure(lambda run: store.range("one", first, last - (5 - run) * MINUTE), 5),
        "R1b": measure(lambda _: store.range("one", first, last), 5),
        "R2": measure(lambda _: store.range("ten", day, day + 1_439 * MINUTE), 9),
        "R3": measure(lambda _: store.latest("ten"), 9),
        "R4": measure(lambda _: store.ends("ten"), 5),
    }
    if not is_objects:
        figures["R5"] = measure(lambda _: store.hours("one", first, last), 3)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
