"""The service in memory, on whatever backend the fixtures have, and with a store that is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest
from fastapi.testclient import TestClient
from price_api import create_app, opened_storage

from jts_storage import CandleSeries, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.testing.address import Address

KEY = SeriesKey("005930", Timeframe.D1, exchange="KRX")
PATH = "/candles/KRX/005930/1d"
DAY = "2024-01-02T00:00:00Z"
BAR = {
    "timestamp": DAY,
    "open": "78200.0000",
    "high": "79800.0000",
    "low": "78200.0000",
    "close": "79600.5000",
    "volume": 17_142_847,
}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Storage.in_memory)) as client:
        yield client


def test_what_was_put_is_read(client: TestClient) -> None:
    assert client.put(PATH, json=[BAR]).json() == 1
    assert client.put(PATH, json=[BAR]).json() == 1  # a repetition changes nothing
    assert client.get(PATH, params={"start": DAY, "end": DAY}).json() == [BAR]


def test_a_wrong_bar_is_refused_with_its_field(client: TestClient) -> None:
    answer = client.put(PATH, json=[BAR | {"high": "1"}])
    assert answer.status_code == 422
    assert "high" in answer.json()["detail"]
    assert client.get(PATH, params={"start": DAY, "end": DAY}).json() == []


def test_health_in_memory(client: TestClient) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["is_well"] is True


@pytest.mark.asyncio
async def test_stored_candles_are_served(
    jts_storage: Storage, make_candles: Callable[..., CandleSeries]
) -> None:
    bars = make_candles(KEY, 3)
    async with jts_storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, bars)
        await uow.commit()

    app = create_app()
    app.dependency_overrides[opened_storage] = lambda: jts_storage
    transport = httpx2.ASGITransport(app)  # it runs no lifespan: the storage is open already
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(PATH, params={"start": str(bars.start), "end": str(bars.end)})
    assert [bar["close"] for bar in answer.json()] == [str(bar.close) for bar in bars]


def test_a_store_that_is_away_is_told(
    jts_clickhouse: Address, jts_settings: StorageSettings
) -> None:
    with TestClient(create_app(lambda: Storage.open(jts_settings))) as client:
        assert client.get("/health").status_code == 200
        jts_clickhouse.faults.refuse()
        answer = client.get("/health")
        assert answer.status_code == 503
        assert answer.json()["clickhouse"] is False
