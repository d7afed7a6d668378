"""Questions of a person to ClickHouse, which change nothing."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from jts_storage.domain.statements import check_statement, writes
from jts_storage.errors import NotFound, SchemaDrift

# A statement that is refused is refused at once: no driver is imported for it.
if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager

_UNKNOWN_TABLE: Final = 60
_MISSING: Final = re.compile(
    r"(?:table expression identifier|Table|table) [`'\"]?(?P<name>[\w.]+)[`'\"]?"
)
"""How ClickHouse names a table that is not there."""
_READ_ONLY: Final[dict[str, Any]] = {"readonly": 2}


def answer(
    manager: ClickHouseManager, statement: str, limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns, and one row more than wanted if there are more.

    :param limit: how many rows are wanted; 0 for all.
    :raises InvalidData: it does more than read, or says how its result is written.
    :raises NotFound: it names a table that is not there.
    """
    from jts_storage.clickhouse.sql import only_reads

    check_statement(statement)
    if not only_reads(statement):
        raise writes()
    try:
        return _first(manager, statement, limit)
    except SchemaDrift as exc:
        if exc.code != _UNKNOWN_TABLE:
            raise
        raise _no_table(manager, exc) from exc


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
