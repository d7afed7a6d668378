"""What a client stages is checked before anything of it is written."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from grpc import aio

from jts_storage import Storage
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.proto.jts.storage.v1 import work_pb2 as work
from jts_storage.remote.weighing import unpacked_bytes
from tests.remote.gateways import served
from tests.remote.wire import channel, staged

NAMES = ("timestamp", "open", "high", "low", "close", "volume")
KEY = pb.Key(symbol="A", timeframe="1m", exchange="KRX")
STAGED_BYTES = 8 * 2**20


class Served:
    def __init__(self, to: aio.Channel, storage: Storage) -> None:
        self.to, self.storage = to, storage


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Served]:
    backend = InMemoryBackend()
    async with (
        Storage(backend) as storage,
        served(backend, tmp_path, staged_bytes=STAGED_BYTES) as found,
        channel(found.address) as to,
    ):
        yield Served(to, storage)


def described(**fields: Any) -> work.Chunk:
    names = ("candles", "bars", "symbols", "aggregates", "tables", "checkpoints")
    empty: dict[str, Any] = {name: [] for name in names}
    return work.Chunk(kind="work", data=json.dumps({"source": "", **empty, **fields}).encode())


def batch(rows: int = 3, **columns: Any) -> pa.RecordBatch:
    """Candles, with some columns replaced."""
    given: dict[str, Any] = {
        "timestamp": pa.array(1_704_067_200_000 + 60_000 * np.arange(rows), pa.int64()),
        **{name: pa.array(np.full(rows, 10_000), pa.int64()) for name in NAMES[1:-1]},
        "volume": pa.array(np.full(rows, 1), pa.uint64()),
        **columns,
    }
    return pa.RecordBatch.from_pydict(
        {name: each for name, each in given.items() if each is not None}
    )


def stream_of(*batches: pa.RecordBatch, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as stream:
        for each in batches:
            stream.write_batch(each)
    return bytes(sink.getvalue())


def candles(given: pa.RecordBatch | bytes, *, of_one: bool = True) -> work.Chunk:
    data = given if isinstance(given, bytes) else stream_of(given)
    return work.Chunk(kind="candles", data=data, key=KEY if of_one else None)


async def test_candles_as_clients_send_them_are_taken(gateway: Served) -> None:
    assert (await staged(gateway.to, described(), candles(batch()))).code == "OK"
    assert len(await gateway.storage.candles.list_keys()) == 1


def overlong(batch: pa.RecordBatch) -> bytes:
    """A batch that says it has more rows than its buffers."""
    data = bytearray(stream_of(batch))
    rows = struct.pack("<q", batch.num_rows)
    at = -1
    while (at := data.find(rows, at + 1)) >= 0:
        data[at : at + 8] = struct.pack("<q", 2**40)
    return bytes(data)


def with_names(*names: str | None, indices: Any = (0, 0, 0)) -> pa.RecordBatch:
    found = batch()
    array = pa.DictionaryArray.from_arrays(
        pa.array(indices, pa.int32()), pa.array(names, pa.string()), safe=False
    )
    return found.append_column("series", array)


NAME = json.dumps(["A", "1m", "KRX"])


@pytest.mark.parametrize(
    "chunk",
    [
        candles(b""),
        candles(b"\xff" * 100),
        candles(stream_of(batch())[:-200]),
        candles(overlong(batch())),
        candles(batch(close=None)),
        candles(batch(close=pa.nulls(3))),
        candles(batch(close=pa.nulls(3, pa.int64()))),
        candles(batch(close=pa.array([1.0, 2.0, 3.0]))),
        candles(batch(close=pa.array(["1", "2", "3"]))),
        candles(batch(close=pa.array([10_000, -1, 10_000]))),
        candles(batch(high=pa.array([1, 1, 1]))),
        candles(batch(timestamp=pa.array([3, 2, 1]))),
        candles(batch(timestamp=pa.array([1_704_067_200_000] * 3))),
        candles(batch(timestamp=pa.array([2**62, 2**62 + 1, 2**63 - 1]))),
        candles(batch(), of_one=False),
        candles(with_names(NAME, indices=(0, 1, 0)), of_one=False),
        candles(with_names(NAME, indices=(0, -1, 0)), of_one=False),
        candles(with_names(NAME, NAME, indices=(0, 1, 0)), of_one=False),
        candles(with_names(None), of_one=False),
        candles(with_names("["), of_one=False),
        candles(with_names("[]"), of_one=False),
        candles(with_names('["A", "7m", "KRX"]'), of_one=False),
        candles(with_names("[" * 100_000), of_one=False),
        work.Chunk(kind="candles", data=stream_of(batch()), key=pb.Key(symbol="A", timeframe="?")),
        work.Chunk(kind="candles", data=stream_of(batch()), key=pb.Key(timeframe="1m")),
        work.Chunk(kind="table", data=stream_of(batch()), table="uow_outcomes"),
        work.Chunk(kind="table", data=stream_of(batch()), table="symbols"),
        work.Chunk(kind="work", data=b"{}"),
        work.Chunk(kind="?", data=b""),
    ],
)
async def test_rows_that_are_none_are_refused(gateway: Served, chunk: work.Chunk) -> None:
    told = await staged(gateway.to, described(), candles(batch()), chunk)
    assert told.code == "INVALID_ARGUMENT", told
    assert not await gateway.storage.candles.list_keys()


SERIES = ["A", "1m", "KRX"]


@pytest.mark.parametrize(
    "fields",
    [
        {"candles": 1},
        {"candles": [{"key": SERIES}]},
        {"candles": [{"key": SERIES, "deleted": [[1]]}]},
        {"candles": [{"key": SERIES, "deleted": [[1, {}]]}]},
        {"candles": [{"key": SERIES, "deleted": [["a", "b"]]}]},
        {"candles": [{"key": SERIES, "deleted": [[5, 1]]}]},
        {"candles": [{"key": SERIES, "deleted": [[-(10**30), 10**30]]}]},
        {"candles": [{"key": ["A", "1m"], "deleted": []}]},
        {"candles": [{"key": [1, "1m", "KRX"], "deleted": []}]},
        {"source": {}},
        {"symbols": [{}]},
        {"symbols": [{"code": "A\0", "name": 1, "market": "KRX"}]},
        {"aggregates": [{"symbol": 5, "trading_day": "2024-01-02", "base": 0, "becomes": None}]},
        {"aggregates": [{"symbol": "A", "trading_day": "?", "base": 0, "becomes": None}]},
        {
            "aggregates": [
                {"symbol": "A", "trading_day": "2024-01-02", "base": "x", "becomes": None}
            ]
        },
        {"aggregates": [{"symbol": "A", "trading_day": "2024-01-02", "base": 0, "becomes": {}}]},
        {"checkpoints": [{"name": 5, "becomes": {}, "base": None}]},
        {"checkpoints": [{"name": "A", "becomes": 5, "base": None}]},
        {"checkpoints": [{"name": "A", "becomes": "text", "base": None}]},
        {"checkpoints": [{"name": "A", "becomes": {}, "base": 5}]},
        {"tables": [["uow_outcomes", "mongo", "append"]]},
        {"tables": [["symbols", "clickhouse"]]},
        {"tables": 5},
    ],
)
async def test_descriptions_that_are_none_are_refused(
    gateway: Served, fields: dict[str, Any]
) -> None:
    told = await staged(gateway.to, described(**fields), candles(batch()))
    assert told.code in ("INVALID_ARGUMENT", "UNKNOWN"), told
    assert "its log says more" not in told.details
    assert not await gateway.storage.candles.list_keys()


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
async def test_what_unpacks_to_too_much_is_not_unpacked(gateway: Served, kind: str) -> None:
    rows = 4_000_000
    bomb = stream_of(batch(rows), compression=kind)
    zeros = stream_of(
        pa.record_batch({"a": pa.array(np.zeros(rows * 4, np.int64))}), compression="zstd"
    )
    assert unpacked_bytes(bomb) >= rows * 48
    assert len(zeros) < 2**17
    before = pa.total_allocated_bytes()
    for chunk in (candles(zeros), work.Chunk(kind="table", data=zeros, table="symbols")):
        told = await staged(gateway.to, described(), chunk)
        assert "stages more than" in told.details, told
    assert pa.total_allocated_bytes() <= before + 2**20


async def test_a_unit_of_work_stages_so_much_and_no_more(gateway: Served) -> None:
    chunk = candles(stream_of(batch(20_000)))
    told = await staged(gateway.to, described(), *[chunk] * 20)
    assert "stages more than 8,388,608 bytes" in told.details
    assert not await gateway.storage.candles.list_keys()


def test_a_stream_weighs_what_its_reader_allocates() -> None:
    for given in (batch(1_000), with_names(NAME)):
        for compression in (None, "zstd", "lz4"):
            data = stream_of(given, compression=compression)
            with pa.ipc.open_stream(data) as stream:
                found = stream.read_next_batch()
            assert unpacked_bytes(data) >= found.nbytes
            assert unpacked_bytes(data) <= found.nbytes + 64 * 20
