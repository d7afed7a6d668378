"""Round prices and volumes to what is stored, where the caller asks for it, and count it.

Numbers are rounded as exact decimals, whole columns at a time. A number in the middle of two goes
to the even one. A float counts as the shortest decimal that is read as the same float.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jts_storage.errors import InvalidData
from jts_storage.readers.adjusting import Changes, VolumeRule

_WIDTHS = (pa.decimal128(37, 19), pa.decimal256(75, 49))
"""The smaller one is faster; the larger one holds what is printed with more decimals."""
_MODES = {"refuse": "half_to_even", "round": "half_to_even", "floor": "down"}


def rounded_prices(column: Any, decimals: int) -> tuple[Any, Changes]:
    """Return a column of text, floats or decimals with so many decimals.

    A column with something that is no number is returned as it is.
    """
    found = _rounded(column, decimals, "round")
    return (column, Changes()) if found is None else found[1:]


def adjusted_volumes(column: Any, rule: VolumeRule) -> tuple[Any, Changes]:
    """Return a column of text, numbers or decimals as whole numbers.

    A column with something that is no number, or is negative, is returned as it is.

    :raises InvalidData: with the row of the first that has a fraction, unless those are rounded.
    """
    if pa.types.is_integer(column.type):
        if not rule.decimals:
            return column, Changes()
        column = column.cast(pa.decimal128(20, 0))
    found = _rounded(column, rule.decimals, rule.fractions)
    if found is None:
        return column, Changes()
    exact, kept, changes = found
    if pc.min(exact).as_py() < 0:  # -0.3 would be rounded to zero
        return column, Changes()
    if changes.values and rule.fractions == "refuse":
        raise _has_fraction(column, exact, kept)
    # The same integers, now without decimals: each is multiplied, and nothing is copied.
    whole = pa.Array.from_buffers(pa.decimal128(38, 0), len(kept), kept.buffers(), 0, kept.offset)
    return whole, changes


def _rounded(column: Any, decimals: int, mode: str) -> tuple[Any, Any, Changes] | None:
    """The exact values, those that are kept, and what that changed; None if some are no numbers."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.string())
    kind = pa.decimal128(38, decimals)
    try:  # most columns have nothing to round
        exact = column.cast(kind)
        return exact, exact, Changes()
    except pa.ArrowInvalid:
        pass
    for width in _WIDTHS:
        try:
            exact = column.cast(width)
            kept = pc.round(exact, decimals, round_mode=_MODES[mode])
            return exact, kept.cast(kind), _changes(exact, kept)
        except pa.ArrowInvalid:
            continue
    return None


def _changes(exact: Any, kept: Any) -> Changes:
    count = pc.sum(pc.not_equal(exact, kept)).as_py() or 0
    if not count:
        return Changes()
    return Changes(count, pc.max(pc.abs(pc.subtract(exact, kept))).as_py().normalize())


def _has_fraction(column: Any, exact: Any, kept: Any) -> InvalidData:
    differs = pc.not_equal(exact, kept.cast(exact.type))
    row = pc.index(differs, True).as_py()
    return InvalidData(
        f"must be a whole number times 10**-{kept.type.scale}",
        field="volume",
        value=str(column[row]),
        row=row,
    )
