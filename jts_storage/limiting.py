"""Where rate limits are counted, as settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jts_storage.errors import InvalidConfiguration
from jts_storage.ports.rate_limits import DayMirror, RateLimitStore
from jts_storage.settings import DatabaseConfig, RedisConfig, StorageSettings
from jts_storage.usecases.rate_limits import SharedRateLimiter

FILE_NAME: Final = "rate_limits.db"
_SQLITE: Final = ("sqlite:", "sqlite+aiosqlite:")
_REMEDY: Final = (
    "Set JTS_REDIS_URL, or JTS_RATE_LIMITS_URL to a redis:// of its own or, where all who share"
    " the limits are on this machine, to sqlite:///path."
)


def limiter_of(settings: StorageSettings | None, mirror: DayMirror | None) -> SharedRateLimiter:
    """The limits that are set, counted where the settings say.

    :param settings: of the environment and the ``.env`` file, if None.
    :param mirror: for a Redis: where what was used of a day is kept, too.
    :raises InvalidConfiguration: they say of no place that all who share the limits can reach.
    """
    settings = settings or StorageSettings.load()
    return SharedRateLimiter(settings.rate_limits, _store(settings, mirror))


def _store(settings: StorageSettings, mirror: DayMirror | None) -> RateLimitStore:
    own = settings.rate_limits_url
    url = None if own is None else own.get_secret_value()
    if url is not None and url.startswith(_SQLITE):
        return _file(DatabaseConfig(url).path)
    redis = settings.redis() if url is None else _redis(url, settings)
    if redis is None:
        return _file(_on_this_machine(settings))
    from jts_storage.redis.rate_limits import RedisRateLimits, manager_for

    return RedisRateLimits(
        manager_for(redis), mirror=mirror, allow_eviction=settings.rate_limits_despite_eviction
    )


def _redis(url: str, settings: StorageSettings) -> RedisConfig:
    namespace = settings.redis_fields.given.get("namespace")
    return RedisConfig(url) if namespace is None else RedisConfig(url, namespace=namespace)


def _file(path: Path | None) -> RateLimitStore:
    if path is None:
        raise InvalidConfiguration(
            "rate limits have no file to be counted in: the database is in memory", remedy=_REMEDY
        )
    from jts_storage.relational.rate_limits import SqliteRateLimits

    return SqliteRateLimits(path)


def _on_this_machine(settings: StorageSettings) -> Path | None:
    """
    :raises InvalidConfiguration: it is on a server, or behind a gateway on another machine.
    """
    gateway = settings.gateway()
    if gateway is not None:
        folders = [_folder_of(each) for each in gateway.addresses]
        known = [each for each in folders if each is not None and each.is_dir()]
        if not known:
            raise InvalidConfiguration(
                "rate limits have no place to be counted in: the stores are behind a gateway,"
                " which counts none",
                remedy=_REMEDY,
            )
        return known[0] / FILE_NAME
    if settings.clickhouse().is_embedded:
        # Wherever the bookkeeping is: who comes through the folder's socket counts here, too.
        return settings.data_dir.absolute() / FILE_NAME
    database = settings.database()
    if not database.is_sqlite:
        raise InvalidConfiguration(
            "rate limits have no place to be counted in: the bookkeeping is in PostgreSQL",
            remedy=_REMEDY,
        )
    return None if database.path is None else database.path.absolute().with_name(FILE_NAME)


def _folder_of(address: str) -> Path | None:
    """The data folder whose socket is at an address, if it is one."""
    return Path(address.removeprefix("unix:")).parent if address.startswith("unix:") else None
