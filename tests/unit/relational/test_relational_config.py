"""Where the database is, checked before anything is opened."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from jts_storage.errors import InvalidConfiguration
from jts_storage.relational import DatabaseConfig, DatabaseManager

SECRET = "s3cret@word"
URL = "postgresql://jts:s3cret%40word@db:6543/books?sslmode=require"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("data/core.db", Path("data/core.db")),
        ("sqlite:///data/core.db", Path("data/core.db")),
        ("sqlite:////data/core.db", Path("/data/core.db")),
        ("sqlite+aiosqlite:///x.db", Path("x.db")),
        (":memory:", None),
        ("sqlite://", None),
    ],
)
def test_sqlite_is_named_by_path_or_url(url: str, path: Path | None) -> None:
    config = DatabaseConfig(url)
    assert config.is_sqlite
    assert config.path == path
    assert config.is_memory == (path is None)
    assert config.max_connections == (8 if path else 1)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_postgresql_is_named_by_url(scheme: str) -> None:
    config = DatabaseConfig(URL.replace("postgresql", scheme))
    assert not config.is_sqlite
    assert config.hosts == ("db:6543",)
    assert config.sqlalchemy_url.drivername == "postgresql+asyncpg"
    assert config.sqlalchemy_url.password == SECRET
    assert config.options == {"sslmode": "require"}


@pytest.mark.parametrize(
    ("url", "hosts", "role"),
    [
        ("postgresql://u:s3cret@a:1,b/x", ("a:1", "b:5432"), "read-write"),
        ("postgres://a,[::1]:7/x?pool_size=2", ("a:5432", "[::1]:7"), "read-write"),
        ("postgresql:///x?host=a:1&host=b", ("a:1", "b:5432"), "read-write"),
        ("postgresql://a,b/x?target_session_attrs=any", ("a:5432", "b:5432"), "any"),
        ("postgresql://a/x?target_session_attrs=standby", ("a:5432",), "standby"),
        ("postgresql:///x?host=a:1", ("a:1",), "any"),
        ("postgresql://a/x", ("a:5432",), "any"),
    ],
)
def test_several_hosts_are_tried_in_turn(url: str, hosts: tuple[str, ...], role: str) -> None:
    config = DatabaseConfig(url)
    assert (config.hosts, config.role) == (hosts, role)
    assert replace(config, max_retries=1).hosts == hosts
    assert "host" not in config.options
    assert "s3cret" not in repr(config)


def test_fields_are_options_of_the_url_and_yield_to_keywords() -> None:
    config = DatabaseConfig(f"{URL}&pool_size=4&lock_timeout=1.5")
    assert (config.pool_size, config.lock_timeout) == (4, 1.5)
    assert config.options == {"sslmode": "require"}
    assert DatabaseConfig("postgresql://h/x?pool_size=4", pool_size=8).pool_size == 8
    assert DatabaseConfig("sqlite:///x.db?lock_timeout=2").path == Path("x.db")
    assert replace(config, max_retries=1).pool_size == 4


def test_passwords_are_never_shown() -> None:
    config = DatabaseConfig(URL)
    for shown in (repr(config), str(config), config.redacted, repr(DatabaseManager(config))):
        assert "db:6543" in shown
        assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"url": ""}, "url"),
        ({"url": 7}, "url"),
        ({"url": "mysql://jts:s3cret@db/x"}, "mysql"),
        ({"url": "postgresql://jts:s3cret@db:port/x"}, "url"),
        ({"url": "postgresql://jts:s3cret@db"}, "database"),
        ({"url": "jts:s3cret@db/x"}, "no scheme"),
        ({"url": "jts:s3cret@db/x?sslmode=require"}, "no scheme"),
        ({"url": "shop?s3cret"}, "'\\?'"),
        ({"url": "postgresql://jts:s3cret@db/x?ssl=maybe"}, "sslmode"),
        ({"url": "postgresql://jts:s3cret@db/x?turbo=1"}, "turbo"),
        ({"url": "postgresql://jts:s3cret@a,b:port/x"}, "port"),
        ({"url": "postgresql://jts:s3cret@a,b"}, "database"),
        ({"url": "postgresql://jts:s3cret@a/x?host=b&host=c"}, "two ways"),
        ({"url": "postgresql://jts:s3cret@a,b/x?target_session_attrs=rw"}, "read-write"),
        ({"url": "postgresql://jts:s3cret@db/x?pool_siz=1"}, "Did you mean pool_size"),
        ({"url": "postgresql://jts:s3cret@db/x?pool_size=many"}, "pool_size in the url"),
        ({"url": "sqlite://host/x"}, "three slashes"),
        ({"url": "sqlite:///x?mode=ro"}, "mode"),
        ({"pool_size": 0}, "pool_size"),
        ({"pool_size": True}, "pool_size"),
        ({"pool_timeout": -1}, "pool_timeout"),
        ({"health_timeout": float("inf")}, "health_timeout"),
        ({"lock_timeout": "5"}, "lock_timeout"),
        ({"synchronous": "OFF"}, "synchronous"),
        ({"max_retries": 101}, "max_retries"),
        ({"retry_base_delay": 3.0}, "retry_max_delay"),
    ],
)
def test_what_is_wrong_is_named(settings: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidConfiguration, match=named) as caught:
        DatabaseConfig(**settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith("Invalid configuration")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_environment_is_read_by_field() -> None:
    config = DatabaseConfig.from_env(
        {"JTS_DATABASE_URL": URL, "JTS_DATABASE_POOL_SIZE": "3", "JTS_DATABASE_LOCK_TIMEOUT": "1.5"}
    )
    assert (config.url.partition(":")[0], config.pool_size, config.lock_timeout) == (
        "postgresql+asyncpg",
        3,
        1.5,
    )
    assert DatabaseConfig.from_env({}) == DatabaseConfig()
    with pytest.raises(InvalidConfiguration, match="BOOKS_POOL_SIZE"):
        DatabaseConfig.from_env({"BOOKS_POOL_SIZE": "many"}, prefix="BOOKS_")


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    manager = DatabaseManager(tmp_path / "x.db")
    asyncio.run(manager.close())
    assert list(tmp_path.iterdir()) == []
