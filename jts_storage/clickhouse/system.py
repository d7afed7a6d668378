"""ClickHouse's system tables, with just the columns that the kit reads."""

from __future__ import annotations

from typing import Any

from sqlalchemy import column, func, table
from sqlalchemy.sql import ColumnElement, TableClause


def _system(name: str, *columns: str) -> TableClause:
    return table(name, *map(column, ("database", *columns)), schema="system")


tables = _system(
    "tables",
    *("name", "engine", "partition_key", "sorting_key", "create_table_query"),
    *("dependencies_database", "dependencies_table"),
    *("loading_dependent_database", "loading_dependent_table"),
)
columns = _system("columns", "table", "name", "type")
parts = _system(
    "parts",
    *("table", "name", "engine", "path", "hash_of_all_files", "active", "partition"),
    *("has_lightweight_delete", "rows", "bytes_on_disk"),
)
merges = _system("merges", "table")
mutations = _system("mutations", "table", "mutation_id", "command", "is_done", "latest_fail_reason")
merge_tree_settings = table("merge_tree_settings", column("name"), column("value"), schema="system")
settings = table("settings", column("name"), column("value"), schema="system")
processes = table("processes", column("elapsed"), column("query"), schema="system")
detached_tables = _system("detached_tables", "table")
disks = table("disks", column("unreserved_space"), column("type"), schema="system")
backups = table("backups", column("status"), schema="system")
detached_parts = _system("detached_parts", "table", "name", "reason", "path")


def is_here(rows: TableClause) -> ColumnElement[bool]:
    """Select the rows of the database of the connection."""
    return rows.c.database == func.currentDatabase()


def is_broken() -> ColumnElement[bool]:
    """Select the parts that were put aside as damaged; one detached by hand has no reason."""
    reason: ColumnElement[Any] = func.ifNull(detached_parts.c.reason, "")
    return is_here(detached_parts) & (func.position(reason, "broken") > 0)
