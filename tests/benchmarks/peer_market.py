"""What `peers.py` runs in each venv for a whole market: one store, a line of JSON with medians.

2,500 symbols of 500 days and 1,560 minutes. U1 one new minute of all, U2 250 days of all as one
frame (at once: while what was written is still merged), U3 the latest bar of each, U4 200 symbols
of four days of minutes to days, U5 390 minutes of a random symbol and day, in milliseconds.
ArcticDB keeps a symbol by itself, so its U1 is of 100 symbols, times 25. It imports nothing of ours
but in the run that measures ours.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any, Protocol

import numpy as np
from peer_work import MINUTE, NAMES, START_MS, measure

SYMBOLS, DAYS, MINUTES, ASKED_DAYS = 2_500, 500, 1_560, 250
DAY = 1_440 * MINUTE
FEW = 200
Rows = dict[str, Any]


class Market(Protocol):
    """Rows are of one table: columns, with the number of the symbol; integers times 10**4."""

    def write(self, table: str, rows: Rows) -> object: ...
    def minute(self, rows: Rows) -> object: ...
    def days(self, first: int, last: int) -> object: ...
    def latest(self) -> object: ...
    def coarser(self, first: int, last: int) -> object: ...
    def point(self, symbol: int, first: int, last: int) -> object: ...

    def rest(self) -> None:
        """Wait until nothing is done in the background of what was written."""


def name_of(symbol: int) -> str:
    return f"S{symbol:05}"


def market(count: int, step: int, first: int = START_MS) -> Rows:
    random = np.random.default_rng(1)
    rows = SYMBOLS * count
    close = 7_000_000 + np.cumsum(random.integers(-50, 51, rows)) % 5_000_000
    return {
        "symbol": np.repeat(np.arange(SYMBOLS, dtype=np.int32), count),
        "timestamp": np.tile(first + np.arange(count, dtype=np.int64) * step, SYMBOLS),
        "open": close,
        "high": close + 100,
        "low": close - 100,
        "close": close + 10,
        "volume": random.integers(1, 1_000_000, rows).astype(np.uint64),
    }


class Ours:
    def __init__(self, place: Path) -> None:
        from jts_storage import Storage, StorageSettings

        self._loop = asyncio.new_event_loop()
        self._storage = Storage.open(StorageSettings(data_dir=place))
        self._run(self._storage.open_stores())

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self._run(self._storage.close())

    def write(self, table: str, rows: Rows) -> object:
        from jts_storage import CandlePanel, SeriesKey, Timeframe
        from jts_storage.domain.columns import Columns

        timeframe = Timeframe(table)
        keys = [SeriesKey(name_of(n), timeframe, "KRX") for n in range(SYMBOLS)]
        offsets = np.arange(SYMBOLS + 1) * (len(rows["symbol"]) // SYMBOLS)
        columns = Columns(*(rows[name] for name in NAMES))
        return self._run(self._save(CandlePanel.trusted(timeframe, keys, offsets, columns)))

    async def _save(self, panel: Any) -> None:
        async with self._storage.unit_of_work() as uow:
            await uow.candles.save_panel(panel)
            await uow.commit()

    def minute(self, rows: Rows) -> object:
        return self.write("1m", rows)

    def days(self, first: int, last: int) -> object:
        from jts_storage import Timeframe

        ends = _time(first), _time(last)
        return self._run(self._storage.candles.get_panel(Timeframe.D1, *ends))

    def latest(self) -> object:
        from jts_storage import Timeframe

        return self._run(self._storage.candles.get_latest_panel(Timeframe.M1))

    def coarser(self, first: int, last: int) -> object:
        from jts_storage import SeriesKey, Timeframe

        keys = [SeriesKey(name_of(n), Timeframe.M1, "KRX") for n in range(FEW)]
        asked = (Timeframe.M1, Timeframe.D1, _time(first), _time(last))
        return self._run(self._storage.candles.resample_panel(*asked, keys=keys))

    def point(self, symbol: int, first: int, last: int) -> object:
        from jts_storage import SeriesKey, Timeframe

        key = SeriesKey(name_of(symbol), Timeframe.M1, "KRX")
        return self._run(self._storage.candles.get_range(key, _time(first), _time(last)))

    def rest(self) -> None:
        while self._storage.clickhouse.execute("SELECT count() FROM system.merges") != [(0,)]:
            sleep(0.1)


class Duck(Market):
    def __init__(self, place: Path) -> None:
        import duckdb  # type: ignore[import-not-found]

        self._db = duckdb.connect(str(place / "store"))
        prices = ", ".join(f"{name} DECIMAL(18, 4)" for name in NAMES[1:5])
        for table in ("1d", "1m"):
            self._db.execute(
                f'CREATE TABLE "{table}" (symbol VARCHAR, ts BIGINT, {prices}, volume UBIGINT)'
            )

    def write(self, table: str, rows: Rows) -> object:
        import pyarrow as pa

        batch = pa.table(rows)  # noqa: F841 - duckdb finds it by name
        prices = ", ".join(f"({name} / 10000)::DECIMAL(18, 4)" for name in NAMES[1:5])
        return self._db.execute(
            f"INSERT INTO \"{table}\" SELECT printf('S%05d', symbol), timestamp, {prices},"
            " volume FROM batch"
        )

    def minute(self, rows: Rows) -> object:
        return self.write("1m", rows)

    def days(self, first: int, last: int) -> object:
        return self._arrow(f'FROM "1d" WHERE ts BETWEEN {first} AND {last} ORDER BY symbol, ts')

    def latest(self) -> object:
        query = "SELECT symbol, max(ts), arg_max(close, ts), arg_max(volume, ts) FROM"
        return self._db.execute(f'{query} "1m" GROUP BY symbol ORDER BY symbol').fetchnumpy()

    def coarser(self, first: int, last: int) -> object:
        return self._db.execute(
            "SELECT symbol, ts // 86400000 AS d, arg_min(open, ts), max(high), min(low),"
            f" arg_max(close, ts), sum(volume) FROM \"1m\" WHERE symbol < '{name_of(FEW)}'"
            f" AND ts BETWEEN {first} AND {last} GROUP BY symbol, d ORDER BY symbol, d"
        ).fetchnumpy()

    def point(self, symbol: int, first: int, last: int) -> object:
        where = f"symbol = '{name_of(symbol)}' AND ts BETWEEN {first} AND {last}"
        return self._arrow(f'FROM "1m" WHERE {where} ORDER BY ts')

    def _arrow(self, query: str) -> object:
        found = self._db.execute(query)
        return found.to_arrow_table() if hasattr(found, "to_arrow_table") else found.arrow()


class Arctic(Market):
    def __init__(self, place: Path) -> None:
        import arcticdb  # type: ignore[import-not-found]

        self._adb = arcticdb
        store = arcticdb.Arctic(f"lmdb://{place / 'store'}?map_size=16GB")
        names = ("1d", "1m")
        self._tables = {name: store.get_library(name, create_if_missing=True) for name in names}

    def _frame(self, rows: Rows, place: slice) -> Any:
        import pandas as pd

        data = {n: rows[n][place] / (1 if n == "volume" else 10_000) for n in NAMES[1:]}
        return pd.DataFrame(data, index=pd.DatetimeIndex(rows["timestamp"][place].view("M8[ms]")))

    def write(self, table: str, rows: Rows) -> object:
        count = len(rows["symbol"]) // SYMBOLS
        payload = [
            self._adb.WritePayload(name_of(n), self._frame(rows, slice(n * count, (n + 1) * count)))
            for n in range(SYMBOLS)
        ]
        return self._tables[table].write_batch(payload)

    def minute(self, rows: Rows) -> object:
        for symbol in range(SYMBOLS // 25):
            frame = self._frame(rows, slice(symbol, symbol + 1))
            self._tables["1m"].append(name_of(symbol), frame)
        return None

    def days(self, first: int, last: int) -> object:
        import pandas as pd

        found = self._read("1d", range(SYMBOLS), first, last)
        return pd.concat([each.data for each in found], keys=[each.symbol for each in found])

    def latest(self) -> object:
        for symbol in range(SYMBOLS):
            self._tables["1m"].tail(name_of(symbol), 1)
        return None

    def coarser(self, first: int, last: int) -> object:
        names = dict(zip(NAMES[1:], ("first", "max", "min", "last", "sum"), strict=True))
        query = self._adb.QueryBuilder().resample("1D").agg(names)
        return [self._tables["1m"].read(name_of(n), query_builder=query).data for n in range(FEW)]

    def point(self, symbol: int, first: int, last: int) -> object:
        return self._read("1m", [symbol], first, last)

    def _read(self, table: str, symbols: Any, first: int, last: int) -> Any:
        import pandas as pd

        ends = (pd.Timestamp(first, unit="ms"), pd.Timestamp(last, unit="ms"))
        asked = [self._adb.ReadRequest(name_of(n), date_range=ends) for n in symbols]
        return self._tables[table].read_batch(asked)


MARKETS: dict[str, Callable[[Path], Market]] = {"ours": Ours, "duckdb": Duck, "arcticdb": Arctic}


def _time(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def main(who: str, place: Path) -> None:
    store = MARKETS[who](place)
    store.write("1d", market(DAYS, DAY))
    store.write("1m", market(MINUTES, MINUTE))
    random = np.random.default_rng(3)
    points = [(int(random.integers(SYMBOLS)), int(random.integers(4))) for _ in range(100)]
    last_day = START_MS + (DAYS - 1) * DAY
    end = START_MS + (MINUTES - 1) * MINUTE

    def point(run: int) -> object:
        symbol, day = points[run]
        first = START_MS + day * 390 * MINUTE
        return store.point(symbol, first, first + 389 * MINUTE)

    minutes = [market(1, MINUTE, end + (run + 1) * MINUTE) for run in range(9)]

    def days(_: int) -> object:
        return store.days(last_day - (ASKED_DAYS - 1) * DAY, last_day)

    at_once = measure(days, 7)
    store.rest()
    figures = {
        "U2 at once": at_once,
        "U2": measure(days, 7),
        "U3": measure(lambda _: store.latest(), 3),
        "U4": measure(lambda _: store.coarser(START_MS, end), 5),
        "U5": measure(point, 100),
        "U1": measure(lambda run: store.minute(minutes[run]), 9) * (25 if who == "arcticdb" else 1),
    }
    if isinstance(store, Ours):
        store.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
