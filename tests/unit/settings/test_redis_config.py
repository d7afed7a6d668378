"""The address of a Redis, and what is said of a wrong one."""

from __future__ import annotations

import pickle

import pytest

from jts_storage.errors import InvalidConfiguration
from jts_storage.settings import RedisConfig, StorageSettings

SECRET = "k33p-quiet"


def test_ut_infra_03_1_an_address_is_taken_apart() -> None:
    """UT-INFRA-03.1: the configuration is what the connection is made with."""
    config = RedisConfig(f"rediss://me:{SECRET}@cache.example:6380/3?namespace=desk&timeout=0.2")
    assert (config.kind, config.tls, config.nodes) == ("single", True, (("cache.example", 6380),))
    assert (config.username, config.secret, config.db) == ("me", SECRET, 3)
    assert (config.namespace, config.timeout) == ("desk", 0.2)
    assert RedisConfig().timeout == 0.05
    assert RedisConfig().eviction == "allkeys-lru"


@pytest.mark.parametrize(
    ("url", "kind", "nodes", "service", "db"),
    [
        ("redis://h", "single", [("h", 6379)], "", 0),
        ("redis://[::1]:7000/2", "single", [("::1", 7000)], "", 2),
        ("redis+sentinel://a,b:1/main/4", "sentinel", [("a", 26379), ("b", 1)], "main", 4),
        ("redis+sentinel://a/main", "sentinel", [("a", 26379)], "main", 0),
        ("redis+cluster://a:1,b:2", "cluster", [("a", 1), ("b", 2)], "", 0),
    ],
)
def test_kinds_of_addresses(
    url: str, kind: str, nodes: list[tuple[str, int]], service: str, db: int
) -> None:
    config = RedisConfig(url)
    assert (config.kind, list(config.nodes), config.service, config.db) == (
        kind,
        nodes,
        service,
        db,
    )


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@h",
        f"redis://:{SECRET}@",
        f"redis://:{SECRET}@h:x",
        f"redis://:{SECRET}@h,h2",
        f"redis://:{SECRET}@h/{SECRET}",
        f"redis+sentinel://:{SECRET}@h",
        f"redis+cluster://:{SECRET}@h/1",
        f"redis://h?password={SECRET}&more={SECRET}",
        f"redis://h?namespace=a b&password={SECRET}",
        f"redis://:{SECRET}@h?tmieout=1",
        f"redis://x:{SECRET}@y@h/@",
    ],
)
def test_a_wrong_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        RedisConfig(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        RedisConfig(f"redis://me:{SECRET}@h"),
        RedisConfig("redis://h", password=SECRET),
        RedisConfig(f"redis://h?password={SECRET}"),
        RedisConfig("redis+sentinel://h/main", sentinel_password=SECRET, password=SECRET),
    ],
)
def test_a_password_is_never_shown(config: RedisConfig) -> None:
    assert SECRET not in f"{config} {config!r} {config.redacted} {config.url}"
    assert config.secret == SECRET
    again = pickle.loads(pickle.dumps(config))
    assert again == config and again.secret == SECRET


def test_settings_name_a_redis_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert StorageSettings().redis() is None
    monkeypatch.setenv("JTS_REDIS_URL", f"redis://:{SECRET}@h/1")
    monkeypatch.setenv("JTS_REDIS_MAX_STALE", "5")
    settings = StorageSettings(redis={"namespace": "x"})
    config = settings.redis()
    assert config is not None
    assert (config.secret, config.max_stale, config.namespace) == (SECRET, 5.0, "x")
    assert SECRET not in f"{settings!r} {settings.model_dump()}"
    assert StorageSettings(**settings.model_dump()).redis() == config


def test_a_field_of_no_redis_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match=r"redis has no URL.*JTS_REDIS_URL"):
        StorageSettings(redis={"namespace": "x"})
    with pytest.raises(InvalidConfiguration, match="cache is 'redis', and there is none"):
        StorageSettings(cache="redis")
