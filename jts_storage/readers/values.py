"""Read the prices and volumes of a source, and round them where the caller asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage._runtime.surface import option
from jts_storage.domain import checks, interchange
from jts_storage.domain.arrow import decimals_of
from jts_storage.domain.columns import FIELDS, PRICES, AnyArray, Columns, Int64Array
from jts_storage.domain.decimal_text import to_decimals
from jts_storage.errors import InvalidData
from jts_storage.readers.adjusting import Adjusted, Changes, VolumeRule
from jts_storage.readers.looking import Looked
from jts_storage.readers.marks import Marks, search_source
from jts_storage.readers.numbers import NumberStyle, is_plain, plain_numbers, plain_prices
from jts_storage.readers.rounding import adjusted_volumes, rounded_prices

_LARGEST = dict.fromkeys(PRICES, Decimal(checks.PRICE_LIMIT - 1) / checks.PRICE_SCALE) | {
    "volume": Decimal(checks.VOLUME_LIMIT - 1)
}
MISSING_WORDS: Final = ("-", "nan", "null", "n/a")
MISSING: Final = rf"\s*(?:{'|'.join(MISSING_WORDS)})?\s*"
"""Text in the place of a number that is missing, in any case."""
FloatRule = Literal["refuse", "exact", "round"]


class NumberSource(Looked, Protocol):
    @property
    def name(self) -> str: ...

    @property
    def commas_separate(self) -> bool:
        """Whether commas separate fields, so that one within a number is quoted."""
        ...


class Values(NamedTuple):
    """The prices and volumes of some rows.

    :param ready: prices that are read already, times 10**4.
    :param others: Arrow columns of the other prices, and of the volumes.
    :param missing: where a price or the volume is missing; they hold zeros there.
    """

    ready: dict[str, Int64Array]
    others: dict[str, Any]
    missing: AnyArray
    adjusted: Adjusted


@dataclass(slots=True)
class ValueReader:
    """Reads the numbers of one source, a part at a time.

    :param style: how numbers are written, once that is known.
    :param thousands: the mark between thousands, where only that is known.
    """

    style: NumberStyle | None = None
    floats: FloatRule = "refuse"
    thousands: str | None = None
    rounds_prices: bool = False
    volume: VolumeRule = field(default_factory=VolumeRule)

    def read(self, columns: Mapping[str, Any], source: NumberSource) -> Values:
        plain = self._plain_prices(columns)
        if self.style is None:
            self._find_style(columns, plain, source)
        if self.style is not None and self.style.decimal != ".":
            plain = {}  # a point groups thousands here
        rows = len(next(iter(columns.values())))
        found = Values(
            {name: values for name, (values, _) in plain.items()},
            {},
            np.zeros(rows, np.bool_),
            Adjusted(),
        )
        for name in (name for name in FIELDS if name not in plain):
            found = self._with(found, name, columns.get(name), rows)
        return found

    def parsed(
        self, columns: Mapping[str, Any], stamps: Int64Array, source: NumberSource
    ) -> tuple[Columns, Values]:
        """The columns of rows with these timestamps, and what was read for them."""
        # Prices that are read already are put in afterwards: here they stand as zeros.
        nothing = pa.array(np.zeros(len(stamps), np.int64))
        try:
            values = self.read(columns, source)
            arrays = {"timestamp": pa.array(stamps)} | dict.fromkeys(values.ready, nothing)
            parsed = interchange.from_arrow(pa.table(arrays | values.others), "exact")
        except InvalidData as exc:
            raise as_written(exc, columns) from exc
        ready: dict[str, Any] = dict(values.ready)
        return parsed._replace(**ready), values

    def _with(self, found: Values, name: str, column: Any, rows: int) -> Values:
        """The values with one more column, which may have to be made up."""
        adjusted, missing = found.adjusted, found.missing
        if column is None:
            found.others[name] = pa.array(np.zeros(rows, np.uint64))
            return found._replace(adjusted=adjusted + Adjusted(filled=rows))
        filled, gone = _filled(column)
        if name == "volume" and self.volume.zero_if_missing:
            adjusted += Adjusted(filled=int(np.count_nonzero(gone)))
        else:
            missing = missing | gone
        found.others[name], changes = self._number(filled, name)
        more = Adjusted(volumes=changes) if name == "volume" else Adjusted(prices=changes)
        return found._replace(missing=missing, adjusted=adjusted + more)

    def _plain_prices(self, columns: Mapping[str, Any]) -> dict[str, tuple[Int64Array, int]]:
        if self.style is not None and self.style.decimal != ".":
            return {}
        found = {name: plain_prices(columns[name]) for name in PRICES if is_text(columns[name])}
        return {name: plain for name, plain in found.items() if plain is not None}

    def _find_style(
        self,
        columns: Mapping[str, Any],
        plain: Mapping[str, tuple[Int64Array, int]],
        source: NumberSource,
    ) -> None:
        marks = Marks(self.thousands)
        for values, decimals in plain.values():
            marks.look_at_prices(values, decimals)
        for name in FIELDS:
            if name not in plain and name in columns and is_text(columns[name]):
                marks.look_at(columns[name])
        if not (marks.point or marks.is_marked):
            return
        if not marks.point:
            # Read from its beginning: another number may show what these do not, and what these
            # mean, or why they cannot be read, must not hang on where a block ends.
            search_source(source, marks)
        self.style = marks.style(comma_separates_fields=source.commas_separate)
        if self.style is None:
            raise marks.refused(source.name)

    def _number(self, column: Any, name: str) -> tuple[Any, Changes]:
        if is_text(column):
            column = plain_numbers(column, self.style or NumberStyle(".", self.thousands))
        if name == "volume":
            return self._volume(column)
        is_float = pa.types.is_floating(column.type)
        if is_float and self.floats == "round":
            return _rounded_floats(column, name), Changes()
        if is_float and not self.rounds_prices and self.floats == "refuse":
            raise _floats_refused(column, name)
        if self.rounds_prices and not (is_float and self.floats == "exact"):
            return rounded_prices(column, checks.PRICE_DECIMALS, name)
        return column.cast(pa.float64()) if is_float else column, Changes()

    def _volume(self, column: Any) -> tuple[Any, Changes]:
        changes = Changes()
        if self.volume.fractions != "refuse" or self.volume.decimals:
            column, changes = adjusted_volumes(column, self.volume)
        if is_text(column):
            column = _whole_numbers(column)
        elif pa.types.is_floating(column.type):
            column = column.cast(pa.float64())
        return column, changes


class _AsWritten(str):
    """A value as its source has it, beside the remedy that was found for it."""


def as_written(error: InvalidData, columns: Mapping[str, Any]) -> InvalidData:
    """The error with the number as it is written, not as it was rewritten to be read."""
    column = columns.get(error.field or "")
    if error.row is None or not isinstance(error.value, str) or column is None:
        return error
    value = column[error.row].as_py()
    # JSON is read as decimals of more digits than it has.
    written = f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
    if written == error.value:
        return error
    rule = str(error.args[0]).partition(": ")[2].rpartition(", got ")[0]
    return type(error)(
        rule,
        field=error.field,
        value=_AsWritten(written),
        row=error.row,
        remedy=remedy_for(error),
    )


def is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type))


def remedy_for(error: InvalidData) -> str | None:
    """Return what helps against a value that was refused."""
    is_known = isinstance(error.value, _AsWritten)
    if is_known or error.remedy is not None or not isinstance(error.value, str):
        return error.remedy
    try:
        number = Decimal(error.value)
    except InvalidOperation:
        return None
    if not number.is_finite() or number == number.to_integral_value():
        return None
    # Whatever becomes of its fraction, it is too large.
    if number.copy_abs() > _LARGEST.get(error.field or "", 0):
        return None
    if error.field == "volume" and number > 0:
        return (
            f"{option('volume', 'round')} rounds volumes, {option('volume', 'floor')} cuts them "
            f"off, {option('volume', 'scale:N')} stores them times 10**N."
        )
    # Where it leaves nothing of a price, rounding is refused.
    if error.field in PRICES and round(number, checks.PRICE_DECIMALS):
        return f"{option('round_prices', True)} rounds prices to four decimals."
    return None


def _floats_refused(column: Any, name: str) -> InvalidData:
    return InvalidData(
        "must not be floats, which cannot hold prices exactly",
        field=name,
        value=column[0].as_py(),
        row=0,
        remedy=f"{option('floats', 'exact')} takes floats that are each the nearest to a price of "
        f"four decimals; {option('round_prices', True)} rounds them, and counts how many.",
    )


def _filled(column: Any) -> tuple[Any, AnyArray]:
    """The column with zeros where a value is missing, and where that is."""
    # Digits and points only: nothing is missing, and no pattern need be tried.
    if is_text(column) and is_plain(column):
        return column, np.zeros(len(column), np.bool_)
    gone = pc.is_null(column, nan_is_null=True)
    if is_text(column):
        empty = pc.match_substring_regex(column, rf"^{MISSING}$", ignore_case=True)
        gone = pc.or_(gone, pc.fill_null(empty, False))
    if not pc.any(gone).as_py():
        return column, np.zeros(len(column), np.bool_)
    # Not cast from a number: Arrow refuses that for decimals of less than 23 digits.
    zero = pa.scalar("0" if is_text(column) else 0, column.type)
    return pc.if_else(gone, zero, column), np.asarray(gone)


def _whole_numbers(column: Any) -> Any:
    """Text of whole numbers, some perhaps written ``1200.0`` or ``1.2e6``."""
    try:
        # Arrow would read 0x1F. Bytes are looked at first: a pattern costs more than the cast.
        if is_plain(column) or not _has_an_x(column):
            return column.cast(pa.uint64())
    except pa.ArrowInvalid:
        pass
    try:
        return to_decimals(column, 4)
    except pa.ArrowInvalid:
        pass
    for row, text in enumerate(column.to_pylist()):
        try:
            to_decimals(pa.array([text]), 4)
        except pa.ArrowInvalid as exc:
            raise InvalidData(
                "must be a whole number", field="volume", value=text, row=row
            ) from exc
    raise InvalidData("must be whole numbers", field="volume")


def _has_an_x(column: Any) -> bool:
    return bool(pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py())


def _rounded_floats(column: Any, name: str) -> Any:
    """Round float prices to four decimals, because the caller asked for it."""
    values = np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    # Negated, so that NaN is refused too: it compares with nothing.
    at_fault = np.flatnonzero(~(np.abs(values) < 2**51 / checks.PRICE_SCALE))
    if len(at_fault):
        row = int(at_fault[0])
        raise InvalidData("is too large for a float", field=name, value=float(values[row]), row=row)
    scaled: Int64Array = np.rint(values * checks.PRICE_SCALE).astype(np.int64)
    return decimals_of(scaled)
