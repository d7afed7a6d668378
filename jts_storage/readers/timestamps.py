"""Read the timestamps of a source as milliseconds UTC. A time zone is never assumed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage._runtime.surface import option
from jts_storage.domain.calendar import DAY_MS
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.columns import Int64Array
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.resampling import period_starts, zone
from jts_storage.errors import InvalidData
from jts_storage.readers.epochs import Epochs, said
from jts_storage.readers.moments import Plan, plan_of
from jts_storage.readers.refusals import OptionMissing
from jts_storage.readers.time_formats import spelled
from jts_storage.readers.written import OFFSET, first_refused, from_digits, iso, whole_numbers

_UNLIKE = "is no moment like the others of its column"
_PER_MS = {"us": 1_000, "ns": 1_000_000}


@dataclass(frozen=True, slots=True)
class TimestampReader:
    """How the moments of a source are to be read.

    :param timezone: the zone of timestamps without one, and of the dates of daily bars.
    :param format: a strptime format for moments that are not ISO 8601.
    :param unit: of moments that are numbers since 1970, where the caller says it.
    """

    timeframe: Timeframe
    timezone: str | None = None
    format: str | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.timezone is not None:
            zone(self.timezone)
        if self.format is not None and "%" not in self.format:
            raise InvalidData("must have fields such as %Y", field="time_format", value=self.format)
        if self.unit is not None:
            said(self.unit)
            if self.format is not None:
                raise InvalidData("must not be given with a format", field="time_unit")

    def read(self, column: Any, plan: Plan | None = None) -> Int64Array:
        """Milliseconds UTC of an Arrow column of text, integers or timestamps.

        :param plan: what the whole column of the source has shown; None takes this for all of it.
        :raises InvalidData: with the row of the first that is no moment.
        """
        if not len(column):
            return np.empty(0, np.int64)
        found = self._read(column, plan)
        outside = (found < FIRST_MS) | (found > LAST_MS)
        _refuse_first(pa.array(outside), column, "lies before 1900 or after 2299")
        return found

    def _read(self, column: Any, plan: Plan | None) -> Int64Array:
        kind = column.type
        if pa.types.is_date(kind):
            return self._dated(column.cast(pa.timestamp("ms")), has_zone=False)
        if pa.types.is_timestamp(kind):
            return self._dated(column, has_zone=kind.tz is not None)
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (is_text or is_number or pa.types.is_decimal(kind)):
            raise InvalidData(f"must be moments, not {kind}", field="timestamp")
        if is_text and self.format is not None:
            return self._dated(self._parsed_by_format(column), has_zone="%z" in self.format)
        if self.unit is not None:
            return self._from_numbers(column, said(self.unit))
        plan = plan or plan_of(column)
        if plan.epochs is not None:
            return self._from_numbers(column, plan.epochs)
        if plan.kind == "dates":
            text = column if is_text else column.cast(pa.string())
            return self._from_written(from_digits(text), plan)
        if not is_text:
            return self._from_numbers(column, Epochs(None))
        return self._from_written(column, plan)

    def _from_written(self, column: Any, plan: Plan) -> Int64Array:
        _refuse_first(column.is_null(), column, "must not be null")
        has_zone = plan.has_zone
        if has_zone and not self.timeframe.is_intraday and self.timezone is None:
            # The date of a daily bar is the one that is written, whatever the offset.
            column = iso(column)
            has_offset = pc.match_substring_regex(column, r".{10}" + OFFSET)
            _refuse_first(pc.invert(has_offset), column, "must have an offset, as the others")
            column = pc.replace_substring_regex(column, OFFSET, "")
            has_zone = False
        return self._dated(_instants(column, plan, has_zone=has_zone), has_zone=has_zone)

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
        values, found = whole_numbers(column)
        refused: InvalidData | None = None
        if not found.all():
            row = int(found.argmin())
            refused = _refused(column, row)
            values = values[:row]  # one before it may be refused, too
        milliseconds = epochs.milliseconds(values)
        if refused is not None:
            raise refused
        instants = pa.array(milliseconds).cast(pa.timestamp("ms", "UTC"))
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
            raise OptionMissing(
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
        row = first_refused(column, lambda part: pc.assume_timezone(part, self.timezone))
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
            OptionMissing,
        )


def _instants(column: Any, plan: Plan, *, has_zone: bool) -> Any:
    kind = pa.timestamp("ms", "UTC" if has_zone else None)
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        # Patterns cost far more than the cast, so they wait until something does not fit.
        column = iso(column)
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as exc:
        row = first_refused(column, lambda part: part.cast(kind))
        is_zone = "zone offset" in str(exc)
        raise _refused(column, row, plan, is_zone=is_zone) from exc


def _refused(
    column: Any, row: int, plan: Plan | None = None, *, is_zone: bool = False
) -> InvalidData:
    value = column[row].as_py()
    if value is None:
        return InvalidData("must not be null", field="timestamp", value=None, row=row)
    rule = "must have an offset or none, as the others" if is_zone else _UNLIKE
    remedy = spelled(value)
    # Where no row at all could be read, an option has all of them read.
    kind = OptionMissing if remedy and plan is not None and plan.none_read else InvalidData
    value = value if isinstance(value, str) else str(value)
    return kind(rule, field="timestamp", value=value, row=row, remedy=remedy)


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


def _refuse_first(
    at_fault: Any,
    column: Any,
    rule: str,
    remedy: str | None = None,
    kind: type[InvalidData] = InvalidData,
) -> None:
    rows = np.flatnonzero(np.asarray(at_fault))
    if len(rows):
        row = int(rows[0])
        value = column[row].as_py()
        shown = value if value is None else str(value)
        raise kind(rule, field="timestamp", value=shown, row=row, remedy=remedy)
