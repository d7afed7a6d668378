"""All that the kit overrides of clickhouse-sqlalchemy beside its tables, types and engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clickhouse_sqlalchemy import engines, types
from clickhouse_sqlalchemy.drivers.native.base import ClickHouseDialect_native

from jts_storage.clickhouse.sql import literal

DEPENDS_ON = {
    "clickhouse_sqlalchemy.drivers.native.base:ClickHouseDialect_native": (
        # Both would cost a statement as an engine connects, and one that a setting unknown to the
        # server refuses, so that connecting seems to have failed.
        *("forced_server_version_string", "_get_default_schema_name"),
        # These give the connector's cursor their context.
        *("do_execute", "do_executemany"),
    ),
    "clickhouse_sqlalchemy.drivers.native.base:ClickHouseDialect_native.statement_compiler": (
        *("visit_column", "visit_bindparam", "render_literal_value", "visit_table"),
    ),
    "clickhouse_sqlalchemy.engines:MergeTree": ("name", "get_parameters"),
}
"""What is used of a class; its own documentation speaks of none."""


class NativeDialect(ClickHouseDialect_native):  # type: ignore[misc]
    """The dialect below the kit's, which asks for nothing as it connects.

    :ivar database: the one in the URL; SQLAlchemy takes it for the default schema.
    """

    database = "default"

    def initialize(self, connection: Any) -> None:
        transport = connection.connection.dbapi_connection.transport
        self.forced_server_version_string = transport.server_version()
        super().initialize(connection)

    def _get_default_schema_name(self, connection: Any) -> str:
        return self.database


class NamedMergeTree(engines.MergeTree):  # type: ignore[misc]
    """A MergeTree of another name.

    clickhouse-sqlalchemy's own engines either replicate or have a version, and write the path of
    a replica in one way.
    """

    name = ""

    def __init__(self, name: str, parameters: Sequence[Any], **options: Any) -> None:
        super().__init__(**options)
        self.name, self.parameters = name, list(parameters)

    def get_parameters(self) -> list[Any]:
        return self.parameters


class _TextCompiler(ClickHouseDialect_native.statement_compiler):  # type: ignore[misc]
    """Write into the text what is known when it is compiled, and columns without their table.

    The engine takes a tenth of a millisecond longer to analyse a statement of qualified names.
    """

    def visit_column(self, column: Any, *arguments: Any, **options: Any) -> Any:
        return super().visit_column(column, *arguments, **options | {"include_table": False})

    def visit_bindparam(self, bindparam: Any, **options: Any) -> Any:
        options["literal_binds"] = not bindparam.required
        return super().visit_bindparam(bindparam, **options)

    def render_literal_value(self, value: Any, type_: Any) -> str:
        if isinstance(value, int) and _is_time(type_):  # of nanoseconds; as a number, seconds
            return f"fromUnixTimestamp64Nano(toInt64({value}), 'UTC')"
        return literal(value).replace("%", "%%")


def _is_time(declared: Any) -> bool:
    nested = getattr(declared, "nested_type", declared)
    return isinstance(nested, types.DateTime64) and nested.precision == 9


class TextDialect(ClickHouseDialect_native):  # type: ignore[misc]
    """Compiles the statements that are run as text."""

    statement_compiler = _TextCompiler
    supports_statement_cache = False
