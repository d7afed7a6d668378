"""Which rows counted as of a version, told from rows as they lie and the few former ones.

Rows come with their values in the order of their series and times, nearly all of them right. What
the engine says of each beside them is small: whether it counted if it is the latest, and its
version, of which only those matter that compete. Values of former rows are put over those that
replaced them.

The engine can tell the same with a statement on both tables (`history_statements.rows_as_of`), in
several times as long; it is asked where rows lie here in a way that no plain order of commits
leaves behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jts_storage.clickhouse.blocks import Array
from jts_storage.clickhouse.stored_rows import last_of_equals
from jts_storage.domain.columns import AnyArray, Int64Array

_STATE = ("ms", "deleted", "version", "begins", "symbol", "exchange")
"""The columns that are no values of a candle."""


def counted(
    place: Int64Array,
    lying: Mapping[str, Any],
    former_place: Int64Array,
    former: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The rows that lie there, with what they were then; None if the engine has to tell.

    Those that did not count are left in, as `deleted`.

    :param place: of each row its series and time in one number, in this order.
    :param lying: with `deleted` where a row did not count, even if no other replaced it.
    :param former: rows that counted and were replaced or deleted since, in any order, and since
        which version each did in `begins`.
    """
    if not (place[1:] >= place[:-1]).all():
        return None
    gone = lying["deleted"].astype(np.bool_)
    replaced = _replaced(place, lying["version"])
    gone[replaced] = True
    columns = {name: column for name, column in lying.items() if name != "version"}
    columns["deleted"] = gone
    if not len(former_place):
        return columns
    order = last_of_equals(former_place, former["begins"])
    at = _found(place, replaced, former_place[order])
    if at is None or not _put(columns, at, former, order):
        return None
    return columns


def _replaced(place: Int64Array, version: AnyArray) -> Int64Array:
    """The rows that lie beside a later one of the same series and time."""
    again = np.flatnonzero(place[1:] == place[:-1])
    if not len(again):
        return again
    rows = np.union1d(again, again + 1)
    order = rows[np.lexsort((version[rows], place[rows]))]
    ordered = place[order]
    replaced: Int64Array = order[:-1][ordered[1:] == ordered[:-1]]
    return replaced


def _found(place: Int64Array, replaced: Int64Array, wanted: Int64Array) -> Int64Array | None:
    """The latest row of each place; None if there is none of one."""
    latest = None
    if len(replaced):
        is_latest = np.ones(len(place), np.bool_)
        is_latest[replaced] = False
        latest = np.flatnonzero(is_latest)
        place = place[latest]
    at = np.searchsorted(place, wanted)
    if not len(place) or at[-1] == len(place) or (place[at] != wanted).any():
        return None
    return at if latest is None else latest[at]


def _put(
    columns: dict[str, Any], at: Int64Array, former: Mapping[str, Any], order: Int64Array
) -> bool:
    """Put former rows over those that replaced them; return whether that tells it.

    Where the latest row counted, too, it is the same, or one of the two began later: as far as it
    is stored with other values, the engine has to tell which.
    """
    gone: Array = columns["deleted"]
    both = np.flatnonzero(~gone[at])
    for name, column in columns.items():
        if name in _STATE:
            continue
        values = former[name][order]
        if (column[at[both]] != values[both]).any():
            return False
        columns[name] = column = column if column.flags.writeable else column.copy()
        column[at] = values
    gone[at] = False
    return True
