"""Rows on their way into a block, and those of them that cannot be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage._runtime.surface import option
from jts_storage.domain.columns import FIELDS, AnyArray, Int64Array
from jts_storage.errors import InvalidData
from jts_storage.readers.owners import Labels
from jts_storage.readers.refusals import OptionMissing
from jts_storage.readers.values import remedy_for

MISSHAPEN: Final = "fields"
UNREADABLE: Final = "unreadable"
_LONGEST_TEXT: Final = 1_000
_ODD: Final = r"[^\d.,'\s+\-eE_]"
"""No number that is not missing has such a letter."""

Place: TypeAlias = Literal["line", "row"]


class RowLine(NamedTuple):
    """Where a row stands, and what is written there; no text where there is none.

    :param place: what is counted: lines of a file, or rows.
    """

    number: int
    text: str | None = None
    place: Place = "line"


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read.

    :param before: how many rows of the right number of fields stand before it.
    :param line: where it stands in the file; its number from 1 where that has no lines.
    :param rule: ``"fields"`` if it has a wrong number of them or is no object of JSON,
        ``"unreadable"`` for a value.
    :param place: what `line` counts.
    """

    before: int
    line: int
    reason: str
    text: str
    rule: str = MISSHAPEN
    place: Place = "line"


def remedy_of_broken() -> str:
    return f"{option('on_error', 'quarantine')} keeps such rows aside."


def wrong_count(fields: int, expected: int, other: str = "the header") -> str:
    """What is wrong with a row of so many fields."""
    return f"has {fields} field{'s' * (fields != 1)}, not {expected} as {other}"


def kept_text(text: str) -> str:
    """What is kept of a broken row to look at: not too much, and no NUL, which no store holds."""
    return text[:_LONGEST_TEXT].replace("\0", "\N{SYMBOL FOR NULL}")


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a table, with the number of each in its source."""

    columns: Mapping[str, Any]
    labels: Labels
    numbers: Int64Array
    table: Any

    def slice(self, start: int, count: int) -> Rows:
        wanted = slice(start, start + count)
        return Rows(
            {name: column.slice(start, count) for name, column in self.columns.items()},
            self.labels.taken(wanted),
            self.numbers[wanted],
            self.table.slice(start, count),
        )

    def take(self, wanted: AnyArray) -> Rows:
        at = pa.array(wanted)
        return Rows(
            {name: column.take(at) for name, column in self.columns.items()},
            self.labels.taken(wanted),
            self.numbers[wanted],
            self.table.take(at),
        )

    def seem_wrong(self) -> AnyArray:
        """Where a price or volume may be no number; it may also say that it is missing."""
        found = np.zeros(len(self.numbers), np.bool_)
        for name in set(FIELDS) & self.columns.keys():
            column = self.columns[name]
            if pa.types.is_string(column.type):
                wrong = pc.match_substring_regex(column, _ODD)
                found |= np.asarray(pc.fill_null(wrong, False))
        return found


def may_stand_aside(error: InvalidData) -> bool:
    """Whether it is the value of one row that is wrong, and no option would have it read."""
    if isinstance(error, OptionMissing):
        return False
    return error.field == "timestamp" or (error.field in FIELDS and remedy_for(error) is None)


def unreadable(row: Rows, error: InvalidData) -> BrokenRow:
    """The row, for `placed` to say where it stands and what is written there."""
    told = str(error.args[0]).partition(": ")[2]
    values = row.table.to_pylist()[0].values()
    text = io.StringIO()
    # Quoted where a value has a comma or a quote of its own.
    csv.writer(text, lineterminator="").writerow(
        "" if value is None else str(value) for value in values
    )
    reason = f"{error.field} {told}"
    return BrokenRow(int(row.numbers[0]), 0, reason, kept_text(text.getvalue()), UNREADABLE)


def placed(row: BrokenRow, line: RowLine) -> BrokenRow:
    """The row where it stands, with the text that is written there if there is one."""
    text = row.text if line.text is None else kept_text(line.text)
    return replace(row, line=line.number, text=text, place=line.place)
