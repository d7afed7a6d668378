"""Rows of candles as they lie, each with its state, and which of them is the latest.

The engine would tell it with FINAL; for whole columns that are here anyway it is told several times
quicker here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jts_storage.clickhouse.blocks import Array, DictionaryColumn
from jts_storage.clickhouse.candle_rows import KEY
from jts_storage.domain.checks import FIRST_MS
from jts_storage.domain.columns import (
    PRICES,
    AnyArray,
    Columns,
    Int64Array,
    UInt64Array,
    empty,
)

_NUMBER_BITS = 44
"""Below these bits of a row's place stands its time from the first that is possible."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows that are stored, the latest of each timestamp, by series and time.

    Their columns are long, and most of them wanted once: they are taken when they are asked for.

    :param place: series and time in one number.
    :param lying: all rows as they lie, and `at` which of them these are.
    :param begins: the version since which they have had their values.
    """

    place: Int64Array
    lying: Columns
    at: Int64Array
    version: UInt64Array
    begins: UInt64Array
    is_deleted: AnyArray

    @cached_property
    def columns(self) -> Columns:
        return self.lying.take(as_slice(self.at))

    @property
    def present(self) -> Columns:
        """The candles among them."""
        return self.lying.take(as_slice(self.at[~self.is_deleted]))


def last_of_equals(place: Int64Array, by: UInt64Array) -> Int64Array:
    """Which rows to take, in order of their places: of several the one with the highest `by`."""
    order = np.lexsort((by, place))
    ordered = place[order]
    last: Int64Array = order[np.append(ordered[1:] != ordered[:-1], True)]
    return last


def numbers_of(
    found: Mapping[str, Any],
    wanted: Mapping[tuple[str, ...], int],
    by: Sequence[str] = KEY,
) -> Int64Array:
    """The number of each row's series; -1 for those that nobody asked for.

    :param by: the columns that name a series.
    """
    columns = [_dictionary(found[name]) for name in by]
    code = np.zeros(len(found["ms"]), np.int64)
    sizes = [len(column.dictionary) for column in columns]
    places = [{text: n for n, text in enumerate(column.dictionary)} for column in columns]
    for column, size in zip(columns, sizes, strict=True):
        code = code * size + column.keys
    number_of = np.full(int(np.prod(sizes)), -1, np.int64)
    for names, number in wanted.items():
        if all(name in place for name, place in zip(names, places, strict=True)):
            at = 0
            for name, place, size in zip(names, places, sizes, strict=True):
                at = at * size + place[name]
            number_of[at] = number
    return number_of[code]


def _dictionary(column: Any) -> DictionaryColumn:
    if isinstance(column, DictionaryColumn):
        return column
    texts, keys = np.unique(column.astype(str), return_inverse=True)
    return DictionaryColumn(tuple(texts.tolist()), keys)


def latest_of(number: Int64Array | int, found: Mapping[str, Array]) -> Stored:
    """Of the rows of a timestamp that with the highest version.

    :param number: of the series of each, or of all; rows of a negative one are left out.
    """
    if not found or not len(found["ms"]):
        none, nothing = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        return Stored(none, empty(), none, nothing, nothing, np.zeros(0, np.bool_))
    stamps, version = found["ms"].view(np.int64), found["version"]
    place = places(number, stamps)
    kept = np.arange(len(place))
    if not (place[1:] > place[:-1]).all() or place[0] < 0:
        kept = last_of_equals(place, version)
        kept = kept[place[kept] >= 0]
    lying = columns_of(found)
    rows = as_slice(kept)
    version, is_deleted = version[rows], found["deleted"][rows].view(np.bool_)
    since = found["since"][rows] if "since" in found else version
    begins = np.where(since == 0, version, since) if since.any() else version
    return Stored(place[rows], lying, kept, version, begins, is_deleted)


def columns_of(found: Mapping[str, Array]) -> Columns:
    prices = [found[f"{price}_"] for price in PRICES]
    return Columns.of(found["ms"].view(np.int64), prices, found["volume"].view(np.uint64))


def of_one(found: Mapping[str, Array]) -> Stored:
    """As `latest_of`, of one series."""
    return latest_of(0, found)


def places(number: Int64Array | int, stamps: Int64Array) -> Int64Array:
    """One number for series and time."""
    first_ms = FIRST_MS - (number << _NUMBER_BITS)
    place: Int64Array = stamps - first_ms
    return place


def as_slice(at: Int64Array) -> Any:
    """What takes the same rows, without a copy where all rows between two of them are wanted."""
    if len(at) and at[-1] - at[0] == len(at) - 1 and (at[1:] > at[:-1]).all():
        return slice(int(at[0]), int(at[-1]) + 1)
    return at
