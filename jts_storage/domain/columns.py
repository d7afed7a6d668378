"""Six NumPy columns and the rules that whole columns obey.

Prices are int64 scaled by 10**4, timestamps int64 milliseconds UTC, volume uint64. Rules are
checked in blocks that stay in the processor's cache: a million rows cost little more than a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jts_storage.domain import checks
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.errors import InvalidData

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]
AnyArray = npt.NDArray[Any]

PRICES = ("open", "high", "low", "close")
FIELDS = (*PRICES, "volume")
NAMES = ("timestamp", *FIELDS)

BLOCK = 32_768


class Columns(NamedTuple):
    timestamp: Int64Array
    open: Int64Array
    high: Int64Array
    low: Int64Array
    close: Int64Array
    volume: UInt64Array

    @property
    def rows(self) -> int:
        return len(self.timestamp)

    @classmethod
    def of(
        cls, timestamp: Int64Array, prices: Iterable[Int64Array], volume: UInt64Array
    ) -> Columns:
        opening, high, low, close = prices
        return cls(timestamp, opening, high, low, close, volume)

    def each(self, change: Callable[[AnyArray], AnyArray]) -> Columns:
        return Columns(*map(change, self))

    def take(self, rows: slice | npt.NDArray[np.intp]) -> Columns:
        return self.each(lambda column: column[rows])

    def only(self, fields: Iterable[str]) -> Columns:
        """These of the fields; the others become zeros that take no memory."""
        absent = {
            name: np.broadcast_to(np.zeros((), getattr(self, name).dtype), self.rows)
            for name in FIELDS
            if name not in fields
        }
        return self._replace(**absent)

    def frozen(self) -> Columns:
        return self.each(sealed)


def sealed(array: AnyArray) -> AnyArray:
    """A view that nobody can make writable: an array that owns its memory lets anybody do so."""
    if not array.flags.writeable:
        return array
    view: AnyArray = np.asarray(array.data.toreadonly())
    return view


def owner_of(array: AnyArray) -> AnyArray:
    """The array that owns the memory of a view, sealed or not."""
    while True:
        base: Any = array.base
        base = base.obj if isinstance(base, memoryview) else base
        if not isinstance(base, np.ndarray):
            return array
        array = base


def empty() -> Columns:
    nothing = np.empty(0, np.int64)
    return Columns.of(nothing, [nothing] * 4, np.empty(0, np.uint64)).frozen()


def blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))


def concatenate(parts: list[Columns]) -> Columns:
    if not parts:
        return empty()
    columns: Iterable[tuple[AnyArray, ...]] = zip(*parts, strict=True)
    return Columns(*(np.concatenate(column) for column in columns))


def checked(columns: Columns) -> Columns:
    """`columns`, if every row is a possible candle.

    :raises InvalidData: with the first row at fault, its field and value.
    """
    lengths = {name: len(column) for name, column in zip(NAMES, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise InvalidData(f"columns differ in length: {lengths}", field="columns")
    for rows in blocks(columns.rows):
        if not _possible(columns.take(rows)):
            _refuse(columns.take(rows), rows.start)
    return columns


def ascends(timestamps: Int64Array) -> bool:
    """Return whether each timestamp is later than the one before."""
    return bool((timestamps[1:] > timestamps[:-1]).all())


def in_order(columns: Columns) -> tuple[Columns, int]:
    """Rows by ascending timestamp, the last of equal ones kept, and how many gave way."""
    stamps = columns.timestamp
    if ascends(stamps):
        return columns, 0
    # Stable, so that the last of equal timestamps is the one that came last.
    order = np.argsort(stamps, kind="stable")
    stamps = stamps[order]
    last_of_equals = np.append(stamps[1:] != stamps[:-1], True)
    kept = order[last_of_equals]
    return columns.take(kept), columns.rows - len(kept)


def series_of_rows(offsets: Int64Array) -> Int64Array:
    """Return of each row the number of its series.

    :param offsets: where each series begins, and behind the last where it ends.
    """
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def ranked(names: Sequence[Any]) -> tuple[list[int], Int64Array]:
    """Return the order in which names ascend, and the place of each in it."""
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return order, place


def grouped(
    number: npt.NDArray[np.int64], series: int, columns: Columns
) -> tuple[Int64Array, Columns]:
    """Rows by series and timestamp, as `in_order`, and where each series begins.

    :param number: of the series of each row, below `series`.
    """
    stamps = columns.timestamp
    same = number[1:] == number[:-1]
    if not np.where(same, stamps[1:] > stamps[:-1], number[1:] > number[:-1]).all():
        order = np.lexsort((stamps, number))  # stable
        number, stamps = number[order], stamps[order]
        is_last = np.append((number[1:] != number[:-1]) | (stamps[1:] != stamps[:-1]), True)
        number, columns = number[is_last], columns.take(order[is_last])
    return np.searchsorted(number, np.arange(series + 1)), columns


def _possible(c: Columns) -> bool:
    return bool(
        c.timestamp.min() >= FIRST_MS
        and c.timestamp.max() <= LAST_MS
        and c.low.min() > -checks.PRICE_LIMIT
        and c.high.max() < checks.PRICE_LIMIT
        and (c.low <= c.open).all()
        and (c.open <= c.high).all()
        and (c.low <= c.close).all()
        and (c.close <= c.high).all()
    )


def _refuse(block: Columns, offset: int) -> None:
    """Raise for the first row of the block that is no candle, with the first rule it breaks."""
    # Slow, and only for the one block that holds a row at fault.
    for row in range(block.rows):
        stamp, *prices, _ = (int(column[row]) for column in block)
        if not FIRST_MS <= stamp <= LAST_MS:
            raise InvalidData(
                "must lie between 1900 and 2299 (milliseconds UTC)",
                field="timestamp",
                value=stamp,
                row=offset + row,
            )
        for name, price in zip(PRICES, prices, strict=True):
            if abs(price) >= checks.PRICE_LIMIT:
                raise InvalidData(
                    "must fit Decimal(18, 4)",
                    field=name,
                    value=str(checks.unscaled_price(price)),
                    row=offset + row,
                )
        opening, high, low, close = prices
        lowest, highest = checks.unscaled_price(low), checks.unscaled_price(high)
        between = f"must lie between low {lowest} and high {highest}"
        for name, price, rule, must in (
            ("high", high, high >= low, f"must not be below low {lowest}"),
            ("open", opening, low <= opening <= high, between),
            ("close", close, low <= close <= high, between),
        ):
            if not rule:
                raise InvalidData(
                    must,
                    field=name,
                    value=str(checks.unscaled_price(price)),
                    row=offset + row,
                )
