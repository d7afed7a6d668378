"""Rows of candles as they lie, each with its state, and which of them is the latest.

The engine would tell it with FINAL; for whole columns that are here anyway it is told several times
quicker here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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
    concatenate,
    empty,
)

_NUMBER_BITS = 44
"""Below these bits of a row's place stands its time from the first that is possible."""


class Stored(NamedTuple):
    """Rows that are stored, the latest of each timestamp, by series and time.

    :param place: series and time in one number.
    :param begins: the version since which they have had their values.
    """

    place: Int64Array
    columns: Columns
    version: UInt64Array
    begins: UInt64Array
    is_deleted: AnyArray

    @property
    def present(self) -> Columns:
        """The candles among them."""
        if not self.is_deleted.any():
            return self.columns
        return self.columns.take(np.flatnonzero(~self.is_deleted))

    def as_of(self, version: int, former: Stored) -> Columns:
        """The candles that counted as of a version.

        :param former: rows that counted then and were replaced or deleted since.
        """
        counts = ~self.is_deleted & (self.begins <= version)
        still = self.columns if counts.all() else self.columns.take(np.flatnonzero(counts))
        if not len(former.place):
            return still
        place = np.concatenate([self.place[counts], former.place])
        begins = np.concatenate([self.begins[counts], former.begins])
        return concatenate([still, former.columns]).take(last_of_equals(place, begins))


def last_of_equals(place: Int64Array, by: UInt64Array) -> Int64Array:
    """Which rows to take, in order of their places: of several the one with the highest `by`."""
    order = np.lexsort((by, place))
    ordered = place[order]
    last: Int64Array = order[np.append(ordered[1:] != ordered[:-1], True)]
    return last


def numbers_of(found: Mapping[str, Any], wanted: Mapping[tuple[str, ...], int]) -> Int64Array:
    """The number of each row's series; -1 for those that nobody asked for."""
    columns = [_dictionary(found[name]) for name in KEY]
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


def latest_of(number: Int64Array, found: Mapping[str, Array]) -> Stored:
    """Of the rows of a timestamp that with the highest version.

    :param number: of the series of each; rows of a negative one are left out.
    """
    if not found or not len(number):
        nothing = np.zeros(0, np.uint64)
        return Stored(np.zeros(0, np.int64), empty(), nothing, nothing, np.zeros(0, np.bool_))
    stamps, version = found["ms"].view(np.int64), found["version"]
    place = places(number, stamps)
    kept: Any = slice(None)
    if not (place[1:] > place[:-1]).all() or place[0] < 0:
        kept = last_of_equals(place, version)
        kept = kept[place[kept] >= 0]
    prices = [found[f"{price}_"][kept] for price in PRICES]
    columns = Columns.of(stamps[kept], prices, found["volume"].view(np.uint64)[kept])
    version = version[kept]
    since = found["since"][kept] if "since" in found else version
    begins = np.where(since == 0, version, since)
    return Stored(place[kept], columns, version, begins, found["deleted"][kept].view(np.bool_))


def of_one(found: Mapping[str, Array]) -> Stored:
    """As `latest_of`, of one series."""
    return latest_of(np.zeros(len(found["ms"]) if found else 0, np.int64), found)


def places(number: Int64Array, stamps: Int64Array) -> Int64Array:
    place: Int64Array = (number << _NUMBER_BITS) + (stamps - FIRST_MS)
    return place
