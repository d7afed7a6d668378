"""Moments that are written as whole numbers: since 1970 in some unit, or as dates in digits.

A number is judged together with its whole column, since alone it may be either: 946684800000
are the milliseconds of 1 January 2000, 202401020900 is nine o'clock on 2 January 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from jts_storage._runtime.surface import option
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.columns import AnyArray, Int64Array
from jts_storage.errors import InvalidData
from jts_storage.readers.refusals import OptionMissing

UNITS: Final = ("s", "ms", "us", "ns")
_LATEST: Final = 42 * 10**8
"""Seconds in 2103. A larger number is of a finer unit, in which it lies in 1970 or later."""
_LIMITS: Final = np.array([_LATEST, _LATEST * 10**3, _LATEST * 10**6], np.uint64)
"""What the sizes of numbers are told apart by: a number below the first is of seconds."""
_TO_1973: Final = 10**11
_EARLIEST: Final = 10**8
"""Seconds in 1973. If all numbers of a column are smaller, its unit cannot be found out."""
_DIGITS: Final = ((8, 1), (12, 10**4), (14, 10**6))
"""How many digits dates and moments have, and what divides them into dates."""
_FIRST_DATE, _LAST_DATE = 1900_00_00, 2200_00_00
_SHARE: Final = 10
"""If fewer than one number in so many makes a date, none is one."""
_TIMES_AS_MANY: Final = 4
"""A column that passes through 1970 has so many times more moments in its years than in its first
seven weeks, whose milliseconds could be seconds."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """How the numbers of a source are read as moments.

    :param unit: None if they are too small to show one.
    :param by_size: whether each is of the unit that its size suggests.
    :param any_size: whether all are of one unit, whatever their size.
    """

    unit: str | None
    by_size: bool = False
    any_size: bool = False

    def milliseconds(self, values: Int64Array) -> Int64Array:
        """:raises InvalidData: with the row of the first that is of another unit, or none."""
        if not len(values):
            return values
        if self.unit is None:
            raise _error(values, 0, "is neither seconds since 1970 nor a date", _say_unit())
        power = UNITS.index(self.unit)
        powers = _powers(values)
        if self.by_size:
            found = np.empty_like(values)
            for each in np.unique(powers).tolist():
                rows = np.flatnonzero(powers == each)
                found[rows] = _scaled(values[rows], each, rows)
            return found
        if not self.any_size:
            odd = np.flatnonzero((powers != power) & (values != 0))
            if len(odd):
                raise _other_unit(int(values[odd[0]]), int(odd[0]))
        return _scaled(values, power)


@dataclass(slots=True)
class Numbers:
    """What the numbers of a column show, looked at part by part.

    The parts may be cut anywhere: what is kept of them are counts, and the first rows.
    """

    count: int = 0
    dates: int = 0
    first_other: tuple[int, int] | None = None
    sizes: list[int] = field(default_factory=lambda: [0] * len(UNITS))
    firsts: list[tuple[int, int] | None] = field(default_factory=lambda: [None] * len(UNITS))
    in_1970s: list[int] = field(default_factory=lambda: [0] * len(UNITS))
    largest: int = 0
    last: int | None = None
    rises: bool = True
    falls: bool = True

    def look(self, values: Int64Array, rows: Int64Array) -> None:
        """Look at some numbers, which stand in these rows of the source."""
        if not len(values):
            return
        is_date = _are_dates(values)
        self.count += len(values)
        self.dates += int(np.count_nonzero(is_date))
        if self.first_other is None and not is_date.all():
            self.first_other = _first(values, rows, ~is_date)
        size = _size(values)
        self.largest = max(self.largest, int(size.max()))
        powers = _powers(values)
        for power in range(len(UNITS)) if powers.any() else (0,):
            its = (powers == power) & (values != 0)
            count = int(np.count_nonzero(its))
            if count and self.firsts[power] is None:
                self.firsts[power] = _first(values, rows, its)
            self.sizes[power] += count
            if power and count:
                near = its & (size < np.uint64(_TO_1973 * 1_000 ** (power - 1)))
                self.in_1970s[power] += int(np.count_nonzero(near))
        self._note_direction(_by_size(values, powers))

    def _note_direction(self, moments: Int64Array) -> None:
        steps = np.diff(moments if self.last is None else np.append(self.last, moments))
        self.rises = self.rises and bool((steps >= 0).all())
        self.falls = self.falls and bool((steps <= 0).all())
        self.last = int(moments[-1])

    def settled(self) -> Epochs | None:
        """How all of them are read; None if they are dates in digits.

        :raises InvalidData: with the row of a number that makes it doubtful.
        """
        if self.dates and 2 * self.dates >= self.count:
            return None
        if self.dates * _SHARE >= self.count and self.first_other is not None:
            value, row = self.first_other
            rule = "is no date, and too many others are"
            raise OptionMissing(rule, field="timestamp", value=value, row=row, remedy=_say_unit())
        if self.largest < _EARLIEST:
            return Epochs(None)
        finest = max(power for power, count in enumerate(self.sizes) if count)
        small, in_1970s = sum(self.sizes[:finest]), self.in_1970s[finest]
        if not small or in_1970s >= _TIMES_AS_MANY * small:
            return Epochs(UNITS[finest], any_size=bool(small))
        if in_1970s:
            # Both could be true, seconds of today or milliseconds of 1970: nobody guesses.
            raise self._doubtful()
        if self.rises or self.falls:
            return Epochs(UNITS[finest], by_size=True)
        most = max(self.sizes)
        if 2 * most <= sum(self.sizes):
            raise self._doubtful()
        return Epochs(UNITS[self.sizes.index(most)])

    def _doubtful(self) -> InvalidData:
        """The error of the first number that is of another unit than most, or than the first."""
        firsts = sorted((row, value) for value, row in filter(None, self.firsts))
        most = max(self.sizes)
        usual = self.firsts[self.sizes.index(most)] if 2 * most > sum(self.sizes) else None
        kept = firsts[0][0] if usual is None else usual[1]
        row, value = next(found for found in firsts if found[0] != kept)
        return _other_unit(value, row, OptionMissing)


def is_moment(number: int) -> bool:
    """Return whether a number alone may be a moment: a date, or not too near to 1970."""
    if not _EARLIEST <= abs(number) < 2**63:
        return bool(_are_dates(np.array([number % 2**63], np.int64))[0])
    return True


def said(unit: str) -> Epochs:
    """How numbers are read whose unit the caller says."""
    if unit not in UNITS:
        raise InvalidData(f"must be one of {', '.join(UNITS)}", field="time_unit", value=unit)
    return Epochs(unit, any_size=True)


def _error(values: Int64Array, row: int, rule: str, remedy: str) -> InvalidData:
    return InvalidData(rule, field="timestamp", value=int(values[row]), row=row, remedy=remedy)


def _other_unit(value: int, row: int, kind: type[InvalidData] = InvalidData) -> InvalidData:
    return kind(
        "is of another unit (seconds, milliseconds ...) than the moment before it",
        field="timestamp",
        value=value,
        row=row,
        remedy=f"Write all moments in one unit, or in ISO 8601. {_say_unit()}",
    )


def _say_unit() -> str:
    return f"If all are of one unit, say it: {option('time_unit', 'ms')}."


def _first(values: Int64Array, rows: Int64Array, wanted: AnyArray) -> tuple[int, int]:
    at = int(wanted.argmax())
    return int(values[at]), int(rows[at])


def _size(values: Int64Array) -> AnyArray:
    # The size of the least integer is one more than the largest: as unsigned it is right.
    return np.abs(values).view(np.uint64)


def _powers(values: Int64Array) -> AnyArray:
    """For each number, the place in `UNITS` of the unit that its size suggests."""
    return np.searchsorted(_LIMITS, _size(values), side="right")


def _by_size(values: Int64Array, powers: AnyArray) -> Int64Array:
    """Moments to compare: what is finer than milliseconds is cut off."""
    factors = np.array([1_000, 1, 1, 1], np.int64)[powers]
    divisors = np.array([1, 1, 1_000, 10**6], np.int64)[powers]
    return values * factors // divisors


def _are_dates(values: Int64Array) -> AnyArray:
    """Which numbers may be dates (20240102) or moments (202401020900, 20240102090000)."""
    found = np.zeros(len(values), np.bool_)
    least, most = int(values.min()), int(values.max())
    for digits, divisor in _DIGITS:
        low, high = _FIRST_DATE * divisor, _LAST_DATE * divisor
        if most < low or least >= high:  # as in most columns
            continue
        within = np.flatnonzero((values >= low) & (values < high))
        found[within] = _is_real(values[within], digits, divisor)
    return found


def _is_real(values: Int64Array, digits: int, divisor: int) -> AnyArray:
    date, rest = np.divmod(values, divisor)
    month, day = date // 100 % 100, date % 100
    real: AnyArray = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    if digits == 14:
        real &= rest % 100 < 60
        rest = rest // 100
    real &= (rest // 100 < 24) & (rest % 100 < 60)
    return real


def _scaled(values: Int64Array, power: int, rows: Int64Array | None = None) -> Int64Array:
    if power == 0:
        outside = np.flatnonzero((values < FIRST_MS // 1_000) | (values > LAST_MS // 1_000))
        if len(outside):
            _refuse(values, rows, int(outside[0]), "lies before 1900 or after 2299")
        return values * 1_000
    if power == 1:
        return values
    found, finer = np.divmod(values, 1_000 ** (power - 1))
    at_fault = np.flatnonzero(finer)
    if len(at_fault):
        _refuse(values, rows, int(at_fault[0]), "must be whole milliseconds")
    return found


def _refuse(values: Int64Array, rows: Int64Array | None, row: int, rule: str) -> None:
    raise InvalidData(
        rule,
        field="timestamp",
        value=str(int(values[row])),
        row=row if rows is None else int(rows[row]),
    )
