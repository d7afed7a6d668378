"""Rate limits in settings."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from jts_storage import limiting
from jts_storage.domain.rate_limits import PerDay, PerMinute, PerSecond, RateLimits
from jts_storage.errors import InvalidConfiguration, InvalidData
from jts_storage.redis.rate_limits import RedisRateLimits
from jts_storage.relational.rate_limits import SqliteRateLimits
from jts_storage.settings import StorageSettings
from jts_storage.settings.rate_limits import read_limits

KIS = RateLimits(kis=[PerSecond(15), PerDay(20_000, timezone="Asia/Seoul")])


@pytest.mark.parametrize(
    "text",
    [
        "kis=15/s,20000/d@Asia/Seoul",
        " kis = 15/s , 20_000/d@Asia/Seoul ; ",
        '{"kis": ["15/s", "20000/d@Asia/Seoul"]}',
        '{"kis": [{"limit": 15, "per": "second"},'
        ' {"limit": 20000, "per": "day", "timezone": "Asia/Seoul"}]}',
    ],
)
def test_limits_are_read_from_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_limits(text) == KIS
    monkeypatch.setenv("JTS_RATE_LIMITS", text)
    settings = StorageSettings(env_file=None)
    assert settings.rate_limits == KIS
    assert StorageSettings.model_validate_json(settings.model_dump_json()).rate_limits == KIS


def test_limits_are_taken_as_they_are() -> None:
    assert StorageSettings(rate_limits=KIS, env_file=None).rate_limits == KIS
    assert StorageSettings(env_file=None).rate_limits == RateLimits()
    mixed = {"a": PerMinute(3), "b": ["2/m", PerSecond(5, counts="entering", margin=0.1)]}
    assert read_limits(mixed)["a"] == (PerMinute(3),)
    entering = '{"b": ["2/m", {"limit": 5, "per": "s", "counts": "entering", "margin": 0.1}]}'
    assert read_limits(entering)["b"] == read_limits(mixed)["b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kis", "'kis' has no limits"),
        ("kis=", "'' is no rate limit"),
        ("kis=15", "'15' is no rate limit"),
        ("kis=15/h", "'15/h' is no rate limit"),
        ("kis=15/s@Asia/Seoul", "is no rate limit"),
        ("kis=0/s", "must be a whole number"),
        ("kis=1/d@Asia/Soul", "name of a time zone"),
        ("kis=1/s,2/s", "one of each kind"),
        ("kis=1/s;kis=2/s", "'kis' is there twice"),
        ("a b=1/s", "without spaces"),
        ("{", "no JSON"),
        ('{"kis": [{"limit": 5}]}', "is no rate limit"),
        ('{"kis": [{"limit": 5, "per": "day", "margin": 1}]}', "a day has timezone"),
        ('{"kis": [{"limit": "5", "per": "day"}]}', "must be a whole number"),
    ],
)
def test_what_is_wrong_is_told(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JTS_RATE_LIMITS", text)
    with pytest.raises(InvalidConfiguration, match=message) as told:
        StorageSettings(env_file=None)
    assert "JTS_RATE_LIMITS" in str(told.value) or "rate_limits" in str(told.value)


@pytest.mark.parametrize(
    "given",
    [
        lambda: PerSecond(0),
        lambda: PerSecond(True),
        lambda: PerMinute(1.5),  # type: ignore[arg-type]
        lambda: PerDay(5, timezone="Nowhere/At_All"),
        lambda: PerDay(5, timezone="../etc/passwd"),
        lambda: PerSecond(5, counts="leaving", margin=1),
        lambda: PerSecond(5, counts="sometimes"),  # type: ignore[arg-type]
        lambda: PerSecond(5, counts="entering", margin=-1),
        lambda: RateLimits(kis=[]),
        lambda: RateLimits(kis=[15]),  # type: ignore[list-item]
        lambda: RateLimits({"": [PerSecond(1)]}),
        lambda: RateLimits({"x" * 65: [PerSecond(1)]}),
        lambda: RateLimits(kis=[PerDay(1), PerDay(2)]),
    ],
)
def test_limits_that_cannot_be_are_refused(given: Any) -> None:
    with pytest.raises(InvalidData):
        given()


def test_limits_are_values() -> None:
    again = pickle.loads(pickle.dumps(KIS))
    assert again == KIS
    assert hash(again) == hash(KIS)
    assert copy.deepcopy(KIS) == KIS
    assert RateLimits(kis=[PerMinute(15), PerDay(20_000, timezone="Asia/Seoul")]) != KIS


def test_days_of_several_zones_are_several_limits() -> None:
    both = [PerDay(1), PerDay(1, timezone="Asia/Seoul")]
    assert RateLimits(kis=both)["kis"] == tuple(both)


def _store(**settings: Any) -> Any:
    known = StorageSettings(rate_limits=KIS, env_file=None, **settings)
    return limiting.limiter_of(known, None)._store


def test_they_are_counted_in_the_folder_or_beside_the_bookkeeping(tmp_path: Path) -> None:
    embedded = _store(data_dir=tmp_path)
    assert isinstance(embedded, SqliteRateLimits)
    assert embedded.path == tmp_path / "rate_limits.db"
    # Who comes through the socket of the folder knows of no other place.
    url = f"sqlite:///{tmp_path}/own/books.db"
    elsewhere = _store(data_dir=tmp_path, database_url=url)
    assert elsewhere.path == tmp_path / "rate_limits.db"
    books = _store(data_dir=tmp_path, database_url=url, clickhouse_url="clickhouse://host/jts")
    assert books.path == tmp_path / "own" / "rate_limits.db"


def test_they_are_counted_in_redis_where_there_is_one(tmp_path: Path) -> None:
    postgres = "postgresql://u@h/jts"
    for named in ("redis_url", "rate_limits_url"):
        store = _store(database_url=postgres, **{named: "redis://:secret@localhost:7/3"})
        assert isinstance(store, RedisRateLimits)
        assert store._manager.config.db == 3
    own = _store(redis_url="redis://localhost/0", rate_limits_url=f"sqlite:///{tmp_path}/x.db")
    assert own.path == tmp_path / "x.db"


def test_a_password_in_the_url_is_not_shown() -> None:
    settings = StorageSettings(rate_limits_url="redis://:secret@host/0", env_file=None)
    assert "secret" not in repr(settings)


def test_a_socket_leads_to_the_folder_that_it_serves(tmp_path: Path) -> None:
    store = _store(url=f"grpc+unix://token@{tmp_path}/serve.sock")
    assert store.path == tmp_path / "rate_limits.db"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"clickhouse_url": "clickhouse://h/jts", "database_url": "postgresql://u@h/jts"},
            "bookkeeping is in PostgreSQL.*JTS_REDIS_URL",
        ),
        ({"url": "grpcs://token@far:7420"}, "behind a gateway.*JTS_RATE_LIMITS_URL"),
        ({"url": "grpc+unix:///nowhere/serve.sock"}, "behind a gateway"),
        ({"rate_limits_url": "sqlite://"}, "in memory"),
        ({"rate_limits_url": "mysql://x"}, "scheme 'mysql'"),
    ],
)
def test_where_they_cannot_be_counted_is_told(settings: Any, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        _store(**settings)
