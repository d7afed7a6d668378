"""Rows of the bookkeeping to entities and back, and columns of bars to bytes and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, UInt64Array, empty
from jts_storage.errors import InvalidData

T = TypeVar("T")
_set = object.__setattr__
COLUMNS = 6
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_HALF = np.uint64(2**63)
_END = b"\xff\xff"
_ROW = np.dtype(
    [("fields", ">i2")]
    + [part for n in range(COLUMNS) for part in ((f"size{n}", ">i4"), (f"value{n}", ">i8"))]
)


def symbol_bars_values(bars: SymbolBars) -> dict[str, Any]:
    """Return what the statements bind of an aggregate beside its version and times."""
    return {
        "name": bars.symbol,
        "day": bars.trading_day.isoformat(),
        "started": bars.collection_started,
        "complete": bars.is_complete,
        "bars": bars.bar_count,
    }


def symbol_bars_row(bars: SymbolBars) -> tuple[Any, ...]:
    """Return the row that a SELECT gives of a stored aggregate."""
    name, day, *state = symbol_bars_values(bars).values()
    times = (moment_text(at) for at in (bars.created_at, bars.updated_at) if at is not None)
    return (name, day, bars.version, *state, *times)


def symbol_bars(row: Sequence[Any]) -> SymbolBars:
    symbol, day, version, started, complete, bars, created, updated = row
    return _restored(
        SymbolBars,
        symbol=symbol,
        trading_day=date.fromisoformat(day),
        version=version,
        collection_started=bool(started),
        is_complete=bool(complete),
        bar_count=bars,
        created_at=moment(created),
        updated_at=moment(updated),
    )


def checkpoint_row(checkpoint: Checkpoint) -> tuple[Any, ...]:
    """Return the row that a SELECT gives of a stored checkpoint."""
    assert checkpoint.updated_at is not None
    return (checkpoint.name, to_json(checkpoint.data), moment_text(checkpoint.updated_at))


def checkpoint(row: Sequence[Any]) -> Checkpoint:
    name, data, updated = row
    return _restored(Checkpoint, name=name, data=from_json(data, name), updated_at=moment(updated))


def _restored(kind: type[T], **values: Any) -> T:
    """An entity of values that passed its checks on their way in; to check them again would cost
    a sixth of a round trip to PostgreSQL."""
    entity = object.__new__(kind)
    for name, value in values.items():
        _set(entity, name, value)
    return entity


def to_json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_json(text: str, name: str) -> Mapping[str, Any]:
    """Read the data of a checkpoint.

    :raises InvalidData: it is no JSON object, so another program wrote it.
    """
    try:
        value = _DECODER.decode(text)
    except ValueError as exc:
        raise InvalidData(
            "holds no JSON", field="checkpoint_data", value=text, document=name
        ) from exc
    if not isinstance(value, dict):
        raise InvalidData(
            "must be a JSON object", field="checkpoint_data", value=text, document=name
        )
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)  # json.loads would make one a call


def moment(value: datetime | str) -> datetime:
    """What a database gave as a time; SQLite keeps text, and its own is UTC without saying so."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
    finer = value.microsecond % 1000
    return value.replace(microsecond=value.microsecond - finer) if finer else value


def moment_text(value: datetime, timespec: str = "milliseconds") -> str:
    """The form of SQLite's CURRENT_TIMESTAMP, with milliseconds unless asked without."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec)


def matrix(columns: Columns) -> Int64Array:
    """One row of six int64 a bar; a volume of 2**63 or more is its two's complement."""
    return np.stack((*columns[:-1], columns.volume.view(np.int64)), axis=1)


def from_rows(rows: Iterable[Iterable[int]], count: int) -> Columns:
    """The columns of what `matrix` made."""
    flat = np.fromiter(chain.from_iterable(rows), np.int64, count * COLUMNS)
    *numbers, volume = np.ascontiguousarray(flat.reshape(count, COLUMNS).T)
    return _columns(numbers, volume.view(np.uint64))


def to_copy(columns: Columns) -> bytes:
    """The bars as PostgreSQL's binary COPY of six bigint columns, volumes less 2**63."""
    rows = np.empty(columns.rows, _ROW)
    rows["fields"] = COLUMNS
    shifted = (columns.volume ^ _HALF).view(np.int64)
    for n, column in enumerate((*columns[:-1], shifted)):
        rows[f"size{n}"] = 8
        rows[f"value{n}"] = column
    return b"".join((_SIGNATURE, rows.tobytes(), _END))


def from_copy(data: bytes) -> Columns:
    """The columns of what `to_copy` made."""
    count = (len(data) - len(_SIGNATURE) - len(_END)) // _ROW.itemsize
    rows: AnyArray = np.frombuffer(data, _ROW, count, len(_SIGNATURE))
    *numbers, volume = (rows[f"value{n}"].astype(np.int64) for n in range(COLUMNS))
    return _columns(numbers, volume.view(np.uint64) ^ _HALF)


def _columns(numbers: list[Int64Array], volume: UInt64Array) -> Columns:
    return Columns.of(numbers[0], numbers[1:], volume) if len(volume) else empty()
