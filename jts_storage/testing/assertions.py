"""`assert_same`: comparisons whose failures name the differences."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Any, Final

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.columns import NAMES, PRICES
from jts_storage.domain.series import CandleSeries

_SHOWN: Final = 20
_SHOWN_ROWS: Final = 5
_MISSING: Final = object()


def assert_same(expected: object, actual: object, *, ignoring: Collection[str] = ()) -> None:
    """Raise an AssertionError that names the differences, if there are any.

    Series are compared by timestamp: how many candles each has, which columns differ in how many
    rows, and the first of them. Dataclasses, mappings (such as `storage_state`) and sequences are
    compared part by part.

    :param ignoring: names of fields, at any depth, whose values do not matter, such as
        ``updated_at``.
    """
    __tracebackhide__ = True
    found = list(islice(differences(expected, actual, ignoring=ignoring), _SHOWN + 1))
    if found:
        shown = "\n".join(f"  {line}" for line in found[:_SHOWN])
        more = "\n  ..." if len(found) > _SHOWN else ""
        raise AssertionError(f"actual is not as expected:\n{shown}{more}")


def differences(
    expected: object, actual: object, where: str = "", *, ignoring: Collection[str] = ()
) -> Iterator[str]:
    """Each difference as a line: the place, what was expected and what is there."""
    if isinstance(expected, CandleSeries) and isinstance(actual, CandleSeries):
        yield from _of_series(expected, actual, where)
    elif is_dataclass(expected) and type(expected) is type(actual):
        yield from _of_mappings(_as_mapping(expected), _as_mapping(actual), where, ".", ignoring)
    elif isinstance(expected, Mapping) and isinstance(actual, Mapping):
        yield from _of_mappings(expected, actual, where, "/", ignoring)
    elif _is_list(expected) and _is_list(actual):
        yield from _of_lists(expected, actual, where, ignoring)
    elif expected != actual:
        yield f"{_prefix(where)}expected {expected!r}, is {actual!r}"


def _of_mappings(
    expected: Mapping[Any, Any],
    actual: Mapping[Any, Any],
    where: str,
    separator: str,
    ignoring: Collection[str],
) -> Iterator[str]:
    for name in dict.fromkeys([*expected, *actual]):
        if name in ignoring:
            continue
        place = f"{where}{separator}{name}" if where else str(name)
        if name not in actual:
            yield f"{place}: missing, expected {_summary(expected[name])}"
        elif name not in expected:
            yield f"{place}: not expected, is {_summary(actual[name])}"
        else:
            yield from differences(expected[name], actual[name], place, ignoring=ignoring)


def _of_lists(expected: Any, actual: Any, where: str, ignoring: Collection[str]) -> Iterator[str]:
    if len(expected) != len(actual):
        yield f"{_prefix(where)}expected {len(expected)} items, has {len(actual)}"
    for number, (wanted, there) in enumerate(zip_longest(expected, actual, fillvalue=_MISSING)):
        place = f"{where}[{number}]"
        if there is _MISSING:
            yield f"{place}: missing, expected {_summary(wanted)}"
        elif wanted is _MISSING:
            yield f"{place}: not expected, is {_summary(there)}"
        else:
            yield from differences(wanted, there, place, ignoring=ignoring)


def _of_series(expected: CandleSeries, actual: CandleSeries, where: str) -> Iterator[str]:
    prefix = _prefix(where)
    if expected.key != actual.key:
        yield f"{prefix}expected the series {expected.key}, is {actual.key}"
    if len(expected) != len(actual):
        yield f"{prefix}expected {len(expected)} candles, has {len(actual)}"
    wanted, there = expected.columns, actual.columns
    yield from _only_in(wanted.timestamp, there.timestamp, f"{prefix}missing")
    yield from _only_in(there.timestamp, wanted.timestamp, f"{prefix}not expected")
    _, left, right = np.intersect1d(
        wanted.timestamp, there.timestamp, assume_unique=True, return_indices=True
    )
    unequal = {
        name: getattr(wanted, name)[left] != getattr(there, name)[right] for name in NAMES[1:]
    }
    counts = {name: int(flags.sum()) for name, flags in unequal.items() if flags.any()}
    if counts:
        listed = ", ".join(f"{name} in {count} rows" for name, count in counts.items())
        yield f"{prefix}of {len(left)} candles that both have, these differ: {listed}"
    rows = np.flatnonzero(np.logical_or.reduce(list(unequal.values())))
    for row in rows[:_SHOWN_ROWS]:
        cells = ", ".join(
            f"{name} expected {_value(name, wanted, left[row])},"
            f" is {_value(name, there, right[row])}"
            for name in counts
            if unequal[name][row]
        )
        yield f"{prefix}{checks.from_ms(int(wanted.timestamp[left[row]]))}: {cells}"


def _only_in(these: Any, those: Any, what: str) -> Iterator[str]:
    alone = these[~np.isin(these, those)]
    if len(alone):
        first = ", ".join(str(checks.from_ms(int(moment))) for moment in alone[:_SHOWN_ROWS])
        more = ", ..." if len(alone) > _SHOWN_ROWS else ""
        yield f"{what}: {len(alone)} candles, at {first}{more}"


def _value(name: str, columns: Any, row: Any) -> str:
    number = int(getattr(columns, name)[row])
    return str(Decimal(number).scaleb(-checks.PRICE_DECIMALS)) if name in PRICES else str(number)


def _as_mapping(entity: Any) -> dict[str, Any]:
    return {field.name: getattr(entity, field.name) for field in fields(entity)}


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _summary(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""
