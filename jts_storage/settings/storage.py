"""What a service sets: where its stores are. With nothing set, all is embedded in ``.jts``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, SecretStr, ValidationError

from jts_storage.domain.secret import MASK
from jts_storage.errors import InvalidConfiguration
from jts_storage.settings import clickhouse, mongo
from jts_storage.settings.clickhouse import ClickHouseConfig
from jts_storage.settings.database import DatabaseConfig
from jts_storage.settings.fields import (
    is_secret,
    own_error,
    placed,
    reason,
    unknown_field,
)
from jts_storage.settings.gateway import GatewayConfig, read_url
from jts_storage.settings.mongo import MongoDBConfig
from jts_storage.settings.rate_limits import RateLimitFields
from jts_storage.settings.redis import RedisConfig
from jts_storage.settings.stores import (
    OPTIONAL,
    STORES,
    StoreFields,
    StoreSettings,
    nested,
    of_keywords,
)
from jts_storage.settings.variables import (
    Variable,
    names_of,
    naming,
    of_environment,
    of_file,
    refuse_misspelled,
    store_values,
)

PREFIX: Final = "JTS_"
_STORE_PREFIXES: Final = tuple(f"{PREFIX}{name.upper()}_" for name in STORES)

if TYPE_CHECKING:
    ClickHouseFields: TypeAlias = StoreFields
    MongoDBFields: TypeAlias = StoreFields
    DatabaseFields: TypeAlias = StoreFields
    RedisFields: TypeAlias = StoreFields
else:
    ClickHouseFields = nested(ClickHouseConfig)
    MongoDBFields = nested(MongoDBConfig)
    DatabaseFields = nested(DatabaseConfig)
    RedisFields = nested(RedisConfig)


class StorageSettings(RateLimitFields):
    """Where the stores of a `Storage` are and how to talk to them.

    A setting is taken from the nearest place that has it: a keyword, a ``JTS_*`` variable of the
    environment, a line of the ``.env`` file in the working directory, the default.

    A store without a URL runs embedded below `data_dir`: chDB, a local mongod, SQLite. Every field
    of its model may be set: of `ClickHouseConfig` as ``clickhouse={"pool_size": 4}``, as
    ``JTS_CLICKHOUSE_POOL_SIZE=4``, or as ``?pool_size=4`` in its URL, over which the others win.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Path(".jts")
    """Where embedded stores keep their files."""

    url: SecretStr | None = None
    """``grpcs://token@host:port,host2:port`` of a gateway, which has the stores."""

    clickhouse_url: SecretStr | None = None
    """``clickhouse://user:password@host:9000,other/jts?secure=1&cluster=name``."""

    mongo_url: SecretStr | None = None
    """``mongodb://user:password@host/?replicaSet=rs0``; transactions need a replica set."""

    database_url: SecretStr | None = None
    """``postgresql://user:password@host/name``, also with several hosts, ``@a,b/name``; or
    ``sqlite:///path``."""

    redis_url: SecretStr | None = None
    """``redis://user:password@host:6379/0``, ``rediss://``, ``redis+sentinel://``,
    ``redis+cluster://``; without it there is no Redis."""

    mongo_database: str = ""
    """The database of MongoDB; if not set, the one that the URL names, else ``jts``."""

    lake_dir: Path | None = None
    """Where Parquet files are kept; ``data_dir/lake`` if not set."""

    mongod: Path | None = None
    """The mongod to start when MongoDB is embedded; found on PATH or in its wheel if not set."""

    fsync: bool = True
    """Whether what an embedded ClickHouse acknowledged is on disk, or with the kernel only."""

    share: bool = False
    """Whether this process serves its embedded stores to others that open the same `data_dir`,
    and takes them over when the process that served them is gone."""

    cache_bytes: int = Field(default=128 * 2**20, ge=0)
    """How much of what was read of candles is kept, as long as the table proves unchanged."""

    cache_max_age: float = Field(default=0.0, ge=0)
    """For how many seconds a ClickHouse server's table is taken to be as it was last seen."""

    cache: Literal["auto", "off", "local", "redis"] = "auto"
    """Where answers that are asked for often are kept: in Redis, or with ``local`` in this process
    alone; ``auto`` is Redis where its URL is set, else nowhere."""

    history: bool = True
    """Whether former candles and documents are kept; the same for all that share the stores."""

    history_days: int | None = Field(default=None, ge=1)
    """For how many days what was replaced or deleted is kept; for ever if not set."""

    health_timeout: float = Field(default=0.45, gt=0)
    """Seconds after which a store that has not answered `health` does not answer."""

    check: Literal["error", "warn", "off"] = "off"
    """What a difference between live schemas and models does at opening."""

    migrate: bool | None = None
    """Whether opening applies pending migrations; if not set, to embedded stores only."""

    migrations: Path | None = None
    """The folder of the service's own migrations, which are applied after the kit's."""

    clickhouse_fields: ClickHouseFields = ClickHouseFields()
    """Fields of `ClickHouseConfig` that are set beside the URL; the keyword is ``clickhouse``."""

    mongo_fields: MongoDBFields = MongoDBFields()
    """Fields of `MongoDBConfig` that are set beside the URL; the keyword is ``mongo``."""

    database_fields: DatabaseFields = DatabaseFields()
    """Fields of `DatabaseConfig` that are set beside the URL; the keyword is ``database``."""

    redis_fields: RedisFields = RedisFields()
    """Fields of `RedisConfig` that are set beside the URL; the keyword is ``redis``."""

    def __init__(self, **values: Any) -> None:
        """Take every setting from the nearest place that has it.

        The keyword ``env_file`` names a file that must exist in place of ``.env``; None reads none.

        :raises InvalidConfiguration: naming the setting at fault and where it stands.
        """
        file = values.pop("env_file", ".env")
        farther = [of_file(Path(file)) if file is not None else [], of_environment(os.environ)]
        for variables in farther:
            refuse_misspelled(_ours(variables), _KNOWN, _STORE_PREFIXES)
        origins = {name: variable.origin for v in farther for name, variable in _own(v).items()}
        merged, urls = _merged(values, farther)
        try:
            super().__init__(**merged)
        except ValidationError as failure:
            raise _configuration_error(
                failure, merged, origins.keys() - values.keys(), origins
            ) from None
        self._check_stores(urls)

    @classmethod
    def load(cls, **values: Any) -> Self:
        """The settings of the environment and the ``.env`` file, as ``StorageSettings()`` is.

        :raises InvalidConfiguration: naming the variables at fault, not their values.
        """
        return cls(**values)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values of attributes, which are not checked.

        :raises InvalidConfiguration: there is no such attribute.
        """
        names = tuple(type(self).model_fields)
        for unknown in (update or {}).keys() - set(names):
            raise unknown_field(unknown, names)
        return super().model_copy(update=update, deep=deep)

    def gateway(self) -> GatewayConfig | None:
        """Everything that is set of the gateway; None where the stores are reached directly."""
        return None if self.url is None else GatewayConfig(**read_url(self.url.get_secret_value()))

    def of_stores(self) -> Self:
        """These settings, for what needs the stores themselves.

        :raises InvalidConfiguration: they name a gateway, whose stores others would be taken for.
        """
        if self.url is not None:
            raise InvalidConfiguration(
                "JTS_URL names a gateway, and this needs the stores themselves",
                remedy="Leave it out, where the gateway runs.",
            )
        return self

    @property
    def lake_root(self) -> Path:
        return self.lake_dir or self.data_dir / "lake"

    def clickhouse(self) -> ClickHouseConfig:
        """Everything that is set of ClickHouse."""
        if self.clickhouse_url is not None:
            base = clickhouse.read_url(self.clickhouse_url.get_secret_value())
        else:
            path = self.data_dir.absolute() / "clickhouse"
            base = {"embedded_path": str(path), "fsync": self.fsync}
        return ClickHouseConfig(**base | self._bounds | self.clickhouse_fields.given)

    def mongo(self, local_uri: str | None = None) -> MongoDBConfig:
        """Everything that is set of MongoDB.

        :param local_uri: where the embedded mongod listens, if there is one.
        """
        url = self.mongo_url.get_secret_value() if self.mongo_url else local_uri
        if url is None:
            raise InvalidConfiguration("JTS_MONGO_URL is not set and no mongod is embedded")
        own = self._bounds | self.mongo_fields.given
        named = {"database": self.mongo_database} if self.mongo_database else {}
        return MongoDBConfig(**mongo.read_uri(url) | named | own)

    def database(self) -> DatabaseConfig:
        """Everything that is set of the bookkeeping's database."""
        url = f"sqlite:///{self.data_dir.absolute() / 'bookkeeping.db'}"
        if self.database_url is not None:
            url = self.database_url.get_secret_value()
        return DatabaseConfig(url=url, **self._bounds | self.database_fields.given)

    def redis(self) -> RedisConfig | None:
        """Everything that is set of Redis; None where there is none."""
        if self.redis_url is None:
            return None
        url = self.redis_url.get_secret_value()
        return RedisConfig(**STORES["redis"].read(url) | self.redis_fields.given)

    @property
    def _bounds(self) -> dict[str, Any]:
        """Those of a store's own URL stay, unless they are set here."""
        is_set = "health_timeout" in self.model_fields_set
        return {"health_timeout": self.health_timeout} if is_set else {}

    def _check_stores(self, urls: Mapping[str, str | None]) -> None:
        """
        :param urls: where the URL of each store stands.
        :raises InvalidConfiguration: what is set of a store does not go together.
        """
        if self.url is not None:
            self._check_gateway()
        if self.cache == "redis" and self.redis_url is None:
            raise InvalidConfiguration(
                "cache is 'redis', and there is none", remedy=f"Set {PREFIX}REDIS_URL."
            )
        for name, kind in STORES.items():
            of_servers = getattr(self, f"{name}_fields").model_fields_set & kind.of_servers
            if getattr(self, f"{name}_url") is None and of_servers:
                variable = f"{PREFIX}{name.upper()}_URL"
                lacks = "has no URL" if name in OPTIONAL else "is embedded, which has none"
                raise InvalidConfiguration(
                    f"{name}.{min(of_servers)} is set, and {name} {lacks}",
                    remedy=f"Set {variable}, or {name}_url as a keyword.",
                )
            with naming(urls[name], partial(self._of_url_alone, name)):
                self._config(name)

    def _check_gateway(self) -> None:
        """:raises InvalidConfiguration: its URL is none, or stores are named beside it."""
        stores = STORES.keys() - OPTIONAL
        named = sorted(name for name in stores if getattr(self, f"{name}_url") is not None)
        if named:
            raise InvalidConfiguration(
                f"url names a gateway, and {named[0]}_url a store of its own",
                remedy="Set the one or the other: the stores behind a gateway are the gateway's.",
            )
        with naming("url", self.gateway):
            self.gateway()

    def _config(self, name: str) -> Any:
        if name == "mongo":
            return self.mongo(mongo.EMBEDDED_URI if self.mongo_url is None else None)
        return getattr(self, name)()

    def _of_url_alone(self, name: str) -> Any:
        url: SecretStr = getattr(self, f"{name}_url")
        return STORES[name].config(**STORES[name].read(url.get_secret_value()))


