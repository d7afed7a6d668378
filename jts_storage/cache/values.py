"""Answers as bytes: a version of the format, the generations, when Redis was asked for these, whole
columns, and a checksum.

Whatever cannot be read, of whatever reason, is none: the database is asked.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from datetime import date
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar
from zlib import crc32

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey, series_key
from jts_storage.domain.columns import FIELDS, Columns, empty
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.results import Coverage, Page
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.symbol import Symbol
from jts_storage.redis.coherence import FORMAT

T = TypeVar("T")

MOST_ROWS: Final = 20_000
"""Longer ranges are read from the database as quickly, or more so."""

_CHECKSUM: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<I")
_MOMENT: Final = struct.Struct("<q")


class Unusable(Exception):
    """Bytes that are no value."""


class Codec(Protocol[T]):
    """What one kind of answer is as bytes."""

    def encode(self, value: T) -> bytes | None:
        """None if it is too large to be kept."""
        ...

    def decode(self, data: memoryview) -> T: ...

    def given(self, value: T) -> T:
        """What a caller gets of a value that is kept: one that it may change."""
        ...


class Stored(NamedTuple, Generic[T]):
    """What stands in Redis.

    :param at: milliseconds of the clock of Redis, from before the stores were asked.
    """

    value: T
    at: int


def packed(token: bytes, at: int, data: bytes) -> bytes:
    whole = FORMAT + token + _MOMENT.pack(at) + data
    return whole + _CHECKSUM.pack(crc32(whole))


def unpacked(token: bytes, stored: bytes, codec: Codec[T]) -> Stored[T]:
    """:raises Unusable: they are not what `packed` made of such a value and these generations."""
    whole, (checksum,) = stored[:-4], _CHECKSUM.unpack(stored[-4:].rjust(4, b"\0"))
    begins = 1 + len(token) + _MOMENT.size
    if len(whole) < begins or crc32(whole) != checksum:
        raise Unusable("the checksum is wrong")
    if not whole.startswith(FORMAT + token):
        raise Unusable("it is of another format or generation")
    (at,) = _MOMENT.unpack_from(whole, 1 + len(token))
    try:
        return Stored(codec.decode(memoryview(whole)[begins:]), at)
    except Exception as exc:
        raise Unusable(str(exc)) from exc


class _Immutable(Generic[T]):
    def given(self, value: T) -> T:
        return value


class SeriesCodec(_Immutable[CandleSeries]):
    """The columns of a series; its key is that of the question."""

    def __init__(self, key: SeriesKey) -> None:
        self._key = key

    def encode(self, value: CandleSeries) -> bytes | None:
        return None if len(value) > MOST_ROWS else _columns_as_bytes(value.columns)

    def decode(self, data: memoryview) -> CandleSeries:
        return CandleSeries.trusted(self._key, _columns_of(data))


class PanelCodec(_Immutable[CandlePanel]):
    def encode(self, value: CandlePanel) -> bytes | None:
        if value.rows > MOST_ROWS:
            return None
        named = [[key.symbol, key.exchange] for key in value]
        head = json.dumps([value.timeframe.value, named, value.fields, value.rows]).encode()
        parts = [value.offsets, value.column("timestamp"), *map(value.column, value.fields)]
        whole = b"".join(np.ascontiguousarray(each).tobytes() for each in parts)
        return _LENGTH.pack(len(head)) + head + whole

    def decode(self, data: memoryview) -> CandlePanel:
        (length,) = _LENGTH.unpack(data[:4])
        frame, named, fields, rows = json.loads(bytes(data[4 : 4 + length]))
        timeframe = Timeframe(frame)
        rest = data[4 + length :]
        size = 8 * (len(named) + 1)
        offsets = np.frombuffer(rest[:size], np.int64)
        stamps, *columns = _arrays(rest[size:], ("timestamp", *fields), rows)
        nothing = np.zeros(rows, np.int64)
        found = dict.fromkeys(FIELDS, nothing) | dict(zip(fields, columns, strict=True))
        keys = [series_key(symbol, timeframe, exchange) for symbol, exchange in named]
        whole = Columns(stamps, **found)
        return CandlePanel.trusted(timeframe, keys, offsets, whole, tuple(fields))


class CoverageCodec(_Immutable[Coverage]):
    def encode(self, value: Coverage) -> bytes:
        return json.dumps([None if each is None else checks.to_ms(each) for each in value]).encode()

    def decode(self, data: memoryview) -> Coverage:
        first, last = json.loads(bytes(data))
        return Coverage(*(None if ms is None else checks.from_ms(ms) for ms in (first, last)))


class CountCodec(_Immutable[int]):
    def encode(self, value: int) -> bytes:
        return str(value).encode()

    def decode(self, data: memoryview) -> int:
        return int(bytes(data))


class DaysCodec:
    def encode(self, value: dict[date, int]) -> bytes | None:
        if len(value) > MOST_ROWS:
            return None
        return json.dumps([[day.toordinal(), count] for day, count in value.items()]).encode()

    def decode(self, data: memoryview) -> dict[date, int]:
        return {date.fromordinal(day): count for day, count in json.loads(bytes(data))}

    def given(self, value: dict[date, int]) -> dict[date, int]:
        return dict(value)


class KeysCodec:
    def encode(self, value: Page[SeriesKey]) -> bytes | None:
        if len(value) > MOST_ROWS:
            return None
        named = [[key.symbol, key.timeframe.value, key.exchange] for key in value]
        return json.dumps([value.has_more, named]).encode()

    def decode(self, data: memoryview) -> Page[SeriesKey]:
        has_more, named = json.loads(bytes(data))
        keys = [SeriesKey(symbol, Timeframe(frame), exchange) for symbol, frame, exchange in named]
        return Page(keys, has_more=has_more)

    def given(self, value: Page[SeriesKey]) -> Page[SeriesKey]:
        return Page(value, has_more=value.has_more)


class SymbolsCodec:
    def encode(self, value: Sequence[Symbol]) -> bytes | None:
        if len(value) > MOST_ROWS:
            return None
        return json.dumps(list(map(_symbol_as_json, value))).encode()

    def decode(self, data: memoryview) -> Sequence[Symbol]:
        return [_symbol_of(each) for each in json.loads(bytes(data))]

    def given(self, value: Sequence[Symbol]) -> Sequence[Symbol]:
        return list(value)


class SymbolCodec(_Immutable[Symbol | None]):
    def encode(self, value: Symbol | None) -> bytes:
        return json.dumps(None if value is None else _symbol_as_json(value)).encode()

    def decode(self, data: memoryview) -> Symbol | None:
        found = json.loads(bytes(data))
        return None if found is None else _symbol_of(found)


PANEL: Final = PanelCodec()
COVERAGE: Final = CoverageCodec()
COUNT: Final = CountCodec()
DAYS: Final = DaysCodec()
KEYS: Final = KeysCodec()
SYMBOLS: Final = SymbolsCodec()
SYMBOL: Final = SymbolCodec()


def _columns_as_bytes(columns: Columns) -> bytes:
    return b"".join(np.ascontiguousarray(each).tobytes() for each in columns)


def _columns_of(data: memoryview) -> Columns:
    if not data:
        return empty()
    rows, left = divmod(len(data), 8 * len(Columns._fields))
    if left:
        raise Unusable("columns are cut off")
    return Columns(*_arrays(data, Columns._fields, rows))


def _arrays(data: memoryview, names: Sequence[str], rows: int) -> list[Any]:
    if len(data) != 8 * rows * len(names):
        raise Unusable("columns are cut off")
    size = 8 * rows
    return [
        np.frombuffer(data[at * size : (at + 1) * size], _TYPES.get(name, np.int64))
        for at, name in enumerate(names)
    ]


_TYPES: Final[dict[str, Any]] = {"volume": np.uint64}


def _symbol_as_json(symbol: Symbol) -> list[Any]:
    moment = None if symbol.updated_at is None else checks.to_ms(symbol.updated_at)
    market = symbol.market.value
    return [symbol.code, symbol.name, market, symbol.sector, symbol.is_active, moment]


def _symbol_of(found: list[Any]) -> Symbol:
    code, name, market, sector, is_active, moment = found
    updated_at = None if moment is None else checks.from_ms(moment)
    return Symbol(code, name, Market.own(market), sector, is_active, updated_at)
