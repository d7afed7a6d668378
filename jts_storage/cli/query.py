"""``query``: ask ClickHouse something, and change nothing."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from math import isfinite
from typing import Annotated, Any, Final

import typer

from jts_storage.cli.output import AsJson, finished, print_csv, print_json, print_table
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.sql import only_reads
from jts_storage.errors import InvalidData
from jts_storage.settings import StorageSettings

_READ_ONLY: Final[dict[str, Any]] = {"readonly": 2}
_WRITES_A_FILE: Final = re.compile(r"\bOUTFILE\b", re.IGNORECASE)
_FORMAT: Final = re.compile(r"\bFORMAT\s+\w+\s*;?\s*\Z", re.IGNORECASE)


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
        if _FORMAT.search(statement):
            raise InvalidData(
                "must name no format", field="statement", remedy="Use --csv or --json."
            )
        with ClickHouseManager(StorageSettings.load().clickhouse()) as manager:
            return _first(manager, statement, limit)

    names, rows = finished(work)
    shown = rows[:limit] if limit else rows
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in shown])
    elif as_csv:
        print_csv(names, shown)
    else:
        print_table(names, [[_with_offset(value) for value in row] for row in shown])
    if len(shown) < len(rows):
        typer.echo(f"There are more than {limit:,} rows: --limit 0 prints all.", err=True)


def _first(
    manager: ClickHouseManager, statement: str, limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns, and one row more than wanted if there are more."""
    # A result that is cut off costs no more memory than what is shown, and some more rows.
    bound = {"max_result_rows": limit + 1, "result_overflow_mode": "break"} if limit else {}
    columns = manager.read_columns(statement, settings=_READ_ONLY | bound)
    rows = zip(*(map(_shown, column.tolist()) for column in columns.values()), strict=True)
    return list(columns), list(islice(rows, limit + 1 if limit else None))


def _with_offset(value: Any) -> Any:
    return value.isoformat(" ") if isinstance(value, datetime) else value


def _shown(value: Any) -> Any:
    """A value that every output can show: moments with their offset, no NaN, texts of the rest."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    if isinstance(value, dict):
        return {str(_shown(name)): _shown(each) for name, each in value.items()}
    if value is None or isinstance(value, bool | int | str | Decimal | date):
        return value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
