"""Python values as the wire has them, and back: exact, and of known classes only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final

from jts_storage.domain import checks
from jts_storage.domain.backtest import Trade
from jts_storage.domain.enums import Market, member
from jts_storage.domain.resampling import zone_name
from jts_storage.domain.results import Page
from jts_storage.domain.trades import FIELDS, plain_trades
from jts_storage.errors import InvalidData
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb
from jts_storage.remote import trades
from jts_storage.remote.kinds import ENTITIES, MEMBERS, names_of

_MICROSECOND: Final = timedelta(microseconds=1)
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - of times that have no zone either
_FIRST_DAY: Final = date(1970, 1, 1).toordinal()
_WORD: Final = 2**63
_LONGEST_NUMBER: Final = 1_000
"""Digits of a whole number; Python takes longer for a longer one than it is worth."""


in_columns: Final = ContextVar("in_columns", default=False)
"""Whether the other end takes trades in columns."""


def fill(value: pb.Value, given: Any, name: str) -> None:
    """Write `given` into a message.

    :param name: of the argument, for the error.
    :raises InvalidData: nothing on the wire can hold it.
    """
    kind = type(given)
    write = _WRITERS.get(kind)
    if write is not None:
        write(value, given)
    elif isinstance(given, Enum):
        _write_member(value, given)
    elif isinstance(given, str | bytes):
        _write_other(value, given, name)
    elif kind.__name__ in ENTITIES and ENTITIES[kind.__name__] is kind:
        _write_entities(value.entity, kind, [given], name)
    elif isinstance(given, Page):
        fill(value.page.items, list(given), name)
        value.page.has_more = given.has_more
    elif isinstance(given, Mapping):
        value.map.SetInParent()
        for key, each in given.items():
            fill(value.map.keys.add(), key, name)
            fill(value.map.values.add(), each, name)
    elif isinstance(given, Iterable):
        _write_list(value, given, name)
    else:
        _write_other(value, given, name)


def _write_list(value: pb.Value, given: Iterable[Any], name: str) -> None:
    items = list(given)
    kind = type(items[0]) if items else None
    if kind is Trade and _write_trades(value, given, items):
        return
    is_plain_list = not isinstance(given, tuple | frozenset | set)
    if (
        kind is not None
        and is_plain_list
        and ENTITIES.get(kind.__name__) is kind
        and all(type(each) is kind for each in items)
    ):
        _write_entities(value.entities, kind, items, name)
        return
    value.list.SetInParent()
    if isinstance(given, tuple):
        value.list.shape = pb.List.TUPLE
    elif isinstance(given, frozenset | set):
        value.list.shape = pb.List.SET
    for each in items:
        fill(value.list.items.add(), each, name)


def _write_trades(value: pb.Value, given: Iterable[Any], items: Sequence[Any]) -> bool:
    """Whether they are written in columns."""
    if not in_columns.get() or not all(type(each) is Trade for each in items):
        return False
    value.trades.batch = trades.written(items)
    value.trades.shape = pb.List.TUPLE if isinstance(given, tuple) else pb.List.LIST
    return True


def _write_entities(message: pb.Entities, kind: type[Any], items: Sequence[Any], name: str) -> None:
    names = names_of(kind.__name__)
    message.kind, message.count = kind.__name__, len(items)
    message.names.extend(names)
    add = message.values.add
    for item in items:
        for field in names:
            given = getattr(item, field)
            write = _WRITERS.get(type(given))
            if write is not None:
                write(add(), given)
            else:
                fill(add(), given, name)


def _write_other(value: pb.Value, given: Any, name: str) -> None:
    """Subclasses of plain types, as NumPy has them."""
    for base, write in _WRITERS.items():
        if isinstance(given, base):
            write(value, base(given) if base in (int, float, str) else given)
            return
    if isinstance(given, tzinfo):
        value.text = zone_name(given)
        return
    index = getattr(given, "__index__", None)
    if index is not None:
        _write_whole(value, index())
        return
    raise InvalidData(f"is a {type(given).__name__}, which no gateway takes", field=name)


def _write_whole(value: pb.Value, given: int) -> None:
    if -_WORD <= given < _WORD:
        value.whole = given
    elif given.bit_length() > 3 * _LONGEST_NUMBER:
        raise InvalidData("is out of range", value=given)
    else:
        value.large = str(given)


def _write_text(value: pb.Value, given: str) -> None:
    try:
        value.text = given
    except UnicodeEncodeError:
        value.broken_text = given.encode("utf-8", "surrogatepass")


def _write_moment(value: pb.Value, given: datetime) -> None:
    if given.tzinfo is None:
        value.naive_moment = (given - _NAIVE_EPOCH) // _MICROSECOND
    else:
        value.moment = (given - checks.EPOCH) // _MICROSECOND


def _write_span(value: pb.Value, given: timedelta) -> None:
    span = given // _MICROSECOND
    if not -_WORD <= span < _WORD:  # Python's reach further than 64 bits
        raise InvalidData("is out of range", value=given)
    value.span = span


def _write_member(value: pb.Value, given: Enum) -> None:
    kind = type(given)
    if MEMBERS.get(kind.__name__) is not kind:
        raise InvalidData(f"is a {kind.__name__}, which no gateway knows", value=given.value)
    value.member.kind, value.member.value = kind.__name__, given.value


def _setter(field: str) -> Callable[[pb.Value, Any], None]:
    def write(value: pb.Value, given: Any) -> None:
        setattr(value, field, given)

    return write


def _write_none(value: pb.Value, given: None) -> None:
    value.nothing = True


_WRITERS: Final[dict[type[Any], Callable[[pb.Value, Any], None]]] = {
    type(None): _write_none,
    bool: _setter("truth"),
    int: _write_whole,
    float: _setter("real"),
    str: _write_text,
    bytes: _setter("data"),
    Decimal: lambda value, given: setattr(value, "decimal", str(given)),
    datetime: _write_moment,
    date: lambda value, given: setattr(value, "day", given.toordinal() - _FIRST_DAY),
    timedelta: _write_span,
}


def read(value: pb.Value) -> Any:
    """What a message holds.

    :raises InvalidData: it holds nothing, or something that no class takes.
    """
    kind = value.WhichOneof("kind")
    simple = _READERS.get(kind)
    if simple is not None:
        return simple(value)
    if kind == "entity":
        found = _read_entities(value.entity)
        if len(found) != 1:
            raise InvalidData("is not exactly one", field="value", value=value.entity.kind)
        return found[0]
    if kind == "entities":
        return _read_entities(value.entities)
    if kind == "trades":
        found = trades.read(value.trades.batch)
        return tuple(found) if value.trades.shape == pb.List.TUPLE else found
    if kind == "list":
        return _read_list(value.list)
    if kind == "map":
        return _read_map(value.map)
    if kind == "page":
        items = read(value.page.items)
        if not isinstance(items, list):
            raise InvalidData("is no list", field="value", value=items)
        return Page(items, has_more=value.page.has_more)
    raise InvalidData(f"is of no known kind: {kind}", field="value")


def _read_list(message: pb.List) -> Any:
    shape = _SHAPES.get(message.shape)
    if shape is None:
        raise InvalidData("is of no known shape", field="value", value=message.shape)
    items = [read(each) for each in message.items]
    try:
        return shape(items)
    except TypeError as exc:
        raise InvalidData("has members that no set can hold", field="value") from exc


def _read_map(message: pb.Map) -> dict[Any, Any]:
    if len(message.keys) != len(message.values):
        raise InvalidData("lacks a key or a value", field="value")
    try:
        return {
            read(key): read(each) for key, each in zip(message.keys, message.values, strict=True)
        }
    except TypeError as exc:
        raise InvalidData("has keys that no map can hold", field="value") from exc


def _read_entities(message: pb.Entities) -> list[Any]:
    kind = ENTITIES.get(message.kind)
    names, count = list(message.names), message.count
    is_whole = len(message.values) == count * len(names) and len(set(names)) == len(names)
    if kind is None or not names or not is_whole:
        raise InvalidData("is no entity that is known here", field="value", value=message.kind)
    values = [read(each) for each in message.values]
    if kind is Trade and tuple(names) == FIELDS and count:
        by_name = {name: values[at :: len(names)] for at, name in enumerate(names)}
        plain = plain_trades(by_name)
        if plain is not None:
            return list(plain)
    known = frozenset(names_of(kind.__name__))  # a newer one may have fields that say more
    found = []
    for start in range(0, len(values), len(names)):
        row = dict(zip(names, values[start : start + len(names)], strict=True))
        try:
            found.append(kind(**{name: row[name] for name in names if name in known}))
        except InvalidData:
            raise
        except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError) as exc:
            raise InvalidData(f"is no {message.kind}: {exc}", field="value") from exc
    return found


def _read_member(value: pb.Value) -> Enum:
    kind = MEMBERS.get(value.member.kind)
    if kind is None:
        raise InvalidData("is of no known kind", field="value", value=value.member.kind)
    if kind is Market:
        return Market.own(value.member.value)  # one of the known ones, or a service's own
    found: Enum = member(kind, value.member.value, value.member.kind)
    return found


def _read_decimal(value: pb.Value) -> Decimal:
    try:
        return Decimal(value.decimal)
    except InvalidOperation as exc:
        raise InvalidData("is no decimal", field="value", value=value.decimal) from exc


def _read_large(value: pb.Value) -> int:
    text = value.large
    if len(text) > _LONGEST_NUMBER or not text.lstrip("-").isdecimal() or not text.isascii():
        raise InvalidData("is no whole number", field="value", value=text)
    return int(text)


def _read_moment(value: pb.Value) -> datetime:
    found: datetime = _within(lambda: checks.EPOCH + timedelta(microseconds=value.moment))
    return found


def _read_naive(value: pb.Value) -> datetime:
    found: datetime = _within(lambda: _NAIVE_EPOCH + timedelta(microseconds=value.naive_moment))
    return found


def _within(made: Callable[[], Any]) -> Any:
    try:
        return made()
    except (OverflowError, ValueError) as exc:
        raise InvalidData("is out of range", field="value") from exc


def _read_broken_text(value: pb.Value) -> str:
    try:
        return value.broken_text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as exc:
        raise InvalidData("is no text", field="value") from exc


_READERS: Final[dict[str | None, Callable[[pb.Value], Any]]] = {
    "nothing": lambda _: None,
    "truth": lambda value: value.truth,
    "whole": lambda value: value.whole,
    "large": _read_large,
    "real": lambda value: value.real,
    "decimal": _read_decimal,
    "text": lambda value: value.text,
    "broken_text": _read_broken_text,
    "data": lambda value: value.data,
    "moment": _read_moment,
    "naive_moment": _read_naive,
    "day": lambda value: _within(lambda: date.fromordinal(value.day + _FIRST_DAY)),
    "span": lambda value: _within(lambda: timedelta(microseconds=value.span)),
    "member": _read_member,
}
_SHAPES: Final[dict[int, Callable[[list[Any]], Any]]] = {
    pb.List.LIST: list,
    pb.List.TUPLE: tuple,
    pb.List.SET: frozenset,
}
