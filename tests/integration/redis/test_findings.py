"""What `jts-storage check` says of the Redis of a cache."""

from __future__ import annotations

import pytest
import redis
from pydantic import SecretStr

from jts_storage import StorageSettings
from jts_storage.cache.findings import differences


async def told(url: str, **fields: str) -> list[str]:
    settings = StorageSettings(redis_url=SecretStr(url), redis={"timeout": 5.0}, **fields)
    return [str(each) for each in await differences(settings)]


async def test_a_policy_that_evicts_nothing_is_found(
    redis_url: str, redis_client: redis.Redis
) -> None:
    redis_client.config_set("maxmemory", "64mb")
    assert await told(redis_url) == []
    redis_client.config_set("maxmemory-policy", "noeviction")
    (found,) = await told(redis_url)
    assert found.startswith("redis maxmemory-policy: policy should be one that evicts")
    assert "CONFIG SET maxmemory-policy allkeys-lru" in found
    assert await told(redis_url, cache="off") == []


async def test_what_cannot_be_known_or_does_no_harm_is_a_note(redis_url: str) -> None:
    (unbounded,) = await told(redis_url)
    assert unbounded.startswith("note: redis maxmemory: bound should be set")
    (away,) = await told("redis://:s3cret@127.0.0.1:1")
    assert away.startswith("note: redis memory") and "s3cret" not in away


async def test_nothing_is_asked_where_there_is_no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JTS_REDIS_URL", raising=False)
    assert await differences(StorageSettings()) == []
