"""Moments that are written as whole numbers: since 1970 in some unit, or as dates in digits.

A number is judged together with its whole column, since alone it may be either: 946684800000
are the milliseconds of 1 January 2000, 202401020900 is nine o'clock on 2 January 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jts_storage.domain.columns import AnyArray, Int64Array
from jts_storage.errors import InvalidData

UNITS = ("s", "ms", "us", "ns")
_LATEST = 42 * 10**8
"""Seconds in 2103. A larger number is of a finer unit, in which it lies in 1970 or later."""
_TO_1973 = 10**11
_EARLIEST = 10**8
"""Seconds in 1973. If all numbers of a column are smaller, its unit cannot be found out."""
_DIGITS = ((8, 1), (12, 10**4), (14, 10**6))
"""How many digits dates and moments have, and what divides them into dates."""
_FIRST_DATE, _LAST_DATE = 1900_00_00, 2200_00_00
_SHARE = 10  # one in so many must be a valid date


@dataclass(slots=True)
class Epochs:
    """What the numbers of a column have shown so far.

    :param unit: the unit they were last read in; None if they showed none yet.
    :param last: the last moment that was read, in milliseconds.
    :param crosses_1970: whether some lie near 1970, so that small numbers are no other unit's.
    """

    unit: str | None = None
    last: int | None = None
    crosses_1970: bool = False

    def milliseconds(self, values: Int64Array) -> Int64Array:
        """Moments of a column, or of the next part of one.

        If a column mixes two units, each number is read in its own, as long as the timestamps
        then only rise or only fall: with a damaged number among them they would not.

        :raises InvalidData: with the row of the first number that is of another unit, or of none.
        """
        if not len(values):
            return values
        unit = _unit(values) or self.unit
        if unit is None:
            raise InvalidData(
                "is neither seconds since 1970 nor a date",
                field="timestamp",
                value=int(values[0]),
                row=0,
            )
        # The finest unit so far: this part may hold numbers of a coarser one only.
        if self.unit is not None:
            unit = max(unit, self.unit, key=UNITS.index)
        odd = self._of_coarser_units(values, unit)
        found = _scaled(values, unit) if odd is None else _scaled_by_size(values, unit, odd)
        if odd is not None or self.unit not in (None, unit):
            self._check_one_direction(found, values, odd)
        self.unit, self.last = unit, int(found[-1])
        return found

    def _of_coarser_units(self, values: Int64Array, unit: str) -> AnyArray | None:
        """Return which numbers look like a coarser unit's; None if none does.

        A column of milliseconds that passes through January 1970 has such numbers, and others
        between 1970 and 1973, which a mixed column has not.
        """
        power = UNITS.index(unit)
        if not power:
            return None
        size = np.abs(values)
        coarser = 1_000 ** (power - 1)
        small = size < _LATEST * coarser
        if not small.any():
            self.crosses_1970 |= bool((size < _TO_1973 * coarser).any())
            return None
        self.crosses_1970 |= bool((~small & (size < _TO_1973 * coarser)).any())
        odd: AnyArray = small & (size > 0)
        return odd if odd.any() and not self.crosses_1970 else None

    def _check_one_direction(
        self, found: Int64Array, values: Int64Array, odd: AnyArray | None
    ) -> None:
        steps = np.diff(found if self.last is None else np.append(self.last, found))
        if (steps >= 0).all() or (steps <= 0).all():
            return
        # The first number that is of another unit than the one that begins the part.
        row = 0
        if odd is not None and not odd.all():
            row = int(np.flatnonzero(odd != odd[0])[0])
        raise InvalidData(
            "is of another unit (seconds, milliseconds ...) than the moment before it",
            field="timestamp",
            value=int(values[row]),
            row=row,
            remedy="Write all moments in one unit, or in ISO 8601.",
        )


def are_dates(values: Int64Array) -> bool:
    """Return whether a column of numbers holds dates (20240102) or moments (202401020900).

    One in ten must be a valid date: the others are then reported as errors, with their rows.
    """
    real = 0
    least, most = int(values.min()), int(values.max())
    for digits, divisor in _DIGITS:
        low, high = _FIRST_DATE * divisor, _LAST_DATE * divisor
        if most < low or least >= high:  # as in most columns
            continue
        within = values[(values >= low) & (values < high)]
        if len(within):
            real += int(_is_real(within, digits, divisor).sum())
    return real * _SHARE >= len(values) and real > 0


def is_date(text: str) -> bool:
    """Return whether a number alone may be a date: 20240102 is one, 946684800000 is none."""
    return text.isdecimal() and len(text) <= 14 and are_dates(np.array([int(text)], np.int64))


def _is_real(values: Int64Array, digits: int, divisor: int) -> AnyArray:
    date, rest = np.divmod(values, divisor)
    month, day = date // 100 % 100, date % 100
    real: AnyArray = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    if digits == 14:
        real &= rest % 100 < 60
        rest = rest // 100
    real &= (rest // 100 < 24) & (rest % 100 < 60)
    return real


def _unit(values: Int64Array) -> str | None:
    largest = max(abs(int(values.max())), abs(int(values.min())))
    if largest < _EARLIEST:
        return None
    return next(
        (unit for power, unit in enumerate(UNITS[:-1]) if largest < _LATEST * 1_000**power), "ns"
    )


def _scaled_by_size(values: Int64Array, unit: str, odd: AnyArray) -> Int64Array:
    """Read each `odd` number in the unit that its size suggests, and the others in `unit`."""
    found = np.empty_like(values)
    rest = np.flatnonzero(~odd)
    found[rest] = _scaled(values[rest], unit, rest)
    size = np.abs(values)
    below = 0
    for power, coarser in enumerate(UNITS[: UNITS.index(unit)]):
        limit = _LATEST * 1_000**power
        rows = np.flatnonzero(odd & (size >= below) & (size < limit))
        found[rows] = _scaled(values[rows], coarser, rows)
        below = limit
    return found


def _scaled(values: Int64Array, unit: str, rows: Int64Array | None = None) -> Int64Array:
    if unit == "ms":
        return values
    if unit == "s":
        return values * 1_000
    found, finer = np.divmod(values, 1_000 ** (UNITS.index(unit) - 1))
    at_fault = np.flatnonzero(finer)
    if len(at_fault):
        row = int(at_fault[0])
        raise InvalidData(
            "must be whole milliseconds",
            field="timestamp",
            value=str(int(values[row])),
            row=row if rows is None else int(rows[row]),
        )
    return found
