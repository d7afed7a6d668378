"""Every statement that names a cluster is one that the real engine can parse.

No server of the tests has a Keeper, so what such a statement does cannot be seen here, and what is
played for it elsewhere would take any text. Each place of the package that writes one is listed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import pytest
from sqlalchemy.schema import CreateTable

import jts_storage
from jts_storage import SeriesKey, Timeframe
from jts_storage.clickhouse import comparing, declared, schema, tables, unreadable
from jts_storage.clickhouse.constructs import ddl_of
from jts_storage.clickhouse.create_texts import TableText
from jts_storage.clickhouse.history import CandleHistory
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.purging import HistoryPurge
from jts_storage.clickhouse.sql import literal
from jts_storage.errors import StorageError
from jts_storage.migrate.kept_tables import Kept, KeptTables
from jts_storage.migrate.running import Run
from tests.declared import ticks
from tests.migration.test_cluster import printed
from tests.unit.clickhouse_repositories.test_purging import Noted

CLUSTER: Final = "c1"
COLLECTED: Final = {
    "migrate/clickhouse.py": "migrations",
    "migrate/copying.py": "migrations",
    "migrate/definition.py": "migrations",
    "migrate/replacing.py": "migrations",
    "migrate/running.py": "migrations",
    "migrate/tables.py": "migrations",
    "migrate/kept_tables.py": "kept",
    "clickhouse/tables.py": "changes of rows",
    "clickhouse/purging.py": "changes of rows",
    "clickhouse/history.py": "changes of rows",
    "clickhouse/declared.py": "changes of rows",
    "clickhouse/schema.py": "remedies",
    "clickhouse/unreadable.py": "remedies",
    "clickhouse/shards.py": "look",
    "testing/stores/clickhouse.py": "tests",
}
"""The files of the package that write of a cluster, and what collects their statements."""

_SAYS: Final = re.compile(r"ON CLUSTER|\{on_cluster\}|clusterAllReplicas|\bcluster\(")
_HELPERS: Final = {"on_cluster", "holding", "on_all", "on_every_host"}
_MAY_SAY: Final = re.compile(f"{_SAYS.pattern}|{'|'.join(_HELPERS)}")
_PARAMETER: Final = re.compile(r"%\(\w+\)s")


def changes_of_rows() -> Iterator[str]:
    """What erases rows, of which a Distributed table knows nothing."""
    built, ends = tables.build(CLUSTER), cast(Any, None)
    managers: list[Any] = [Noted(CLUSTER) for _ in range(3)]
    all_series, one_series, rest = managers
    HistoryPurge(all_series, built).erase(None, 7)
    HistoryPurge(one_series, built).erase([SeriesKey("A", Timeframe.D1)], 7)
    CandleHistory(rest, built.candles, built.history, ends).forget(7, [3, 5])
    declared.DeclaredTable(rest, ticks).forget(7)
    yield from (query for noted in managers for query, _ in noted.sent)


def made() -> Iterator[str]:
    for by_year in (False, True):
        metadata = tables.build(CLUSTER, partition_by_year=by_year).metadata
        yield from (ddl_of(CreateTable(each)) for each in metadata.sorted_tables)
    yield from declared.create_statements(ticks, CLUSTER)


def remedies() -> Iterator[str]:
    """Of each table, with each kind of difference at once."""
    for name, wanted in schema.texts_of(tables.build(CLUSTER).metadata).items():
        columns = dict(list(wanted.columns.items())[::-1][1:])
        first = next(iter(columns))
        columns[first] = replace(columns[first], type="Int8", parts={"TTL": "timestamp"})
        columns["surplus"] = wanted.columns[first]
        found: TableText = replace(
            wanted,
            columns=columns,
            extras={"index i": "symbol TYPE set(1) GRANULARITY 1"},
            clauses={**wanted.clauses, "TTL": "timestamp + 1", "SETTINGS": "table_readonly = 1"},
        )
        for limits in ({}, {"table_readonly": 0}):
            for each in comparing.compare(name, wanted, found, limits=limits):
                if comparing.REBUILD not in each.remedy:
                    yield from schema.everywhere(each.remedy, CLUSTER).split("; ")

    for table in ("candles", "symbols"):
        moved = unreadable._moved(table, "", "1", set(), CLUSTER).remedy.split("; ")
        yield from moved[1:]  # the first makes a table of the one server that is asked


def kept() -> Iterator[str]:
    sent: list[str] = []

    def execute(query: str, **_: Any) -> Any:
        sent.append(query)
        return []

    old = Kept("candles_legacy", "candles", 1, 1, 0)
    KeptTables(execute, Run(execute=execute, cluster=CLUSTER)).drop([old])
    yield from sent


def of_tests() -> Iterator[str]:
    for statement in ("TRUNCATE TABLE `candles_local`", "CREATE DATABASE IF NOT EXISTS `jts`"):
        yield f"{statement} ON CLUSTER `{CLUSTER}`"


COLLECTORS: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "changes of rows": changes_of_rows,
    "made": made,
    "remedies": remedies,
    "kept": kept,
    "tests": of_tests,
    "look": lambda: iter([f"SELECT count() FROM cluster({CLUSTER}, system, one)"]),
}


def refused(clickhouse: ClickHouseManager, statement: str) -> str | None:
    """What the engine says of a text that it cannot parse."""
    text = _PARAMETER.sub("1", statement)
    try:
        clickhouse.execute(f"SELECT formatQuery({literal(text)})".replace("%", "%%"), {})
    except StorageError as exc:
        return f"{statement}: {exc}"
    return None


@pytest.mark.parametrize("name", COLLECTORS)
def test_each_is_parsed(clickhouse: ClickHouseManager, name: str) -> None:
    statements = list(COLLECTORS[name]())
    assert statements
    assert [found for each in statements if (found := refused(clickhouse, each))] == []
    told = [each.replace("`", "") for each in statements if not each.startswith("SELECT")]
    assert [each for each in told if f"ON CLUSTER {CLUSTER}" not in each] == []
    if name == "changes of rows":
        assert {each.split()[0] for each in told} == {"ALTER", "DELETE", "OPTIMIZE"}


async def test_each_of_the_migrations_is_parsed(clickhouse: ClickHouseManager) -> None:
    steps = [*await printed(clickhouse, "up"), *await printed(clickhouse, "down")]
    statements = [each for step in steps for each in step]
    statements = [each.removeprefix("-- if candles is empty: ") for each in statements]
    statements = [each for each in statements if not each.startswith("--")]
    assert len(statements) > 60
    assert [found for each in statements if (found := refused(clickhouse, each))] == []


def test_what_is_no_statement_is_refused(clickhouse: ClickHouseManager) -> None:
    assert refused(clickhouse, f"DROP TABLE candles SYNC ON CLUSTER {CLUSTER}")


def says(node: ast.AST) -> bool:
    """Whether it is text of a statement on a cluster, or what puts that into one."""
    match node:
        case ast.Constant(value=str(text)):
            return _SAYS.search(text) is not None
        case ast.Attribute(attr=name) | ast.Call(func=ast.Name(id=name)):
            return name in _HELPERS
    return False


def test_all_that_write_of_a_cluster_are_collected() -> None:
    package = Path(jts_storage.__file__).parent
    writing = set()
    for path in package.rglob("*.py"):
        source = path.read_text()
        if not _MAY_SAY.search(source):
            continue
        tree = ast.parse(source)
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        said = (node for node in ast.walk(tree) if id(node) not in documented)
        if any(map(says, said)):
            writing.add(str(path.relative_to(package)))
    assert writing == set(COLLECTED)
    assert set(COLLECTED.values()) - {"migrations"} <= set(COLLECTORS)
