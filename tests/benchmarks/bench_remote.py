"""What a gateway costs: reads and commits through it beside the same in the gateway's process.

The gateway is a process of its own over embedded stores. It measures its own reads when the client
asks, in turn with the client's. Beside a million candles stands a bare grpc.aio server that sends
the same bytes ready made, Arrow Flight, which does, and clickhouse-driver over TCP, which has them
as columns of NumPy from the embedded engine behind ClickHouse's protocol.

Processor time is that of both ends together, without mongod's: on a machine with much else to do it
says more than the clock.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import clickhouse_driver
import grpc
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.flight as flight
from grpc import aio
from harness import report

from jts_storage import (
    CandlePanel,
    SeriesKey,
    Storage,
    StorageSettings,
    Timeframe,
    new_unit_id,
)
from jts_storage.domain import checks
from jts_storage.domain.columns import Columns
from jts_storage.remote.frames import batches_of
from jts_storage.testing.clickhouse_server import ServerProcess
from jts_storage.testing.factories import START

ROWS, DAYS, SYMBOLS = 1_000_000, 250, 2_500
RUNS, SMALL_RUNS, CLIENTS = 9, 300, 64
KEY = SeriesKey("LONG", Timeframe.M1, "KRX")
BARE = "/bare.Bare/Candles"


def candles(rows: int, keys: list[SeriesKey], step_ms: int) -> CandlePanel:
    stamps = np.tile(checks.to_ms(START) + np.arange(rows) * step_ms, len(keys))
    close = (
        700_000 + np.random.default_rng(1).integers(-5_000, 5_000, len(stamps)).cumsum() % 90_000
    )
    volume = np.full(len(stamps), 1_000, np.uint64)
    columns = Columns.of(stamps, (close, close + 100, close - 100, close + 10), volume)
    offsets = np.arange(len(keys) + 1) * rows
    return CandlePanel.trusted(keys[0].timeframe, keys, offsets, columns)


END = START + timedelta(minutes=ROWS)
DAY_END = START + timedelta(days=DAYS)


async def long_range(storage: Storage) -> object:
    return await storage.candles.get_range(KEY, START, END)


async def panel(storage: Storage) -> object:
    return await storage.candles.get_panel(Timeframe.D1, START, DAY_END)


async def count(storage: Storage) -> object:
    return await storage.candles.count(KEY)


async def day(storage: Storage) -> object:
    return await storage.candles.get_range(KEY, START, START + timedelta(minutes=389))


_committed = 0


async def commit(storage: Storage, unit_id: str | None = None) -> object:
    """390 candles of a day and a checkpoint, new ones each time."""
    global _committed
    _committed += 1
    begin = checks.to_ms(START + timedelta(minutes=390 * _committed))
    stamps = begin + np.arange(390) * 60_000
    close = np.full(390, 700_000 + _committed)
    columns = Columns.of(stamps, (close, close, close, close), np.full(390, 1, np.uint64))
    key = SeriesKey(f"LIVE{_committed % 7}", Timeframe.M1, "KRX")
    async with storage.unit_of_work(id=unit_id) as uow:
        series = CandlePanel.trusted(Timeframe.M1, [key], np.array([0, 390]), columns)
        await uow.candles.save_panel(series)
        await uow.ingestion.checkpoints.save(str(key), {"n": _committed})
        return await uow.commit()


async def commit_with_id(storage: Storage) -> object:
    """With an outcome that can be asked for, which a commit through a gateway always has."""
    return await commit(storage, new_unit_id())


WORK = {
    "range_of_a_million": long_range,
    "panel_of_625000": panel,
    "commit": commit,
    "commit_with_id": commit_with_id,
    "day_held": day,
    "count_held": count,
}
CACHE_BYTES = 16 * 2**20
"""Holds a day, and neither the long range nor the panel."""


async def gateway(folder: Path) -> None:
    """The child: stores, a gateway, and the bare servers; measures when it is told to."""
    from jts_storage.backend import StoreBackend
    from jts_storage.remote.server.gateway import Gateway, Place

    backend = StoreBackend(StorageSettings(data_dir=folder, cache_bytes=CACHE_BYTES, env_file=None))
    async with Storage(backend) as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_panel(candles(ROWS, [KEY], 60_000))
            keys = [SeriesKey(f"S{n:05}", Timeframe.D1, "KRX") for n in range(SYMBOLS)]
            await uow.candles.save_panel(candles(DAYS, keys, 86_400_000))
            await uow.commit()
        served = Gateway(backend, Place("127.0.0.1:0"))
        await served.start()
        ready = list(
            map(bytes, batches_of((await storage.candles.get_range(KEY, START, END)).columns))
        )
        bare, port = await bare_server(ready)
        flying = Flying(ready)
        tell({"gateway": served.address, "bare": port, "flight": flying.port})
        lines = asyncio.Queue[str]()
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
        while name := (await lines.get()).strip():
            tell({"seconds": await seconds(WORK[name], storage)})
        flying.shutdown()
        await bare.stop(0)
        await served.stop()


async def bare_server(ready: list[bytes]) -> tuple[Any, int]:
    async def send(_: bytes, context: Any) -> None:
        for data in ready:
            await context.write(data)

    server = aio.server()
    handler: Any = grpc.unary_stream_rpc_method_handler(send)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bare.Bare", {"Candles": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


SCHEMA = pa.schema(
    [(name, pa.uint64() if name == "volume" else pa.int64()) for name in Columns._fields]
)


class Flying(flight.FlightServerBase):  # type: ignore[misc]
    def __init__(self, ready: list[bytes]) -> None:
        super().__init__("grpc://127.0.0.1:0")
        batches = [pa.ipc.read_record_batch(pa.py_buffer(each), SCHEMA) for each in ready]
        self._table = pa.Table.from_batches(batches)

    def do_get(self, context: Any, ticket: Any) -> Any:
        return flight.RecordBatchStream(self._table)


async def seconds(work: Callable[[Storage], Awaitable[object]], storage: Storage) -> float:
    begin = time.perf_counter()
    await work(storage)
    return time.perf_counter() - begin


def tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def bare_read(channel: Any) -> float:
    begin = time.perf_counter()
    parts = []
    async for data in channel.unary_stream(BARE)(b""):
        batch = pa.ipc.read_record_batch(pa.py_buffer(data), SCHEMA)
        parts.append([column.to_numpy() for column in batch.columns])
    for column in zip(*parts, strict=True):
        np.concatenate(column)
    return time.perf_counter() - begin


def flight_read(client: Any) -> float:
    begin = time.perf_counter()
    table = client.do_get(flight.Ticket(b"")).read_all()
    for column in table.columns:
        column.to_numpy()
    return time.perf_counter() - begin


class Driven:
    """The same million candles in a table of ClickHouse, and a client of its own protocol."""

    def __init__(self, port: int) -> None:
        self._client = clickhouse_driver.Client(
            "127.0.0.1", port, database="jts", settings={"use_numpy": True}
        )
        types = ", ".join(
            f"{name} {'UInt64' if name == 'volume' else 'Int64'}" for name in Columns._fields
        )
        self._client.execute(f"CREATE TABLE driven ({types}) ENGINE = MergeTree ORDER BY timestamp")
        columns = candles(ROWS, [KEY], 60_000).columns
        self._client.execute("INSERT INTO driven VALUES", list(columns), columnar=True)

    def read(self) -> float:
        begin = time.perf_counter()
        found = self._client.execute("SELECT * FROM driven ORDER BY timestamp", columnar=True)
        seconds = time.perf_counter() - begin
        assert len(found[0]) == ROWS
        return seconds


def told(name: str, ours: list[float], other: list[float], beside: str, **more: float) -> None:
    mine, theirs = statistics.median(ours), statistics.median(other)
    report(
        f"remote_{name}",
        ms=round(mine * 1_000, 2),
        **{beside: round(theirs * 1_000, 2)},
        ratio=round(mine / theirs, 2),
        **more,
    )


async def measured(child: subprocess.Popen[str], driven: Driven) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    places = json.loads(child.stdout.readline())
    storage = Storage.open(StorageSettings(url=f"grpc://{places['gateway']}", env_file=None))
    bare = aio.insecure_channel(
        f"127.0.0.1:{places['bare']}", [("grpc.max_receive_message_length", -1)]
    )
    flying = flight.connect(f"grpc://127.0.0.1:{places['flight']}")

    async def local(name: str) -> float:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{name}\n")
        child.stdin.flush()
        return float(json.loads(child.stdout.readline())["seconds"])

    serving = psutil.Process(child.pid)

    def used() -> float:
        """Seconds of the processor that both ends have had so far."""
        times = serving.cpu_times()
        return time.process_time() + times.user + times.system

    async with storage:
        for name, work in WORK.items():
            runs = RUNS if name.startswith(("range", "panel")) else SMALL_RUNS // 3
            await work(storage), await local(name)
            ours, theirs = [], []
            cpu, local_cpu = 0.0, 0.0
            for _ in range(runs):
                before = used()
                theirs.append(await local(name))
                between = used()
                ours.append(await seconds(work, storage))
                cpu, local_cpu = cpu + used() - between, local_cpu + between - before
            p99 = sorted(ours)[int(len(ours) * 0.99)] * 1_000
            extra = statistics.median(ours) - statistics.median(theirs)
            told(
                *(name, ours, theirs, "local_ms"),
                p99_ms=round(p99, 2),
                more_ms=round(extra * 1e3, 2),
                cpu_ms=round(cpu / runs * 1e3, 2),
                local_cpu_ms=round(local_cpu / runs * 1e3, 2),
            )
        ours, plain, flown, driver = [], [], [], []
        for _ in range(RUNS):
            plain.append(await bare_read(bare))
            flown.append(await asyncio.to_thread(flight_read, flying))
            driver.append(await asyncio.to_thread(driven.read))
            ours.append(await seconds(long_range, storage))
        told("million_beside_bare_grpc", ours, plain, "bare_ms")
        told("million_beside_flight", ours, flown, "flight_ms")
        told("million_beside_clickhouse_driver", ours, driver, "driver_ms")
        await many_clients(places["gateway"])
    await bare.close()


async def many_clients(address: str) -> None:
    """64 storages that each ask for a day again and again."""
    settings = StorageSettings(url=f"grpc://{address}", env_file=None)
    clients = [Storage.open(settings) for _ in range(CLIENTS)]
    for each in clients:
        await each.open_stores()
    taken: list[float] = []

    async def reads(storage: Storage) -> None:
        taken.extend([await seconds(count, storage) for _ in range(30)])

    begin = time.perf_counter()
    await asyncio.gather(*map(reads, clients))
    rate = len(taken) / (time.perf_counter() - begin)
    p50, p99 = statistics.median(taken), sorted(taken)[int(len(taken) * 0.99)]
    report(
        "remote_64_clients",
        reads_a_second=round(rate),
        p50_ms=round(p50 * 1e3, 1),
        p99_ms=round(p99 * 1e3, 1),
    )
    for each in clients:
        await each.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, str(Path(folder) / "gateway")]
        with (
            ServerProcess(Path(folder) / "driver", fsync=False) as clickhouse,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as child,
        ):
            asyncio.run(measured(child, Driven(clickhouse.port)))
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(gateway(Path(sys.argv[1])))
    else:
        main()
