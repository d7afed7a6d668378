"""``query``: ask ClickHouse something, and change nothing."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from difflib import get_close_matches
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jts_storage.cli.output import (
    AsJson,
    as_json_text,
    finished,
    more_than,
    print_csv,
    print_json,
    print_table,
    told,
)
from jts_storage.errors import InvalidData, NotFound, SchemaDrift

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager

_UNKNOWN_TABLE: Final = 60
_MISSING: Final = re.compile(
    r"(?:table expression identifier|Table|table) [`'\"]?(?P<name>[\w.]+)[`'\"]?"
)
"""How ClickHouse names a table that is not there."""
_READ_ONLY: Final[dict[str, Any]] = {"readonly": 2}
_WRITES_A_FILE: Final = re.compile(r"\bOUTFILE\b", re.IGNORECASE)
_FORMAT: Final = re.compile(
    r"\bFORMAT\s+\w+\s*(?:\bSETTINGS\b.*)?;?\s*\Z", re.IGNORECASE | re.DOTALL
)
_TEXT: Final = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"
    r"|(?P<comment>--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)",
    re.DOTALL,
)
"""What a statement says literally, and its comments: neither is a clause of it."""


def query(
    statement: Annotated[
        str, typer.Argument(metavar="STATEMENT", help="SELECT, SHOW, DESCRIBE, EXISTS or EXPLAIN.")
    ],
    limit: Annotated[int, typer.Option(help="At most so many rows; 0 for all.", min=0)] = 1_000,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask ClickHouse a question of your own. Statements that write are refused."""

    told(lambda: _check(statement))

    async def work() -> tuple[list[str], list[tuple[Any, ...]]]:
        from jts_storage.clickhouse.manager import ClickHouseManager
        from jts_storage.clickhouse.sql import only_reads
        from jts_storage.settings import StorageSettings

        if not only_reads(statement):
            raise _writes()
        with ClickHouseManager(StorageSettings.load().clickhouse()) as manager:
            try:
                return _first(manager, statement, limit)
            except SchemaDrift as exc:
                if exc.code != _UNKNOWN_TABLE:
                    raise
                raise _no_table(manager, exc) from exc

    names, rows = finished(work)
    shown = rows[:limit] if limit else rows
    if as_json:
        print_json([dict(zip(names, map(_without_nan, row), strict=True)) for row in shown])
    elif as_csv:
        print_csv(names, [[_nested(value) for value in row] for row in shown])
    else:
        print_table(names, [[_for_table(_nested(value)) for value in row] for row in shown])
    if len(shown) < len(rows):
        typer.echo(f"{more_than(limit, 'row')}: --limit 0 prints all.", err=True)


def _check(statement: str) -> None:
    """:raises InvalidData: it says how or where its result is written."""
    clauses = _clauses(statement)
    if _WRITES_A_FILE.search(clauses):
        raise _writes()
    if _FORMAT.search(clauses):
        raise InvalidData("must name no format", field="statement", remedy="Use --csv or --json.")


def _writes() -> InvalidData:
    return InvalidData("must be one statement that only reads", field="statement")


def _clauses(statement: str) -> str:
    """The statement without its comments, and with nothing between quotes."""
    return _TEXT.sub(lambda found: " " if found["comment"] else "''", statement).strip()


def _first(
    manager: ClickHouseManager, statement: str, limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns, and one row more than wanted if there are more."""
    # A result that is cut off costs no more memory than what is shown, and some more rows.
    bound = {"max_result_rows": limit + 1, "result_overflow_mode": "break"} if limit else {}
    columns = manager.read_columns(statement, settings=_READ_ONLY | bound)
    rows = zip(*(map(_shown, column.tolist()) for column in columns.values()), strict=True)
    return list(columns), list(islice(rows, limit + 1 if limit else None))


def _no_table(manager: ClickHouseManager, error: SchemaDrift) -> NotFound:
    """Say which tables there are: whoever asks of their own knows nothing of migrations."""
    found = manager.read_columns(
        "SELECT name FROM system.tables WHERE database = currentDatabase()"
    )
    tables = sorted(found["name"].tolist())
    told = _MISSING.search(str(error))
    name = told["name"] if told else ""
    near = get_close_matches(name.rpartition(".")[2].lower(), tables, n=1)
    return NotFound(
        f"There is no table {name}." if name else "There is no such table.",
        remedy=(f"Did you mean {near[0]}? " if near else "")
        + (f"There are {', '.join(tables)}." if tables else "There are none yet."),
    )


def _nested(value: Any) -> Any:
    """Lists and maps as JSON: the text that Python has for them is of use to nobody else."""
    return as_json_text(_without_nan(value)) if isinstance(value, list | dict) else value


def _for_table(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(" ")
    # NULL is shown as "-": what is no number is something else.
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _without_nan(value: Any) -> Any:
    """The value with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return value


def _shown(value: Any) -> Any:
    """A value that every output can show: moments with their offset, and texts of the rest."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    if isinstance(value, dict):
        return {str(_shown(name)): _shown(each) for name, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str | Decimal | date):
        return value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
