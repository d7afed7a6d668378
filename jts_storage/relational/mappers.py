"""Rows of the bookkeeping to entities and back, and columns of bars to bytes and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import chain
from typing import Any

import numpy as np

from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, empty
from jts_storage.errors import InvalidData

COLUMNS = 6
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_ROW = np.dtype(
    [("fields", ">i2")]
    + [part for n in range(COLUMNS) for part in ((f"size{n}", ">i4"), (f"value{n}", ">i8"))]
)


def symbol_bars(row: Sequence[Any]) -> SymbolBars:
    symbol, day, version, started, complete, bars, created, updated = row
    return SymbolBars(
        symbol,
        date.fromisoformat(day),
        version,
        bool(started),
        bool(complete),
        bars,
        moment(created),
        moment(updated),
    )


def checkpoint(row: Sequence[Any]) -> Checkpoint:
    name, data, updated = row
    return Checkpoint(name, from_json(data, name), moment(updated))


def to_json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_json(text: str, name: str) -> Mapping[str, Any]:
    """:raises InvalidData: somebody else wrote what is no JSON object."""
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise InvalidData(
            "holds no JSON", field="checkpoint_data", value=text, document=name
        ) from exc
    if not isinstance(value, dict):
        raise InvalidData(
            "must be a JSON object", field="checkpoint_data", value=text, document=name
        )
    return value


def moment(value: datetime | str) -> datetime:
    """What a database gave as a time; SQLite keeps text, and its own is UTC without saying so."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def moment_text(value: datetime) -> str:
    """The form of SQLite's CURRENT_TIMESTAMP, with milliseconds."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")


def signed(columns: Columns) -> tuple[Int64Array, ...]:
    """All six columns as int64, volumes of 2**63 and more as their two's complement."""
    return (*columns[:-1], columns.volume.view(np.int64))


def matrix(columns: Columns) -> Int64Array:
    """One row of six int64 a bar."""
    return np.stack(signed(columns), axis=1)


def from_rows(rows: Iterable[Iterable[int]], count: int) -> Columns:
    """The columns of what `matrix` made."""
    flat = np.fromiter(chain.from_iterable(rows), np.int64, count * COLUMNS)
    return _columns(np.ascontiguousarray(flat.reshape(count, COLUMNS).T))


def to_copy(columns: Columns) -> bytes:
    """The bars as PostgreSQL's binary COPY of six bigint columns."""
    rows = np.empty(columns.rows, _ROW)
    rows["fields"] = COLUMNS
    for n, column in enumerate(signed(columns)):
        rows[f"size{n}"] = 8
        rows[f"value{n}"] = column
    return b"".join((_SIGNATURE, rows.tobytes(), _END))


def from_copy(data: bytes) -> Columns:
    """The columns of what `to_copy` made."""
    count = (len(data) - len(_SIGNATURE) - len(_END)) // _ROW.itemsize
    rows: AnyArray = np.frombuffer(data, _ROW, count, len(_SIGNATURE))
    return _columns([rows[f"value{n}"].astype(np.int64) for n in range(COLUMNS)])


def _columns(columns: Iterable[Int64Array]) -> Columns:
    stamps, *prices, volume = columns
    if not len(stamps):
        return empty()
    return Columns.of(stamps, prices, volume.view(np.uint64))
