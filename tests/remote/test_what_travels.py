"""Errors, streams that break, and what a client asks for, are the same at the other end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jts_storage import CandlePanel, CandleSeries, SeriesKey, Storage, Timeframe
from jts_storage.errors import Conflict, ConnectionFailed, InvalidData, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.remote import frames, problems
from jts_storage.remote.backend import GrpcBackend
from jts_storage.remote.connection import Connection
from jts_storage.remote.server import calls
from jts_storage.settings.gateway import GatewayConfig
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_backtest, make_candles
from tests.remote.gateways import remote, served

KEYS = [SeriesKey(symbol, Timeframe.M1, "KRX") for symbol in ("A", "B", "C")]


@pytest.mark.parametrize(
    "error",
    [
        InvalidData("is odd", field="close", row=7, document="d", value=5, remedy="Mend it."),
        InvalidData("is odd", row=0),
        Conflict("came first", remedy="Again.", code=112),
        ConnectionFailed("lost", hosts=["a:1", "b:2"], code="ETIMEDOUT"),
        StorageError("no"),
    ],
)
def test_an_error_says_the_same_at_the_other_end(error: StorageError) -> None:
    error.transient, error.repeatable = not error.transient, not error.repeatable
    found = problems.error_of(problems.problem_of(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    """Three series of ten candles."""
    async with remote(InMemoryBackend(), tmp_path) as storage:
        async with storage.unit_of_work() as uow:
            for key in KEYS:
                await uow.candles.save_many(key, make_candles(key, 10))
            await uow.commit()
        yield storage


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each stream breaks behind its first value; the methods that were called."""
    whole, called = Connection._one_by_one, []

    async def broken(self: Any, method: str, asked: Any) -> AsyncGenerator[Any, None]:
        called.append(method)
        assert len(called) < 60, "it does not go on"
        async for value in whole(self, method, asked):
            yield value
            raise problems.away("It broke.", self.address)

    monkeypatch.setattr(Connection, "_one_by_one", broken)
    return called


async def test_a_stream_of_candles_goes_on_behind_the_last(
    storage: Storage, breaks: list[str]
) -> None:
    stream = storage.candles.stream(KEYS[0], *FOREVER, block_rows=3)
    stamps = [stamp async for part in stream for stamp in part.columns.timestamp.tolist()]
    assert stamps == stamps_of(KEYS[0])
    assert len(breaks) > 3


@pytest.mark.parametrize("names", [None, KEYS, KEYS[:2]])
@pytest.mark.parametrize("block_rows", [3, 10, 25])
async def test_a_stream_of_panels_goes_on_behind_the_last(
    storage: Storage, breaks: list[str], block_rows: int, names: list[SeriesKey] | None
) -> None:
    stream = storage.candles.stream_panels(
        Timeframe.M1, *FOREVER, keys=names, block_rows=block_rows
    )
    assert await rows_of(stream) == [
        (key, stamp) for key in names or KEYS for stamp in stamps_of(key)
    ]
    assert len(breaks) > 1


async def test_what_a_unit_of_work_reads_goes_on_behind_the_last(
    storage: Storage, breaks: list[str]
) -> None:
    async with storage.unit_of_work() as uow:
        stream = uow.candles.stream(KEYS[0], *FOREVER, block_rows=3)
        stamps = [stamp async for part in stream for stamp in part.columns.timestamp.tolist()]
        await uow.rollback()
    assert stamps == stamps_of(KEYS[0])
    assert len(breaks) > 1


async def test_trades_go_on_behind_the_last(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_TOGETHER", 3)
    async with storage.unit_of_work() as uow:
        made = make_backtest()
        saved = await uow.backtests.save(replace(made, trades=made.trades[:1] * 10))
        await uow.commit()
    whole, called = Connection._one_by_one, []

    async def broken(self: Any, method: str, asked: Any) -> AsyncGenerator[Any, None]:
        called.append(method)
        parts = 0
        async for value in whole(self, method, asked):
            yield value
            parts += 1
            if parts > len(called) - 1:
                raise problems.away("It broke.", self.address)

    monkeypatch.setattr(Connection, "_one_by_one", broken)
    found = [trade async for trade in storage.backtests.trades(saved.id or "")]
    assert found == list(saved.trades)
    assert len(called) > 1


def stamps_of(key: SeriesKey) -> list[int]:
    stamps: list[int] = CandleSeries(key, make_candles(key, 10)).columns.timestamp.tolist()
    return stamps


async def rows_of(stream: AsyncIterator[CandlePanel]) -> list[tuple[SeriesKey, Any]]:
    return [
        (key, stamp)
        async for panel in stream
        for key in panel
        for stamp in panel[key].columns.timestamp.tolist()
    ]


@pytest.mark.parametrize("compression", ["none", "zstd"])
async def test_candles_are_compressed_where_that_is_asked(
    tmp_path: Path, compression: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, seen = InMemoryBackend(), []
    whole = frames.message_of

    def message_of(given: Any, *, compressed: bool = False) -> Any:
        seen.append(compressed)
        return whole(given, compressed=compressed)

    monkeypatch.setattr(frames, "message_of", message_of)
    async with Storage(backend), served(backend, tmp_path) as gateway:
        config = GatewayConfig(addresses=(gateway.address,), tls=False, compression=compression)
        async with Storage(GrpcBackend(config)) as storage:
            await storage.candles.get_range(KEYS[0], *FOREVER)
    assert seen == [compression == "zstd"]


async def test_health_says_all_that_the_stores_say(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jts_storage.ports.health import Health

    told = Health(clickhouse=True, mongo=False)
    names = [*Health.__annotations__, "damaged_commits"]
    kinds = {name: getattr(told, name) for name in names}
    for number, (name, value) in enumerate(kinds.items(), 3):
        if type(value) is int:
            setattr(told, name, number)
    told.damaged_commits = {"5": "cannot be read"}

    async def health(_: object) -> Health:
        return told

    monkeypatch.setattr(InMemoryBackend, "health", health)
    found = await storage.health()
    assert dict(found) == dict(told)
    assert {name: getattr(found, name) for name in names} == {
        name: getattr(told, name) for name in names
    }
