"""The SQLAlchemy dialects ``clickhouse+jts`` (TCP) and ``clickhouse+embedded`` (chDB).

Both are clickhouse-sqlalchemy's native dialect over a connector that pools, so its tables, types,
engines and compiler serve either.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.engine import URL

from jts_storage.clickhouse import connector, errors
from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.sqlalchemy_internals import NativeDialect


class PoolingDialect(NativeDialect):
    """ClickHouse over TCP."""

    driver = "jts"
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        return connector

    def create_connect_args(self, url: URL) -> tuple[tuple[Any, ...], dict[str, Any]]:
        config = ClickHouseConfig.from_url(url)
        self.database = config.database
        return (config,), {}

    def is_disconnect(self, e: BaseException, connection: Any, cursor: Any) -> bool:
        return errors.is_disconnect(e)

    def do_ping(self, dbapi_connection: Any) -> bool:
        # No statement: whether the socket was closed shows without one.
        dbapi_connection.revive()
        return True

    def do_rollback(self, dbapi_connection: Any) -> None:
        dbapi_connection.rollback()

    # The parent asks the URL for the database; the embedded URL holds a path there.

    def get_table_names(self, connection: Any, schema: str | None = None, **kw: Any) -> Any:
        return super().get_table_names(connection, schema or self.database, **kw)

    def get_view_names(self, connection: Any, schema: str | None = None, **kw: Any) -> Any:
        return super().get_view_names(connection, schema or self.database, **kw)

    def get_engine(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        return super().get_engine(connection, table_name, schema or self.database, **kw)

    def get_table_comment(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        return super().get_table_comment(connection, table_name, schema or self.database, **kw)

    def get_pk_constraint(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        return super().get_pk_constraint(connection, table_name, schema or self.database, **kw)


class EmbeddedDialect(PoolingDialect):
    """ClickHouse in this process."""

    driver = "embedded"
    supports_statement_cache = True


def register() -> None:
    """Make both known to `sqlalchemy.create_engine` where the package is not installed.

    Where it is, they are entry points of it.
    """
    for dialect in (PoolingDialect, EmbeddedDialect):
        registry.register(f"clickhouse.{dialect.driver}", __name__, dialect.__name__)
