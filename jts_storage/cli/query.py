"""``query``: ask ClickHouse something, and change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from typing import Annotated, Any

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
from jts_storage.domain.statements import check_statement


def query(
    statement: Annotated[
        str, typer.Argument(metavar="STATEMENT", help="SELECT, SHOW, DESCRIBE, EXISTS or EXPLAIN.")
    ],
    limit: Annotated[int, typer.Option(help="At most so many rows; 0 for all.", min=0)] = 1_000,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask ClickHouse a question of your own. Statements that write are refused."""

    told(lambda: check_statement(statement))

    async def work() -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        from jts_storage.cli.served import served
        from jts_storage.settings import StorageSettings

        settings = StorageSettings.load()
        async with served(settings) as elsewhere:
            if elsewhere is not None:
                names, rows = await elsewhere.query(statement, limit)
                return names, rows
            from jts_storage.clickhouse.manager import ClickHouseManager
            from jts_storage.clickhouse.questions import answer

            with ClickHouseManager(settings.clickhouse()) as manager:
                return answer(manager, statement, limit)

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