def named_migrations() -> Path | None:
    """The setting `migrations`, also where the others are not needed or do not go together."""
    variables = [*of_file(Path(".env")), *of_environment(os.environ)]
    named = _own(variables).get("migrations")
    return Path(named.text) if named else None


def is_postgres_named() -> bool:
    """Whether the bookkeeping is in PostgreSQL, also where the settings do not go together."""
    variables = [*of_file(Path(".env")), *of_environment(os.environ)]
    urls = [each.text for each in variables if each.name == f"{PREFIX}DATABASE_URL"]
    return bool(urls) and urls[-1].startswith("postgres")


def _merged(
    values: dict[str, Any], farther: list[list[Variable]]
) -> tuple[dict[str, Any], dict[str, str | None]]:
    """All places in one, the nearest first, and where the URL of each store stands.

    `farther` begins with the farthest.
    """
    keywords = dict(values)
    database = keywords.pop("mongo_database", None)
    merged: dict[str, Any] = {}
    urls: dict[str, str | None] = {}
    for name, kind in STORES.items():
        store = StoreSettings()
        prefix = f"{PREFIX}{name.upper()}_"
        for variables in farther:
            store.add(kind, store_values(kind.config, variables, prefix, shows=False))
        store.add(kind, of_keywords(name, keywords))
        if name == "clickhouse" and store.address is None:
            store.address = _implied(store.fields)
        urls[name] = store.origin
        merged[f"{name}_url"] = store.address
        merged[f"{name}_fields"] = store.fields
    named = merged["mongo_fields"].pop("database", "")
    if database or named:
        merged["mongo_database"] = database or named
    for unknown in keywords.keys() - StorageSettings.model_fields.keys():
        raise unknown_field(unknown, (*StorageSettings.model_fields, *STORES))
    own = {name: v.text for each in farther for name, v in _own(each).items()}
    return own | merged | keywords, urls


