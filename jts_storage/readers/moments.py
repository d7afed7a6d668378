"""What the moments of a source are, settled by a first look over its whole column.

A row is never judged by the rows that happen to be read together with it: where one block ends and
the next begins must not change what is stored. Values that cannot be read are set aside.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage._runtime.surface import column_option, option
from jts_storage.domain.columns import AnyArray, Int64Array
from jts_storage.domain.enums import Timeframe
from jts_storage.readers.epochs import Epochs, Numbers, is_moment
from jts_storage.readers.looking import Looked
from jts_storage.readers.refusals import OptionMissing
from jts_storage.readers.spellings import timeframes_meant
from jts_storage.readers.time_formats import spelled
from jts_storage.readers.written import (
    TIME,
    dates_alone,
    from_digits,
    joined,
    time_digits,
    whole_numbers,
    width_of,
    zone_of,
)

MOMENTS: Final = ("timestamp", "date", "time")
_MANY: Final = 10
"""One value in so many that cannot be read is a mistake; more are a column of another form."""
_MAYBE = r"^\s*(-?\d+(\.0*)?\s*$|\d{4}[-./])"


@dataclass(frozen=True, slots=True)
class Plan:
    """How all moments of a column are read.

    :param has_zone: whether those that are written out have an offset.
    :param epochs: how numbers since 1970 are read.
    :param none_read: whether not one of them could be read.
    """

    kind: Literal["written", "dates", "epochs"] = "written"
    has_zone: bool = False
    epochs: Epochs | None = None
    none_read: bool = False


@dataclass(slots=True)
class Look:
    """Looks at a column part by part."""

    kind: Literal["unknown", "typed", "written", "numbers"] = "unknown"
    has_zone: bool = False
    numbers: Numbers = field(default_factory=Numbers)

    @property
    def is_settled(self) -> bool:
        """Whether what comes cannot change anything."""
        return self.kind in ("typed", "written")

    def see(self, column: Any, rows: Int64Array) -> None:
        """Look at some values, which stand in these rows of the source."""
        if self.is_settled or not len(column):
            return
        is_text = pa.types.is_string(column.type)
        is_number = any(
            is_kind(column.type)
            for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
        )
        if not (is_text or is_number):
            self.kind = "typed"
            return
        if self.kind == "unknown" and is_text:
            self._find_kind(column)
        if is_number:
            self.kind = "numbers"
        if self.kind != "written":
            values, found = whole_numbers(column)
            self.numbers.look(values[found], rows[found])

    def _find_kind(self, column: Any) -> None:
        """The first value that can be read shows the kind of all."""
        maybe = pc.fill_null(pc.match_substring_regex(column, _MAYBE), False)
        for text in column.filter(maybe):
            value = text.as_py().strip()
            number = re.fullmatch(r"(-?\d{1,19})(\.0*)?", value)
            if number is not None:
                if is_moment(int(number[1])):
                    self.kind = "numbers"
                    return
                continue
            zone = zone_of(value)
            if zone is not None:
                self.kind, self.has_zone = "written", zone
                return

    def plan(self) -> Plan:
        """:raises InvalidData: with the row of a number that makes all of them doubtful."""
        if self.kind in ("unknown", "typed"):
            return Plan(none_read=self.kind == "unknown")
        if self.kind == "written":
            return Plan(has_zone=self.has_zone)
        epochs = self.numbers.settled()
        return Plan("dates") if epochs is None else Plan("epochs", epochs=epochs)


def plan_of(column: Any) -> Plan:
    """What the moments of a column are that is there as a whole."""
    look = Look()
    look.see(column, np.arange(len(column), dtype=np.int64))
    return look.plan()


@dataclass(frozen=True, slots=True)
class Plans:
    """What the moments of a source are.

    :param width: of times of day that are written as numbers; 0 if they are not, and None if the
        source has no times of day.
    :param as_written: whether times of day are left as they are, for a format.
    :param by_timeframe: of each, where the source names several.
    """

    width: int | None = None
    as_written: bool = False
    by_timeframe: Mapping[Timeframe | None, Plan] = field(default_factory=dict)

    def of(self, timeframe: Timeframe) -> Plan:
        found = self.by_timeframe.get(timeframe)
        return found or self.by_timeframe.get(None) or Plan()

    def moments(self, columns: Mapping[str, Any]) -> Any:
        """The column of moments of some rows."""
        if "timestamp" in columns:
            return columns["timestamp"]
        if self.width is not None:
            return joined(columns["date"], columns["time"], self.width, as_written=self.as_written)
        if "time" in columns:
            return dates_alone(columns["date"], columns["time"])
        return columns["date"]


def at_fault(columns: Mapping[str, Any], row: int) -> str:
    """Which column it is whose value is no moment in this row: one of two where a time of day is
    beside its date."""
    if "timestamp" in columns or "time" not in columns:
        return "timestamp"
    date, time = columns["date"].slice(row, 1), columns["time"].slice(row, 1)
    text = from_digits(date.cast(pa.string()))[0].as_py()
    is_date = text is not None and zone_of(text) is not None
    return "time" if is_date and not _any(time, TIME) else "date"


def settled(
    source: Looked, *, has_format: bool = False, has_unit: bool = False, by_timeframe: bool = False
) -> Plans:
    """Look at the moments of a source.

    :param has_format: whether the caller says how moments are written out.
    :param has_unit: whether the caller says of which unit they are.
    :param by_timeframe: whether rows of different timeframes may be written differently.
    :raises InvalidData: with the row of a number that makes all of them doubtful.
    """
    width = _width(source, has_format=has_format)
    plans = Plans(width, has_format)
    if has_unit:
        return plans
    looks: dict[Timeframe | None, Look] = {}
    first = 0
    wanted = (*MOMENTS, "timeframe") if by_timeframe else MOMENTS
    for columns, count in _tables(source, wanted):
        moments = plans.moments(columns)
        if has_format and pa.types.is_string(moments.type):
            return plans
        rows = np.arange(first, first + count, dtype=np.int64)
        first += count
        if not by_timeframe or "timeframe" not in columns:
            look = looks.setdefault(None, Look())
            look.see(moments, rows)
            if look.is_settled:
                break
            continue
        for timeframe, its in _split(columns["timeframe"]):
            taken = moments.take(pa.array(its))
            looks.setdefault(timeframe, Look()).see(taken, rows[its])
    return replace(
        plans, by_timeframe={timeframe: look.plan() for timeframe, look in looks.items()}
    )


def _width(source: Looked, *, has_format: bool) -> int | None:
    longest, before, is_filled = 0, 0, False
    odd, first_odd, is_gappy = 0, None, False
    short: OptionMissing | None = None
    for columns, count in _tables(source, MOMENTS):
        if "timestamp" in columns or "time" not in columns:
            return None
        times = columns["time"]
        # The first that can be read shows the kind of all; one or two digits may be anything.
        if not width_of(longest) and _first_is_written(times):
            return 0
        is_filled = is_filled or _any(times, TIME)
        if not is_filled:  # the patterns cost time
            # What has no digit is no time of day, however it may be written.
            strange = _strange(times)
            is_gappy = is_gappy or _has_gap(times)
            if first_odd is None and strange.any():
                first_odd = _unlike_times(times, int(strange.argmax()), before)
            odd += int(strange.sum())
        digits = time_digits(times)
        if digits and not longest:
            short = _too_short(times, before)
        longest = max(longest, digits)
        before += count
    if short is not None and not width_of(longest) and not has_format:
        raise short
    if first_odd is not None and is_gappy and not (is_filled or has_format):
        if odd * _MANY > before:
            raise first_odd
        return None
    return width_of(longest) if is_filled or first_odd is not None else None


def _strange(times: Any) -> AnyArray:
    """Which are no times of day, but might be in some format: those with a digit."""
    text = times.cast(pa.string())
    has_digit = pc.match_substring_regex(text, r"\d")
    is_time = pc.match_substring_regex(text, TIME)
    return np.asarray(pc.fill_null(pc.and_not(has_digit, is_time), False))


def _has_gap(times: Any) -> bool:
    return bool(times.null_count) or _any(times, r"^\s*$")


def _unlike_times(times: Any, row: int, before: int) -> OptionMissing:
    """The error of a column of times that is empty but for some that cannot be read."""
    value = times.cast(pa.string())[row].as_py()
    said = spelled(f"2024-01-02 {value.strip()}")
    ignored = f"To ignore the column, say {column_option('time', '')}."
    return OptionMissing(
        "is no time of day, and the column is empty otherwise",
        field="time",
        value=value,
        row=before + row,
        remedy=f"{said} {ignored}" if said else ignored,
    )


def _too_short(times: Any, before: int) -> OptionMissing:
    """The error of times of one or two digits: hours, or minutes of a day cut off."""
    text = times.cast(pa.string())
    row = int(np.asarray(pc.fill_null(pc.match_substring_regex(text, TIME), False)).argmax())
    return OptionMissing(
        "may be hours or minutes",
        field="time",
        value=text[row].as_py(),
        row=before + row,
        remedy=f"If all are hours, say it: {option('time_format', '%Y-%m-%d %H')}.",
    )


def _first_is_written(times: Any) -> bool:
    """Return whether the first that can be read has colons, those of one or two digits aside."""
    text = times.cast(pa.string())
    text = text.filter(pc.match_substring_regex(text, TIME))
    first = text.filter(pc.match_substring_regex(text, r":|\d{3}")).slice(0, 1)
    return len(first) > 0 and not time_digits(first)


def _any(column: Any, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(column.cast(pa.string()), pattern)).as_py())


def _tables(source: Looked, targets: Collection[str]) -> Iterator[tuple[dict[str, Any], int]]:
    for table in source.columns(targets):
        if table.num_rows:
            yield {name: whole(table.column(name)) for name in table.column_names}, table.num_rows


def _split(names: Any) -> Iterator[tuple[Timeframe, Any]]:
    """The rows of each timeframe; those of none that is known are refused when they are read."""
    encoded = pc.fill_null(names.cast(pa.string()), "").dictionary_encode()
    which = np.asarray(encoded.indices)
    meant = [timeframes_meant(name.strip()) for name in encoded.dictionary.to_pylist()]
    for timeframe in dict.fromkeys(found[0] for found in meant if len(found) == 1):
        its = [number for number, found in enumerate(meant) if found == (timeframe,)]
        yield timeframe, np.flatnonzero(np.isin(which, its))


def whole(column: Any) -> Any:
    """A column of a table in one piece, its text of the usual type."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = (
            pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], column.type)
        )
    if pa.types.is_null(combined.type):
        return pc.cast(combined, pa.string())
    return combined
