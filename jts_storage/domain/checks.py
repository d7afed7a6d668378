"""Checks of single values, made before a value enters an entity."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from math import isfinite
from typing import Any, TypeVar

from jts_storage.errors import InvalidData

T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_TIMESTAMP = datetime(1900, 1, 1, tzinfo=UTC)
LAST_TIMESTAMP = datetime(2299, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DOCUMENT_ID = re.compile("[0-9a-f]{24}")
_HEXADECIMAL = re.compile("[0-9a-fA-F]+")

PRICE_DECIMALS = 4
PRICE_SCALE = 10**PRICE_DECIMALS
PRICE_LIMIT = 10**18
"""Scaled prices lie strictly between minus and plus this: Decimal(18, 4)."""
VOLUME_LIMIT = 2**64

LONGEST_NAME = 256
LONGEST_TEXT = 1_000_000
LARGEST_DOCUMENT = 8 * 1024 * 1024
"""Bytes of a formula, a strategy, or a backtest result without its trades: what every store can
update, too."""

# The caller's decimal context may round; ours never meets a number it has to.
EXACT = Context(prec=60)


def utc(value: object, field: str, *, row: int | None = None) -> datetime:
    """`value` in UTC, if it is aware, of whole milliseconds, and within what every store holds."""
    if (
        type(value) is datetime
        and value.tzinfo is UTC
        and not value.microsecond % 1000
        and FIRST_TIMESTAMP <= value <= LAST_TIMESTAMP
    ):
        return value  # what stores give back is like this, and lists read thousands
    if not isinstance(value, datetime):
        raise InvalidData("must be a datetime", field=field, value=value, row=row)
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidData(
            "must carry a time zone",
            field=field,
            value=value.isoformat(),
            row=row,
            remedy="Attach the zone it was recorded in, for example tzinfo=UTC.",
        )
    try:
        moment = value.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidData("is out of range", field=field, value=str(value), row=row) from exc
    if moment.microsecond % 1000 or getattr(moment, "nanosecond", 0):
        raise InvalidData(
            "must be whole milliseconds",
            field=field,
            value=value.isoformat(),
            row=row,
            remedy="Cut what is finer, as .replace(microsecond=0) does, or pandas' .floor('ms').",
        )
    if not FIRST_TIMESTAMP <= moment <= LAST_TIMESTAMP:
        raise InvalidData(
            "must lie between 1900 and 2299", field=field, value=value.isoformat(), row=row
        )
    # A pandas Timestamp is a datetime too; what is kept is a plain one.
    return moment if type(moment) is datetime else from_ms(to_ms(moment))


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime, in integers throughout."""
    return (moment - EPOCH) // _MILLISECOND


FIRST_MS, LAST_MS = to_ms(FIRST_TIMESTAMP), to_ms(LAST_TIMESTAMP)


