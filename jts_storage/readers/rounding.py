"""Round prices and volumes to what is stored, where the caller asks for it, and count it.

Numbers are rounded as exact decimals, whole columns at a time. A number in the middle of two goes
to the even one. A float counts as the shortest decimal that is read as the same float.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage.domain import checks
from jts_storage.domain.columns import AnyArray, UInt64Array
from jts_storage.domain.decimal_text import DIGITS, NUMBER, plain, to_decimals
from jts_storage.errors import InvalidData
from jts_storage.readers.adjusting import Changes, VolumeRule

_FEW = 8
"""As many decimals as nearly all files have at most, and 64 bits hold beside any price."""
_DECIMALS = 18
"""Of a fraction that is looked at whole; of what lies behind, whether it is zero."""


def rounded_prices(column: Any, decimals: int, name: str) -> tuple[Any, Changes]:
    """Return a column of text, floats or decimals with so many decimals.

    A column with something that is no number is returned as it is.

    :raises InvalidData: with the row of the first of which nothing would be left.
    """
    found = _rounded(column, decimals, cuts=False)
    if found is None:
        return column, Changes()
    if found.is_gone.any():
        row = int(found.is_gone.argmax())
        raise InvalidData(
            f"is too small to be rounded to {decimals} decimals: 0 would be left",
            field=name,
            value=str(column[row]),
            row=row,
        )
    return found.kept, found.changes


def adjusted_volumes(column: Any, rule: VolumeRule) -> tuple[Any, Changes]:
    """Return a column of text, numbers or decimals as whole numbers.

    A column with something that is no number, or is negative, is returned as it is.

    :raises InvalidData: with the row of the first that has a fraction, unless those are rounded.
    """
    if pa.types.is_integer(column.type):
        if not rule.decimals:
            return column, Changes()
        column = column.cast(pa.decimal128(20, 0))
    found = _rounded(column, rule.decimals, cuts=rule.fractions == "floor")
    if found is None or found.has_negative:
        return column, Changes()
    if found.changes.values and rule.fractions == "refuse":
        row = int(found.changed.argmax())
        raise InvalidData(
            f"must be a whole number times 10**-{rule.decimals}",
            field="volume",
            value=str(column[row]),
            row=row,
        )
    # The same integers, now without decimals: each is multiplied, and nothing is copied.
    kept = found.kept
    whole = pa.Array.from_buffers(
        pa.decimal128(DIGITS, 0), len(kept), kept.buffers(), 0, kept.offset
    )
    return whole, found.changes


@dataclass(frozen=True, slots=True)
class _Rounded:
    kept: Any
    has_negative: bool
    changed: AnyArray
    is_gone: AnyArray
    changes: Changes


def _rounded(column: Any, decimals: int, *, cuts: bool) -> _Rounded | None:
    """None if some are no numbers, or too large.

    :param cuts: whether what is behind is cut off.
    """
    if not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    try:
        parts = _Parts.of_few_decimals(column) if decimals <= _FEW else None
        if parts is None:
            return _unchanged(to_decimals(column, decimals))
    except pa.ArrowInvalid:
        parts = _Parts.of(column)
    if parts is None or decimals == _DECIMALS:
        return None
    # One less, for what is rounded up.
    if (parts.whole >= checks.VOLUME_LIMIT // 10**decimals - 1).any():
        return None
    return parts.rounded(decimals, cuts=cuts)


def _unchanged(exact: Any) -> _Rounded:
    has_negative = bool(len(exact)) and (pc.min(exact).as_py() or 0) < 0
    nothing = np.zeros(len(exact), np.bool_)
    return _Rounded(exact, has_negative, nothing, nothing, Changes())


@dataclass(frozen=True, slots=True)
class _Parts:
    """Numbers apart: sign, digits before the point, 18 behind it, and whether more follow.

    Whole numbers, since Arrow's own rounding of decimals is wrong by one near multiples of 2**32.
    """

    is_negative: AnyArray
    whole: UInt64Array
    fraction: UInt64Array
    has_more: AnyArray

    @classmethod
    def of_few_decimals(cls, column: Any) -> Self | None:
        """The same as `of` in a third of the time; None if 64 bits do not hold some number.

        :raises pyarrow.ArrowInvalid: some text is no number, or has more decimals.
        """
        if column.null_count:
            return None
        exact = to_decimals(column, _FEW)
        words = np.frombuffer(exact.buffers()[1], np.int64, 2 * len(exact), exact.offset * 16)
        low, high = words[0::2], words[1::2]
        if not np.array_equal(low >> 63, high):
            return None
        whole, few = np.divmod(np.abs(low).view(np.uint64), 10**_FEW)
        fraction = few * np.uint64(10 ** (_DECIMALS - _FEW))
        return cls(low < 0, whole, fraction, np.zeros(len(low), np.bool_))

    @classmethod
    def of(cls, column: Any) -> Self | None:
        if column.null_count:
            return None
        column = _without_exponents(column)
        if not pc.all(pc.match_substring_regex(column, rf"^{NUMBER}$")).as_py():
            return None
        digits = pc.utf8_ltrim(column, "+-")
        # With a point behind each, which the first has then, there are two parts at least.
        both = pc.split_pattern(pc.binary_join_element_wise(digits, "", "."), ".")
        whole, fraction = (pc.list_element(both, at) for at in (0, 1))
        try:
            return cls(
                np.asarray(pc.starts_with(column, "-")),
                _whole(pc.binary_join_element_wise("0", whole, "")),
                _whole(pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, _DECIMALS, "0"), 0, 18)),
                np.asarray(pc.match_substring_regex(fraction, "^.{18}0*[1-9]")),
            )
        except pa.ArrowInvalid:  # more digits than any price or volume has
            return None

    def rounded(self, decimals: int, *, cuts: bool) -> _Rounded:
        step = 10 ** (_DECIMALS - decimals)
        kept, rest = np.divmod(self.fraction, step)
        kept = kept + self.whole * 10**decimals
        is_up = (rest > step // 2) | ((rest == step // 2) & (self.has_more | (kept % 2 == 1)))
        is_up &= not cuts
        changed = (rest != 0) | self.has_more
        kept = kept + is_up
        values = pa.array(kept).cast(pa.decimal128(DIGITS, 0))
        if self.is_negative.any():
            values = pc.if_else(pa.array(self.is_negative), pc.negate(values), values)
        exact = pa.Array.from_buffers(
            pa.decimal128(DIGITS, decimals), len(values), values.buffers(), 0, values.offset
        )
        by = np.where(is_up, step - rest, rest)
        count = int(changed.sum())
        largest = Decimal(int(by.max())).scaleb(-_DECIMALS).normalize() if count else Decimal(0)
        has_negative = bool((self.is_negative & ((self.whole > 0) | (self.fraction > 0))).any())
        changes = Changes(count, largest) if count else Changes()
        return _Rounded(exact, has_negative, changed, changed & (kept == 0), changes)


def _whole(text: Any) -> UInt64Array:
    return np.asarray(text.cast(pa.uint64()))


def _without_exponents(column: Any) -> Any:
    """Write the few numbers that have one without it."""
    has_one = pc.match_substring(column, "e", ignore_case=True)
    if not pc.any(has_one).as_py():
        return column
    numbers = [(text, plain(text)) for text in column.filter(has_one).to_pylist()]
    written = [text if number is None else f"{number:f}" for text, number in numbers]
    return pc.replace_with_mask(column, has_one, pa.array(written, column.type))
