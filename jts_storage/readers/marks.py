"""Find out from the numbers of a source which mark is the decimal mark.

``78.25``, ``0.500`` and ``1,234.5`` can be read in one way only. ``78.500`` and ``1,234`` can be
read in two: their only mark has three digits after it and one to three before it. A single number
of the first kind, anywhere in the source, decides how all of the second kind are read. If some of
the first kind have a decimal point and others a comma, it is the point. Text that is no number in
either style, such as ``12.03.2024``, shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jts_storage._runtime.surface import option
from jts_storage.domain import checks
from jts_storage.domain.columns import FIELDS, Int64Array
from jts_storage.errors import InvalidData
from jts_storage.readers.looking import Looked
from jts_storage.readers.numbers import NumberStyle, has_marks


@dataclass(slots=True)
class Marks:
    """What was seen so far.

    :param thousands: the mark between thousands, where the caller gave it.
    :param point: whether some number has a decimal point for certain.
    :param comma: whether some number has a decimal comma, or points between thousands, for certain.
    :param is_marked: whether some text, be it a number or not, has a point, a comma or a blank
        between digits. Blanks group thousands beside a decimal comma, but do not show one.
    :param doubtful_point: a number whose point could be either.
    :param doubtful_comma: a number whose comma could be either.
    """

    thousands: str | None = None
    point: bool = False
    comma: bool = False
    is_marked: bool = False
    doubtful_point: str | None = None
    doubtful_comma: str | None = None

    def look_at_prices(self, values: Int64Array, decimals: int) -> None:
        """Look at prices that are read already: times 10**4, all written with so many decimals."""
        if not decimals:
            return
        whole = checks.PRICE_SCALE
        if decimals != 3 or bool(((values < whole) | (values >= 1_000 * whole)).any()):
            self.point = True
        elif self.doubtful_point is None:
            self.is_marked = True
            self.doubtful_point = f"{int(values[0]) / whole:.3f}"

    def look_at(self, column: Any) -> None:
        """Look at a column of text."""
        if not has_marks(column):
            return
        column = pc.utf8_trim_whitespace(column)
        column = column.filter(pc.match_substring_regex(column, r"[.,]|\d \d"))
        self.is_marked = self.is_marked or len(column) > 0
        column = column.filter(pc.match_substring_regex(column, "[.,]"))
        with_point, with_comma = (
            pc.match_substring_regex(column, NumberStyle(mark, self.thousands).number)
            for mark in (".", ",")
        )
        self.point = self.point or _any(pc.and_not(with_point, with_comma))
        self.comma = self.comma or _any(pc.and_not(with_comma, with_point))
        self._keep_doubtful(column.filter(pc.and_(with_point, with_comma)))

    def _keep_doubtful(self, column: Any) -> None:
        """Keep the first of each kind, for the message."""
        has_comma = pc.match_substring(column, ",")
        if self.doubtful_comma is None:
            self.doubtful_comma = _first(column.filter(has_comma))
        if self.doubtful_point is None:
            self.doubtful_point = _first(column.filter(pc.invert(has_comma)))

    def style(self, *, comma_separates_fields: bool) -> NumberStyle | None:
        """Return how to read all numbers of a source; None if it is doubtful."""
        if self.point:
            return NumberStyle(".", self.thousands)
        if self.comma:
            return NumberStyle(",", self.thousands)
        # Decimal commas are rare where commas separate fields.
        if comma_separates_fields or not (self.doubtful_point or self.doubtful_comma):
            return NumberStyle(".", self.thousands)
        return None

    def refused(self, where: str) -> InvalidData:
        """Return the error for a source whose numbers can be read in two ways."""
        mark = "comma" if self.doubtful_comma else "point"
        return InvalidData(
            f"{where}: {self.doubtful_comma or self.doubtful_point!r} could have a decimal {mark} "
            f"or a thousands {mark}, and no other number shows which.",
            remedy=f"Say {option('decimal', '.')} or {option('decimal', ',')}, or "
            f"{option('thousands')} with the mark between thousands.",
        )


def search_source(source: Looked, marks: Marks) -> None:
    """Look at the numbers of a whole source, or until one has a decimal point for certain.

    Costs a second reading, of sources whose first numbers have no such point.
    """
    for table in source.columns(FIELDS):
        for name in table.column_names:
            for column in table.column(name).chunks:
                if any(is_kind(column.type) for is_kind in _text_kinds()):
                    marks.look_at(column.cast(pa.string()))
        if marks.point:
            return


def _text_kinds() -> tuple[Any, ...]:
    return (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def _any(mask: Any) -> bool:
    return bool(pc.any(mask).as_py())


def _first(column: Any) -> str | None:
    found: str | None = column[0].as_py() if len(column) else None
    return found