def from_ms(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def given(entity: object, check: Callable[[Any, str], object], *fields: str) -> None:
    """Replace these fields of a frozen entity by what `check` makes of them; None stays None."""
    for field in fields:
        value = getattr(entity, field)
        if value is not None and (checked := check(value, field)) is not value:
            object.__setattr__(entity, field, checked)


def range_ms(start: datetime, end: datetime) -> tuple[int, int]:
    """Both ends of a range in milliseconds, both included.

    :raises InvalidData: an end is naive, or the range runs backwards.
    """
    first, last = to_ms(utc(start, "start")), to_ms(utc(end, "end"))
    if last < first:
        raise InvalidData(f"must not lie before start {start}", field="end", value=str(end))
    return first, last


def now() -> datetime:
    """The present, cut to the milliseconds that every store keeps."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def day(value: object, field: str) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise InvalidData("must be a date without a time", field=field, value=value)
    return value


def price(value: object, field: str, *, row: int | None = None) -> Decimal:
    """`value` as a finite Decimal of at most four decimals that fits Decimal(18, 4)."""
    number = decimal(value, field, row=row)
    scaled_price(number, field, row=row)
    return number


def scaled_price(number: Decimal, field: str, *, row: int | None = None) -> int:
    """The price times 10**4 as an exact integer."""
    # Before the product, which a huge exponent would make as long as memory.
    if number and number.adjusted() >= 14:
        raise InvalidData("must fit Decimal(18, 4)", field=field, value=str(number), row=row)
    scaled = EXACT.multiply(number, Decimal(PRICE_SCALE))
    if scaled != scaled.to_integral_value(context=EXACT):
        raise InvalidData(
            "must have at most four decimals", field=field, value=str(number), row=row
        )
    return int(scaled)


def unscaled_price(scaled: int) -> Decimal:
    return EXACT.scaleb(Decimal(scaled), -PRICE_DECIMALS)


def decimal(value: object, field: str, *, digits: int = 34, row: int | None = None) -> Decimal:
    """`value` as a finite Decimal of at most `digits` significant digits; floats are refused."""
    if type(value) is Decimal:
        _, coefficient, exponent = value.as_tuple()
        if type(exponent) is int and len(coefficient) <= digits and -6000 < exponent < 6000:
            return value
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise InvalidData(
            "must be a Decimal",
            field=field,
            value=value,
            row=row,
            remedy="A float has already lost digits: build the Decimal from the original text."
            if isinstance(value, float)
            else None,
        )
    number = Decimal(value)
    if not number.is_finite():
        raise InvalidData("must be finite", field=field, value=str(value), row=row)
    parts = number.as_tuple()
    assert isinstance(parts.exponent, int)
    if len(parts.digits) > digits or not -6000 < parts.exponent < 6000:
        raise InvalidData(f"must have at most {digits} digits", field=field, value=value, row=row)
    return number


def percentage(
    value: object, field: str, *, above: int | None = None, at_most: int | None = None
) -> Decimal:
    """A Decimal of at most 15 digits, which a double holds and gives back unchanged."""
    number = decimal(value, field, digits=15)
    if number and abs(number.adjusted()) > 300:
        raise InvalidData("is out of range", field=field, value=str(value))
    if above is not None and number <= above:
        raise InvalidData(f"must be above {above}", field=field, value=str(value))
    if at_most is not None and number > at_most:
        raise InvalidData(f"must be at most {at_most}", field=field, value=str(value))
    return number


def finite(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidData("must be a number", field=field, value=value)
    try:
        number = float(value)
    except OverflowError as exc:
        raise InvalidData("is out of range", field=field, value=value) from exc
    if not isfinite(number):
        raise InvalidData(
            "must be finite", field=field, value=number, remedy="Use None where it is not defined."
        )
    return number


def whole(
    value: object, field: str, *, least: int = 0, below: int = 2**63, row: int | None = None
) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidData("must be a whole number", field=field, value=value, row=row)
    if not least <= value < below:
        raise InvalidData(
            f"must lie between {least} and {below - 1}", field=field, value=value, row=row
        )
    return value


def name(value: object, field: str, *, longest: int = LONGEST_NAME) -> str:
    """A short, printable, non-empty string without surrounding blanks: codes, names, tags."""
    if (
        isinstance(value, str)
        and 0 < len(value) <= longest
        and value.isprintable()
        and value[0] != " " != value[-1]
    ):
        return value  # printable leaves out NUL, surrogates, and every blank but the space
    checked = text(value, field, longest=longest)
    if not checked:
        raise InvalidData("must not be empty", field=field)
    if checked != checked.strip():
        raise InvalidData("must not begin or end with blanks", field=field, value=checked)
    if not checked.isprintable():
        raise InvalidData("must not hold control characters", field=field, value=checked)
    return checked


def composed(name: str) -> str:
    """A name in NFC: ``삼성`` is one name, whether its letters came composed or in pieces.

    For names that come from files and command lines; the kit's objects keep the names they are
    given, since rows may be stored under either.
    """
    return unicodedata.normalize("NFC", name)


def text(value: object, field: str, *, longest: int = LONGEST_TEXT) -> str:
    """A string that every store takes: no NUL, no lone surrogate, bounded."""
    if not isinstance(value, str):
        raise InvalidData("must be a string", field=field, value=value)
    if len(value) <= longest and value.isprintable():
        return value
    if len(value) > longest:
        raise InvalidData(f"must have at most {longest} characters", field=field, value=value)
    if "\x00" in value:
        raise InvalidData("must not hold a NUL character", field=field, value=value)
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise InvalidData("must not hold lone surrogates", field=field, value=ascii(value)) from exc
    return value


def names(values: object, field: str) -> tuple[str, ...]:
    """Several names, each once, in the order given."""
    if not isinstance(values, (tuple, list)) and (
        isinstance(values, str) or not isinstance(values, Iterable)
    ):
        raise InvalidData("must be several strings", field=field, value=values)
    return tuple(dict.fromkeys([name(item, field) for item in values]))


def instance(value: object, kind: type[T], field: str) -> T:
    if not isinstance(value, kind):
        raise InvalidData(f"must be a {kind.__name__}", field=field, value=value)
    return value


def several(values: object, kind: type[T], field: str) -> tuple[T, ...]:
    """Several objects of one kind, in the order given."""
    if not isinstance(values, (tuple, list)) and not isinstance(values, Iterable):
        raise InvalidData(f"must be several {kind.__name__} objects", field=field, value=values)
    items = tuple(values)
    for row, item in enumerate(items):
        if not isinstance(item, kind):
            raise InvalidData(f"must be a {kind.__name__}", field=field, value=item, row=row)
    return items


def document_id(value: object, field: str) -> str:
    """The 24 lower-case hexadecimal digits that name a document."""
    if isinstance(value, str) and _DOCUMENT_ID.fullmatch(value):
        return value
    if not isinstance(value, str) or not is_document_id(value):
        raise InvalidData("must be 24 hexadecimal digits", field=field, value=value)
    return value.lower()


def is_document_id(value: str) -> bool:
    return len(value) == 24 and _HEXADECIMAL.fullmatch(value) is not None


def document_size(size: int, what: str) -> None:
    """:raises InvalidData: a document of so many bytes could not be updated later."""
    if size > LARGEST_DOCUMENT:
        raise InvalidData(
            f"{what} takes {size:,} bytes; a document may take {LARGEST_DOCUMENT:,}",
            remedy="Shorten its texts, or store what is large elsewhere.",
        )


def json_value(value: Any, field: str, *, depth: int = 0) -> Any:
    """A copy of `value` if it is what JSON can hold exactly.

    :raises InvalidData: it holds something else, or nests deeper than 100 levels (a cycle does).
    """
    if depth == 0:
        try:
            return _quickly(value, 0)
        except _NotPlain:
            pass  # looked at again, to say where it is at fault
    if depth > 100:
        raise InvalidData("nests too deeply, or holds itself", field=field)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, field)
    if isinstance(value, int):
        return whole(value, field, least=-(2**63))
    if isinstance(value, float):
        return finite(value, field)
    if isinstance(value, Mapping):
        return {
            text(key, field): json_value(item, f"{field}.{key}", depth=depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            json_value(item, f"{field}[{index}]", depth=depth + 1)
            for index, item in enumerate(value)
        ]
    raise InvalidData("must be a JSON value", field=field, value=value)


class _NotPlain(Exception):
    """What needs a closer look."""


def _quickly(value: Any, depth: int) -> Any:
    """As `json_value`, without names for what is inside: states may have thousands of numbers."""
    kind = type(value)
    if kind is int and -(2**63) <= value < 2**63:
        return value
    if kind is str and len(value) <= LONGEST_TEXT and value.isprintable():
        return value
    if value is None or kind is bool:
        return value
    if depth < 100 and kind is dict:
        return {_quick_key(key): _quickly(item, depth + 1) for key, item in value.items()}
    if depth < 100 and (kind is list or kind is tuple):
        return [_quickly(item, depth + 1) for item in value]
    raise _NotPlain


def _quick_key(key: Any) -> str:
    if type(key) is str and len(key) <= LONGEST_TEXT and key.isprintable():
        return key
    raise _NotPlain
