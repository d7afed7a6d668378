"""What a service sets: where its stores are. With nothing set, all is embedded in ``.jts``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from jts_storage.errors import InvalidConfiguration

if TYPE_CHECKING:
    from jts_storage.clickhouse.config import ClickHouseConfig
    from jts_storage.mongo.config import MongoDBConfig
    from jts_storage.relational.config import DatabaseConfig


class StorageSettings(BaseSettings):
    """Read from ``JTS_*`` in the environment; what is given as a keyword comes first.

    A store without a URL runs embedded below `data_dir`: chDB, a local mongod, SQLite.
    """

    model_config = SettingsConfigDict(env_prefix="JTS_", frozen=True, extra="forbid")

    data_dir: Path = Path(".jts")
    """Where embedded stores keep their files."""

    clickhouse_url: SecretStr | None = None
    """``clickhouse://user:password@host:9000,other/jts?secure=1&cluster=name``."""

    mongo_url: SecretStr | None = None
    """``mongodb://user:password@host/?replicaSet=rs0``; transactions need a replica set."""

    mongo_database: str = "jts"

    database_url: SecretStr | None = None
    """``postgresql://user:password@host/name`` or ``sqlite:///path``."""

    lake_dir: Path | None = None
    """Where Parquet files are kept; ``data_dir/lake`` if not set."""

    mongod: Path | None = None
    """The mongod to start when MongoDB is embedded; found on PATH or in its wheel if not set."""

    fsync: bool = True
    """Whether what an embedded ClickHouse acknowledged is on disk, or with the kernel only."""

    cache_bytes: int = Field(default=128 * 2**20, ge=0)
    """How much of what was read of candles is kept, as long as the table proves unchanged."""

    health_timeout: float = Field(default=0.45, gt=0)
    """Seconds after which a store that has not answered `health` does not answer."""

    check: Literal["error", "warn", "off"] = "off"
    """What a difference between live schemas and models does at opening."""

    migrate: bool | None = None
    """Whether opening applies pending migrations; if not set, to embedded stores only."""

    @classmethod
    def load(cls, **values: Any) -> Self:
        """The settings of the environment.

        :raises InvalidConfiguration: naming the variables at fault, not their values.
        """
        try:
            return cls(**values)
        except ValidationError as exc:
            faults = "; ".join(
                f"JTS_{'.'.join(map(str, fault['loc'])).upper()} {fault['msg']}"
                for fault in exc.errors(include_input=False, include_url=False)
            )
            raise InvalidConfiguration(faults) from None

    @property
    def lake_root(self) -> Path:
        return self.lake_dir or self.data_dir / "lake"

    def clickhouse(self) -> ClickHouseConfig:
        from jts_storage.clickhouse.config import ClickHouseConfig

        if self.clickhouse_url is not None:
            config = ClickHouseConfig.from_url(self.clickhouse_url.get_secret_value())
        else:
            path = self.data_dir.absolute() / "clickhouse"
            config = ClickHouseConfig(embedded_path=str(path), fsync=self.fsync)
        return replace(config, **self._bounds)

    def mongo(self, local_uri: str | None = None) -> MongoDBConfig:
        """:param local_uri: where the embedded mongod listens, if there is one."""
        from jts_storage.mongo.config import MongoDBConfig

        url = self.mongo_url.get_secret_value() if self.mongo_url else local_uri
        if url is None:
            raise InvalidConfiguration("JTS_MONGO_URL is not set and no mongod is embedded")
        return MongoDBConfig(uri=url, database=self.mongo_database, **self._bounds)

    def database(self) -> DatabaseConfig:
        from jts_storage.relational.config import DatabaseConfig

        url = f"sqlite:///{self.data_dir.absolute() / 'bookkeeping.db'}"
        if self.database_url is not None:
            url = self.database_url.get_secret_value()
        return DatabaseConfig(url=url, **self._bounds)

    @property
    def _bounds(self) -> dict[str, Any]:
        """Those of a store's own URL stay, unless they are set here."""
        is_set = "health_timeout" in self.model_fields_set
        return {"health_timeout": self.health_timeout} if is_set else {}