def _implied(fields: dict[str, Any]) -> str | None:
    """A URL for a ClickHouse that single fields name."""
    if fields.get("embedded_path") is not None:
        return "clickhouse+embedded:///"
    return "clickhouse://" if "host" in fields else None


def _own(variables: list[Variable]) -> dict[str, Variable]:
    """The settings that belong to no store."""
    return {
        name: variable
        for variable in variables
        if variable.text and (name := _SETTINGS.get(variable.name)) is not None
    }


def _ours(variables: list[Variable]) -> list[Variable]:
    return [variable for variable in variables if variable.name.startswith(PREFIX)]


def _configuration_error(
    failure: ValidationError,
    values: dict[str, Any],
    from_variables: Set[str],
    origins: dict[str, str],
) -> InvalidConfiguration:
    texts = []
    for fault in failure.errors(include_url=False):
        loc = [str(part) for part in fault["loc"]]
        name = loc[0]
        why = reason(fault["msg"])
        shown = ".".join([name.removesuffix("_fields"), *loc[1:2]])
        if (own := own_error(failure)) is not None:
            return placed(own, shown)
        if name in from_variables:
            texts.append(f"{origins[name]} {why}")
        else:
            value = values[name][loc[1]] if name.endswith("_fields") else values[name]
            is_masked = any(map(is_secret, loc[:2]))
            texts.append(f"{shown} is {MASK if is_masked else repr(value)}: it {why}")
    return InvalidConfiguration("; ".join(texts))


_SETTINGS: Final = {
    PREFIX + name.upper(): name
    for name in StorageSettings.model_fields
    if not name.startswith(tuple(f"{store}_" for store in STORES))
}
"""The variables that belong to no store."""

_KNOWN: Final = {
    *_SETTINGS,
    *(
        f"{PREFIX}{name.upper()}_{each}"
        for name, kind in STORES.items()
        for each in names_of(kind.config)
    ),
}
"""Every variable that is a setting."""
