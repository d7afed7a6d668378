"""Read the timestamps of a source as milliseconds UTC. A time zone is never assumed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage._runtime.surface import option
from jts_storage.domain.calendar import DAY_MS
from jts_storage.domain.columns import Int64Array
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.resampling import period_starts, zone
from jts_storage.errors import InvalidData
from jts_storage.readers.epochs import Epochs, are_dates, is_date
from jts_storage.readers.time_formats import spelled

_OFFSET = r"(Z|[+-]\d{2}:?\d{2}|[+-]\d{2})$"
_WHOLE = r"-?\d+(\.0*)?"
_SPELLINGS = (
    (r"^(\d{4})[./] ?(\d{1,2})[./] ?(\d{1,2})\.?", r"\1-\2-\3"),
    (r"^(\d{4})-(\d)-", r"\1-0\2-"),
    (r"^(\d{4}-\d{2})-(\d)(\D|$)", r"\1-0\2\3"),
    (r" ?UTC$", "Z"),
    (r" ([+-]\d{2})", r"\1"),
    (r"(\.\d{3})0+", r"\1"),
)
_PER_MS = {"us": 1_000, "ns": 1_000_000}


@dataclass(frozen=True, slots=True)
class TimestampReader:
    """How the moments of a source are to be read.

    :param timezone: the zone of timestamps without one, and of the dates of daily bars.
    :param format: a strptime format for moments that are not ISO 8601.
    """

    timeframe: Timeframe
    timezone: str | None = None
    format: str | None = None

    def __post_init__(self) -> None:
        if self.timezone is not None:
            zone(self.timezone)
        if self.format is not None and "%" not in self.format:
            raise InvalidData("must have fields such as %Y", field="time_format", value=self.format)

    def read(self, column: Any, epochs: Epochs | None = None) -> Int64Array:
        """Milliseconds UTC of an Arrow column of text, integers or timestamps.

        :param epochs: the unit found in earlier parts of a column of numbers.
        :raises InvalidData: with the row of the first that is no moment.
        """
        kind = column.type
        if pa.types.is_date(kind):
            return self._dated(column.cast(pa.timestamp("ms")), has_zone=False)
        if pa.types.is_timestamp(kind):
            return self._dated(column, has_zone=kind.tz is not None)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return self._from_numbers(column, epochs or Epochs())
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self._from_text(column, epochs or Epochs())
        raise InvalidData(f"must be moments, not {kind}", field="timestamp")

    def _from_text(self, column: Any, epochs: Epochs) -> Int64Array:
        if self.format is not None:
            return self._dated(self._parsed_by_format(column), has_zone="%z" in self.format)
        if not len(column):
            return np.empty(0, np.int64)
        first = column[0].as_py() or ""
        if first != first.strip():
            column = pc.utf8_trim_whitespace(column)
            first = first.strip()
        # The first text shows the kind of all, and a wrong guess is found by the cast.
        if re.fullmatch(_WHOLE, first):
            numbers = _whole_numbers(column)
            if numbers is None:  # dates in digits may stand among others
                if not is_date(first):
                    return self._from_numbers(_cast(column, pa.int64()), epochs)
                column = _from_compact(column)
            else:
                return self._from_numbers(numbers, epochs)
        return self._from_written(column)

    def _from_written(self, column: Any) -> Int64Array:
        first = _iso(column.slice(0, 1))[0].as_py() or ""
        has_zone = len(first) > 10 and re.search(_OFFSET, first) is not None
        if has_zone and not self.timeframe.is_intraday and self.timezone is None:
            # The date of a daily bar is the one that is written, whatever the offset.
            column = pc.replace_substring_regex(_iso(column), _OFFSET, "")
            has_zone = False
        return self._dated(_instants(column, has_zone=has_zone), has_zone=has_zone)

    def _parsed_by_format(self, column: Any) -> Any:
        assert self.format is not None
        parsed = pc.strptime(column, format=self.format, unit="ms", error_is_null=True)
        _refuse_first(parsed.is_null(), column, f"does not match {self.format!r}")
        self._refuse_impossible(parsed, column)
        return parsed.cast(pa.timestamp("ms", "UTC")) if "%z" in self.format else parsed

    def _refuse_impossible(self, parsed: Any, column: Any) -> None:
        """Arrow takes 30 February for 1 March; only what is early in a month can be such a day."""
        assert self.format is not None
        rows = np.flatnonzero(np.asarray(pc.less_equal(pc.day(parsed), 3)))
        written = column.take(pa.array(rows))
        again = pc.strftime(parsed.take(pa.array(rows)), self.format)
        for index in np.flatnonzero(np.asarray(pc.not_equal(written, again))).tolist():
            text = written[index].as_py()
            try:
                time.strptime(text, self.format)
            except ValueError:
                raise InvalidData(
                    "is no day of any calendar", field="timestamp", value=text, row=int(rows[index])
                ) from None

    def _from_numbers(self, column: Any, epochs: Epochs) -> Int64Array:
        if column.null_count:
            _refuse_first(column.is_null(), column, "must not be null")
        if not len(column):
            return np.empty(0, np.int64)
        try:
            values = np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)
        except pa.ArrowInvalid as exc:
            raise InvalidData(f"is no moment: {exc}", field="timestamp") from exc
        if are_dates(values):
            return self._from_written(_from_compact(column.cast(pa.string())))
        instants = pa.array(epochs.milliseconds(values)).cast(pa.timestamp("ms", "UTC"))
        return self._dated(instants, has_zone=True)

    def _dated(self, column: Any, *, has_zone: bool) -> Int64Array:
        """Moments as they are stored: intraday in UTC, else the midnight of their date."""
        if column.null_count:
            _refuse_first(column.is_null(), column, "must not be null")
        if self.timeframe.is_intraday:
            return _milliseconds(column if has_zone else self._zoned(column))
        if has_zone:
            kind = column.type
            column = column.cast(pa.timestamp(kind.unit, self.timezone or kind.tz))
            if self.timezone is None and kind.tz == "UTC":
                self._must_be_midnight(column)
            column = pc.local_timestamp(column)
        dates = _milliseconds(column) // DAY_MS * DAY_MS
        return period_starts(dates, self.timeframe)

    def _zoned(self, column: Any) -> Any:
        if self.timezone is None:
            raise InvalidData(
                "has no time zone",
                field="timestamp",
                value=str(column[0]) if len(column) else None,
                row=0,
                remedy="Name the zone it was recorded in, for example "
                f"{option('timezone', 'Asia/Seoul')}.",
            )
        try:
            return pc.assume_timezone(column, self.timezone)
        except pa.ArrowInvalid:
            self._refuse_ambiguous(column)

    def _refuse_ambiguous(self, column: Any) -> NoReturn:
        row = _first_refused(column, lambda part: pc.assume_timezone(part, self.timezone))
        raise InvalidData(
            f"exists twice or not at all in {self.timezone}, where clocks changed",
            field="timestamp",
            value=str(column[row]),
            row=row,
            remedy="Use moments with an offset, such as 2024-11-03T01:30:00-04:00.",
        )

    def _must_be_midnight(self, column: Any) -> None:
        milliseconds = _milliseconds(column)
        _refuse_first(
            pa.array(milliseconds % DAY_MS != 0),
            column,
            "is not midnight UTC, so its date depends on a time zone",
            f"Name it: {option('timezone', 'Asia/Seoul')}.",
        )


def joined(date: Any, time: Any) -> Any:
    """A column of dates and one of times (``0900``, ``90000``, ``09:00``) as one of text."""
    date, time = (pc.utf8_trim_whitespace(part.cast(pa.string())) for part in (date, time))
    digits = pc.match_substring_regex(time, r"^\d{3,6}$")
    # One column is written in one way: 500 is five o'clock, but beside 90000 five past midnight.
    longest = pc.max(pc.utf8_length(time.filter(digits))).as_py() or 0
    padded = pc.utf8_lpad(time, 4 if longest <= 4 else 6, "0")
    spread = pc.replace_substring_regex(padded, r"^(\d{2})(\d{2})(\d{2})?$", r"\1:\2:\3")
    time = pc.if_else(digits, pc.replace_substring_regex(spread, ":$", ""), time)
    compact = pc.match_substring_regex(date, r"^\d{8}$")
    spread = pc.replace_substring_regex(date, r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    return pc.binary_join_element_wise(pc.if_else(compact, spread, date), time, " ")


def _whole_numbers(column: Any) -> Any:
    """The integers of a column of text, some perhaps with zeros behind a point; None if it has
    something else."""
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:  # the pattern costs far more than the cast
        column = pc.replace_substring_regex(column, r"\.0*$", "")
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _from_compact(column: Any) -> Any:
    """``20240102``, ``202401020900`` and ``20240102090000`` with the marks of ISO 8601."""
    column = pc.replace_substring_regex(column, r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    column = pc.replace_substring_regex(
        column, r"^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})$", r"\1-\2-\3 \4:\5"
    )
    return pc.replace_substring_regex(
        column, r"^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})$", r"\1-\2-\3 \4:\5:\6"
    )


def _instants(column: Any, *, has_zone: bool) -> Any:
    kind = pa.timestamp("ms", "UTC" if has_zone else None)
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        # Patterns cost far more than the cast, so they wait until something does not fit.
        return _cast(_iso(column), kind)


def _iso(column: Any) -> Any:
    """Rewrite timestamps that are almost ISO 8601: other separators, or more digits than needed."""
    for pattern, becomes in _SPELLINGS:
        column = pc.replace_substring_regex(column, pattern, becomes)
    return column


def _cast(column: Any, kind: Any) -> Any:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as exc:
        row = _first_refused(column, lambda part: part.cast(kind))
        value = column[row].as_py()
        rule = "is no moment that this column's first rows are like"
        if isinstance(value, str) and "zone offset" in str(exc):
            rule = "must have an offset or none, as the rows before it"
        raise InvalidData(
            rule, field="timestamp", value=value, row=row, remedy=spelled(value)
        ) from exc


def _first_refused(column: Any, convert: Callable[[Any], object]) -> int:
    """Return the first row that `convert` refuses, found by halving: Arrow does not name it."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(column.slice(low, middle - low))
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low


def _milliseconds(column: Any) -> Int64Array:
    unit = column.type.unit
    ticks = np.asarray(column.cast(pa.timestamp(unit)).cast(pa.int64()).to_numpy(), np.int64)
    if unit == "s":
        return ticks * 1_000
    if unit == "ms":
        return ticks
    values, finer = np.divmod(ticks, _PER_MS[unit])
    _refuse_first(pa.array(finer != 0), column, "must be whole milliseconds")
    return values


def _refuse_first(at_fault: Any, column: Any, rule: str, remedy: str | None = None) -> None:
    rows = np.flatnonzero(np.asarray(at_fault))
    if len(rows):
        row = int(rows[0])
        value = column[row].as_py()
        shown = value if value is None else str(value)
        raise InvalidData(rule, field="timestamp", value=shown, row=row, remedy=remedy)
