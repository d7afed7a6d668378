"""Reads of declared records that SQLite's driver runs itself, in one hop to its thread.

SQLAlchemy's own execution takes a dozen. It writes the SQL all the same, and converts the values:
what fails here is asked once more in its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import Select
from sqlalchemy.engine import Dialect

from jts_storage.models.columns import table_of_columns
from jts_storage.relational.statements import Prepared, Statement

Process = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class RecordRead:
    """A compiled statement, with what converts its parameters and the columns that it finds."""

    sql: str
    names: tuple[str, ...]
    given: dict[str, Any]
    bound: dict[str, Process]
    found: tuple[Process | None, ...]
    schema: pa.Schema
    what: str

    def statement(self, values: dict[str, Any]) -> Statement:
        """The statement with its parameters.

        :param values: of those that it was compiled without.
        """
        given = self.given | values
        for name, process in self.bound.items():
            given[name] = process(given[name])
        prepared = Prepared(self.sql, self.names, given)
        return Statement(lambda: prepared, lambda: prepared)

    def table(self, rows: Sequence[Sequence[Any]]) -> pa.Table:
        """:raises InvalidData: a value does not fit its column."""
        columns = list(zip(*rows, strict=True)) or [()] * len(self.found)
        converted = [
            list(values if process is None else map(process, values))
            for values, process in zip(columns, self.found, strict=True)
        ]
        return table_of_columns(converted, self.schema, self.what)


def compiled(
    statement: Select[Any], dialect: Dialect, schema: pa.Schema, what: str
) -> RecordRead | None:
    """None for a statement whose SQL depends on how many values it is given."""
    made: Any = statement.compile(dialect=dialect)
    if any(each.expanding or each.literal_execute for each in made.binds.values()):
        return None
    names = tuple(made.positiontup or ())
    bound = {
        name: process
        for name in set(names)
        if (process := made.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
    }
    found = tuple(
        column.type.dialect_impl(dialect).result_processor(dialect, None)
        for column in statement.selected_columns
    )
    return RecordRead(str(made), names, dict(made.params), bound, found, schema, what)
