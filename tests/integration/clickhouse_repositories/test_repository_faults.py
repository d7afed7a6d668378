"""Each way in which a server fails a repository, on a real socket, and the error it becomes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.domain import checks
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import ConnectionFailed, SchemaDrift, StorageError
from jts_storage.testing.clickhouse_server import ClickHouseServer
from jts_storage.testing.factories import SAMPLE_KEY, make_candles, make_symbol

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
SERIES = make_candles(SAMPLE_KEY, 50_000)
ManagerFactory = Callable[..., ClickHouseManager]
Work = Callable[[ClickHouseManager], Awaitable[Any]]


async def _stream(manager: ClickHouseManager) -> None:
    async for _ in ClickHouseCandleRepository(manager).stream(SAMPLE_KEY, *ALWAYS):
        pass


READS: dict[str, Work] = {
    "get_range": lambda m: ClickHouseCandleRepository(m).get_range(SAMPLE_KEY, *ALWAYS),
    "get_ranges": lambda m: ClickHouseCandleRepository(m).get_ranges([SAMPLE_KEY], *ALWAYS),
    "get_latest": lambda m: ClickHouseCandleRepository(m).get_latest(SAMPLE_KEY),
    "get_coverage": lambda m: ClickHouseCandleRepository(m).get_coverage(SAMPLE_KEY),
    "coverage_by_day": lambda m: ClickHouseCandleRepository(m).coverage_by_day(SAMPLE_KEY),
    "count": lambda m: ClickHouseCandleRepository(m).count(SAMPLE_KEY),
    "resample": lambda m: ClickHouseCandleRepository(m).resample(SAMPLE_KEY, Timeframe.H1, *ALWAYS),
    "stream": _stream,
    "list_keys": lambda m: ClickHouseCandleRepository(m).list_keys(),
    "get_by_code": lambda m: ClickHouseSymbolRepository(m).get_by_code("A"),
    "search": lambda m: ClickHouseSymbolRepository(m).search("A"),
}
WRITES: dict[str, Work] = {
    "save_many": lambda m: ClickHouseCandleRepository(m).save_many(SAMPLE_KEY, SERIES[:10]),
    "delete_range": lambda m: ClickHouseCandleRepository(m).delete_range(SAMPLE_KEY, *ALWAYS),
    "symbols": lambda m: ClickHouseSymbolRepository(m).save_many([make_symbol()]),
}
EVERYTHING = READS | WRITES


@pytest.mark.parametrize("work", EVERYTHING.values(), ids=EVERYTHING.keys())
async def test_a_server_that_refuses(
    work: Work, tcp: ClickHouseManager, server: ClickHouseServer
) -> None:
    server.faults.refuse()
    with pytest.raises(ConnectionFailed, match="ClickHouse connection failed"):
        await work(tcp)


@pytest.mark.parametrize("work", EVERYTHING.values(), ids=EVERYTHING.keys())
async def test_tables_that_are_missing(work: Work, tcp: ClickHouseManager) -> None:
    for table in ("candles", "symbols"):
        tcp.execute(f"DROP TABLE {table} SYNC")
    with pytest.raises(SchemaDrift, match=r"candles|symbols"):
        await work(tcp)


@pytest.mark.parametrize("column", ["volume", "version", "is_deleted"])
async def test_columns_that_are_missing(column: str, tcp: ClickHouseManager) -> None:
    engine = "MergeTree" if column == "version" else "ReplacingMergeTree(version)"
    tcp.execute(f"CREATE TABLE other AS candles ENGINE = {engine} ORDER BY timestamp")
    tcp.execute(f"ALTER TABLE other DROP COLUMN {column}")
    tcp.execute("EXCHANGE TABLES candles AND other")
    if column == "version":  # then it is taken for the original schema
        with pytest.raises(SchemaDrift, match="original schema"):
            await WRITES["save_many"](tcp)
        return
    with pytest.raises(SchemaDrift, match=column):
        await READS["get_range"](tcp)
        await WRITES["delete_range"](tcp)


async def test_a_column_of_another_type(tcp: ClickHouseManager) -> None:
    tcp.execute("ALTER TABLE candles MODIFY COLUMN open Decimal(18, 2)")
    with pytest.raises(SchemaDrift, match=r"Column open of candles is Decimal\(18, 2\)"):
        await WRITES["save_many"](tcp)


async def test_a_connection_cut_in_the_middle_of_a_result(
    tcp: ClickHouseManager, server: ClickHouseServer
) -> None:
    candles = ClickHouseCandleRepository(tcp)
    await candles.save_many(SAMPLE_KEY, SERIES)
    server.faults.cut(after_bytes=200_000)
    with pytest.raises(ConnectionFailed):
        await candles.get_range(SAMPLE_KEY, *ALWAYS)
    server.faults.clear()
    assert await candles.get_range(SAMPLE_KEY, *ALWAYS) == SERIES


async def test_a_connection_that_was_cut_meanwhile_is_replaced_unnoticed(
    tcp: ClickHouseManager, server: ClickHouseServer
) -> None:
    candles = ClickHouseCandleRepository(tcp)
    await candles.save_many(SAMPLE_KEY, SERIES[:5])
    server.cut_connections()
    assert await candles.count(SAMPLE_KEY) == 5
    server.cut_connections()
    await candles.save_many(SAMPLE_KEY, SERIES[:7])
    assert await candles.count(SAMPLE_KEY) == 7


async def test_a_slow_server_is_waited_for(
    tcp: ClickHouseManager, server: ClickHouseServer
) -> None:
    candles = ClickHouseCandleRepository(tcp)
    await candles.save_many(SAMPLE_KEY, SERIES[:5])
    server.faults.delay(0.1)
    begun = time.monotonic()
    assert await candles.get_latest(SAMPLE_KEY, 5) == SERIES[:5]
    assert time.monotonic() - begun >= 0.1


@pytest.mark.parametrize("work", [READS["get_range"], WRITES["save_many"]], ids=["read", "write"])
async def test_a_server_that_hangs_is_given_up(
    work: Work, over_tcp: ManagerFactory, tcp: ClickHouseManager, server: ClickHouseServer
) -> None:
    impatient = over_tcp(send_receive_timeout=0.5, connect_timeout=0.5, max_retries=0)
    await READS["count"](impatient)
    server.faults.hang()
    begun = time.monotonic()
    with pytest.raises(ConnectionFailed):
        await work(impatient)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("work", WRITES.values(), ids=WRITES.keys())
async def test_a_connection_that_may_only_read(
    work: Work, over_tcp: ManagerFactory, tcp: ClickHouseManager
) -> None:
    reader = over_tcp(readonly=True)
    with pytest.raises(StorageError, match="may only read") as caught:
        await work(reader)
    assert caught.value.code == 164
    assert await ClickHouseCandleRepository(reader).count(SAMPLE_KEY) == 0


async def test_a_query_that_needs_too_much_memory(
    over_tcp: ManagerFactory, tcp: ClickHouseManager
) -> None:
    await ClickHouseCandleRepository(tcp).save_many(SAMPLE_KEY, SERIES)
    modest = over_tcp(settings={"max_memory_usage": 200_000})
    with pytest.raises(StorageError, match="code 241") as caught:
        await ClickHouseCandleRepository(modest).get_range(SAMPLE_KEY, *ALWAYS)
    assert caught.value.code == 241
    assert "Ask for less at once" in str(caught.value)


async def test_a_source_once_known_is_asked_again_after_a_failure(
    bare_manager: ClickHouseManager,
) -> None:
    candles = ClickHouseCandleRepository(bare_manager)
    with pytest.raises(SchemaDrift, match="does not exist"):
        await candles.count(SAMPLE_KEY)
    tables.build().metadata.create_all(bare_manager.engine)
    assert await candles.count(SAMPLE_KEY) == 0
