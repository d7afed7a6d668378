"""``query``: ask ClickHouse something, and change nothing."""

from __future__ import annotations

import re
from itertools import islice
from typing import Annotated, Any, Final

import typer

from jts_storage.cli.output import AsJson, finished, print_csv, print_json, print_table
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.sql import only_reads
from jts_storage.errors import InvalidData
from jts_storage.settings import StorageSettings

_READ_ONLY: Final = {"readonly": 2}
_WRITES_A_FILE: Final = re.compile(r"\bOUTFILE\b", re.IGNORECASE)


def query(
    statement: Annotated[
        str, typer.Argument(metavar="STATEMENT", help="SELECT, SHOW, DESCRIBE, EXISTS or EXPLAIN.")
    ],
    limit: Annotated[int, typer.Option(help="At most so many rows; 0 for all.", min=0)] = 1_000,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask ClickHouse a question of your own. Statements that write are refused."""

    async def work() -> tuple[list[str], list[tuple[Any, ...]]]:
        if not only_reads(statement) or _WRITES_A_FILE.search(statement):
            raise InvalidData("must be one statement that only reads", field="statement")
        with ClickHouseManager(StorageSettings.load().clickhouse()) as manager:
            return _first(manager, statement, limit)

    names, rows = finished(work)
    shown = rows[:limit] if limit else rows
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in shown])
    elif as_csv:
        print_csv(names, shown)
    else:
        print_table(names, shown)
    if len(shown) < len(rows):
        typer.echo(f"There are more than {limit:,} rows: --limit 0 prints all.", err=True)


def _first(
    manager: ClickHouseManager, statement: str, limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns, and one row more than wanted if there are more."""
    columns = manager.read_columns(statement, settings=_READ_ONLY)
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return list(columns), list(islice(rows, limit + 1 if limit else None))
