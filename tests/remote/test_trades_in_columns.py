"""The trades of a result travel in columns, exactly, to whoever takes them so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jts_storage import Storage, Trade, TradeSide
from jts_storage.errors import InvalidData
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote import trades, values
from jts_storage.remote.connection import Connection
from jts_storage.testing.factories import make_backtest, make_strategy
from tests.remote.gateways import remote

START = datetime(2024, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
PLAIN = Trade(
    symbol="005930",
    side=TradeSide.LONG,
    entry_time=START,
    entry_price=Decimal("1.2300"),
    quantity=Decimal("10"),
)
CLOSED = replace(
    PLAIN,
    exit_time=START + timedelta(hours=1),
    exit_price=Decimal("1E+3"),
    pnl=Decimal("-0.00"),
    exit_reason="손절",
)


@pytest.fixture
def _in_columns() -> Iterator[None]:
    before = values.in_columns.set(True)
    yield
    values.in_columns.reset(before)


def travelled(given: Any) -> tuple[str | None, Any]:
    value = pb.Value()
    values.fill(value, given, "trades")
    read = pb.Value.FromString(value.SerializeToString())
    return read.WhichOneof("kind"), values.read(read)


@pytest.mark.usefixtures("_in_columns")
@pytest.mark.parametrize("shape", [list, tuple])
def test_they_come_as_they_went(shape: Any) -> None:
    given = shape([PLAIN, CLOSED])
    kind, found = travelled(given)
    assert kind == "trades"
    assert type(found) is shape
    assert found == given
    assert str(list(found)) == str(list(given))  # the digits, too
    assert all(each.entry_time.tzinfo is UTC for each in found)


def test_a_client_of_the_first_release_gets_entities() -> None:
    assert travelled([PLAIN, CLOSED]) == ("entities", [PLAIN, CLOSED])


async def test_results_are_saved_and_read_in_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    read = trades.read

    def counted(data: bytes) -> list[Trade]:
        found = read(data)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(trades, "read", counted)
    backend = InMemoryBackend()
    async with Storage(backend), remote(backend, tmp_path) as storage:
        for minor, times in ((1, 4), (0, 0)):
            # The gateway goes by what the client says of itself, the client by its greeting.
            connection = storage._backend._connection  # type: ignore[attr-defined]
            connection.minor = minor
            if not minor:
                monkeypatch.setattr(Connection, "metadata", ())
            sizes.clear()
            async with storage.unit_of_work() as uow:
                strategy = await uow.strategies.save(make_strategy(f"s{minor}"))
                made = replace(make_backtest(str(strategy.id)), trades=(PLAIN, CLOSED))
                saved = await uow.backtests.save(made)
                await uow.commit()
            found = await storage.backtests.get_by_id(str(saved.id))
            assert found is not None
            assert found.trades == (PLAIN, CLOSED)
            assert [each async for each in storage.backtests.trades(str(saved.id))] == [
                PLAIN,
                CLOSED,
            ]
            assert sizes == [2] * times  # to the gateway, its answer, and both reads


def batch(**columns: Any) -> bytes:
    written = trades.written([PLAIN, CLOSED])
    found = pa.ipc.read_record_batch(pa.py_buffer(written), trades._SCHEMA)
    arrays = [
        pa.array(columns.get(field.name, found.column(field.name).to_pylist()), field.type)
        for field in trades._SCHEMA
    ]
    made = pa.RecordBatch.from_arrays(arrays, schema=trades._SCHEMA)
    return memoryview(made.serialize()).tobytes()


@pytest.mark.parametrize(
    "columns",
    [
        {"side": ["long", "sideways"]},
        {"symbol": ["", "x"]},
        {"symbol": [None, "x"]},
        {"entry_price": ["1", "NaN"]},
        {"entry_price": ["1", "one"]},
        {"entry_price": [None, "1"]},
        {"quantity": ["1", "-1"]},
        {"pnl": ["1e999999999", None]},
        {"entry_time": [2**62, 0]},
        {"entry_time": [None, 0]},
        {"exit_time": [None, 0]},
        {"exit_reason": ["\0", None]},
    ],
)
def test_what_is_no_trade_is_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(InvalidData):
        trades.read(batch(**columns))


def test_what_would_unpack_to_more_is_refused() -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    written = trades.written([replace(PLAIN, exit_reason="x" * 1_000)] * 1_000)
    found = pa.ipc.read_record_batch(pa.py_buffer(written), trades._SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, trades._SCHEMA, options=options) as stream:
        stream.write(found)
    packed = sink.getvalue().to_pybytes()
    reader = pa.ipc.MessageReader.open_stream(packed)
    reader.read_next_message()
    with pytest.raises(InvalidData, match="more than was sent"):
        trades.read(reader.read_next_message().serialize().to_pybytes())


def test_any_bytes_are_trades_or_refused() -> None:
    chosen, good = random.Random(3), bytearray(batch())
    for _ in range(1_000):
        data = bytearray(good)
        for _ in range(chosen.randrange(1, 6)):
            data[chosen.randrange(len(data))] = chosen.randrange(256)
        try:
            found = trades.read(
                bytes(data[: chosen.choice((len(data), chosen.randrange(len(data))))])
            )
        except InvalidData:
            continue
        assert all(type(each) is Trade for each in found)
