"""Rows that an import set aside, with reason and source, until they are released or discarded.

They are kept in the bookkeeping, as checkpoints whose names begin with ``quarantine:``: there they
are stored in one transaction with the state of the import, and there any process finds them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jts_storage.domain import checks
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import NotFound
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.usecases.any_storage import AnyStorage

if TYPE_CHECKING:
    from jts_storage.readers.rows import BrokenRow

PREFIX = "quarantine:"
ROWS_A_NOTE = 1_000
"""How many rows one checkpoint holds at most."""

_PAGE = 100

RowJson = dict[str, Any]


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """One row that was set aside.

    :param note: the name of the checkpoint that holds it.
    :param key: None if the row cannot be read and its source does not say the series of all.
    :param row: its number in the source, from 0; those that cannot be read do not count.
    :param reasons: the rules it breaks, or why it cannot be read.
    :param came_as: its values as the source had them.
    :param timestamp: None, as `scaled`, if the row cannot be read.
    :param scaled: the prices times 10**4, and the volume.
    :param line: of its file, if the row cannot be read; see `place`.
    :param place: what `line` counts: ``"line"``, or ``"row"`` (from 1) in what has no lines, such
        as Parquet and an array of JSON.
    """

    note: str
    key: SeriesKey | None
    source: str
    row: int
    reasons: tuple[str, ...]
    came_as: dict[str, Any]
    timestamp: datetime | None
    scaled: tuple[int, int, int, int, int] | None
    line: int | None = None
    place: str = "line"

    @property
    def candle(self) -> Candle | None:
        """What it would be stored as; None if no store may hold it."""
        if self.timestamp is None or self.scaled is None:
            return None
        *prices, volume = self.scaled
        try:
            opening, high, low, close = map(checks.unscaled_price, prices)
            return Candle(self.timestamp, opening, high, low, close, volume)
        except ValueError:  # what cannot be stored: InvalidData is one
            return None


@dataclass(frozen=True, slots=True)
class Note:
    """Some quarantined rows of one series, on their way into a checkpoint."""

    name: str
    data: dict[str, Any]


class Notes:
    """Makes the checkpoints that keep rows of a source aside, each row once.

    The same rows give the same names, and those that an earlier import of the source has noted in
    blocks of another size are left out. Another file that comes under the same path later has other
    rows, so it replaces none of them.

    :param source: as people know it.
    :param origin: a unique name of the source.
    """

    def __init__(self, storage: AnyStorage, source: str, origin: str) -> None:
        self._storage, self._source, self._origin = storage, source, origin
        self._kept: dict[str, set[bytes]] = {}

    async def of(self, key: SeriesKey | None, rows: Sequence[RowJson]) -> list[Note]:
        return await self._new(key, rows, self._origin)

    async def of_broken(self, key: SeriesKey | None, rows: Sequence[BrokenRow]) -> list[Note]:
        """As `of`, for rows that cannot be read."""
        kept: list[RowJson] = [
            {
                "row": row.before,
                "line": row.line,
                "reasons": [row.reason],
                "came_as": {"text": row.text},
                "timestamp": None,
                "values": None,
                "place": row.place,
            }
            for row in rows
        ]
        return await self._new(key, kept, f"{self._origin}\x1fbroken")

    async def _new(self, key: SeriesKey | None, rows: Sequence[RowJson], origin: str) -> list[Note]:
        if not rows:
            return []
        digest = hashlib.sha256(f"{key}\x1f{origin}".encode()).hexdigest()[:16]
        if digest not in self._kept:
            self._kept[digest] = await self._noted(f"{PREFIX}{digest}:")
        kept, new = self._kept[digest], []
        for row in rows:
            if (name := _name_of(row)) not in kept:
                kept.add(name)
                new.append(row)
        return _notes(key, self._source, new, digest)

    async def _noted(self, prefix: str) -> set[bytes]:
        """The rows that are kept already."""
        found: set[bytes] = set()
        after = prefix
        while True:
            page = await self._storage.ingestion.checkpoints.list(limit=_PAGE, after=after)
            for checkpoint in page:
                if not checkpoint.name.startswith(prefix):
                    return found
                found.update(map(_name_of, checkpoint.data["rows"]))
            if len(page) < _PAGE:
                return found
            after = page[-1].name


def _name_of(row: RowJson) -> bytes:
    # Without its reasons: which of them are seen may depend on what is read together with it.
    # Earlier releases did not note what is counted.
    without = ("reasons", "place")
    itself = {name: value for name, value in row.items() if name not in without}
    return hashlib.sha256(json.dumps(itself, sort_keys=True).encode()).digest()[:16]


def _notes(key: SeriesKey | None, source: str, rows: Sequence[RowJson], digest: str) -> list[Note]:
    made = []
    for start in range(0, len(rows), ROWS_A_NOTE):
        part = rows[start : start + ROWS_A_NOTE]
        content = hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]
        # Several that cannot be read may stand before the same row.
        place = f"{part[0]['row']:012d}:{part[0].get('line', 0):012d}"
        named = f"{PREFIX}{digest}:{place}:{content}"
        names = None if key is None else [key.symbol, key.timeframe.value, key.exchange]
        made.append(Note(named, {"key": names, "source": source, "rows": list(part)}))
    return made


class Quarantine:
    """Look at quarantined rows, release them into their series, or throw them away."""

    def __init__(self, storage: AnyStorage) -> None:
        self._storage = storage

    async def review(
        self, key: SeriesKey | None = None, *, limit: int | None = None
    ) -> list[QuarantinedRow]:
        """The rows that wait, of one series or all, in the order of their sources."""
        found: list[QuarantinedRow] = []
        async for _, _, rows in self._notes(key):
            found += rows
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    async def release(self, key: SeriesKey | None = None) -> tuple[int, int]:
        """Store the rows that can be stored; return how many were, and how many stay.

        A row whose values contradict each other cannot be stored and stays.
        """
        released = kept = 0
        async for name, data, rows in self._notes(key):
            candles = [candle for row in rows if (candle := row.candle) is not None]
            stay = [item for item, row in zip(data["rows"], rows, strict=True) if not row.candle]
            series = rows[0].key
            if candles and series is not None:
                # One commit: no row is stored and kept aside at the same time.
                async with self._storage.unit_of_work(source="release from quarantine") as uow:
                    await uow.candles.save_many(series, candles)
                    await _keep(uow, name, {**data, "rows": stay})
                    await uow.commit()
            released += len(candles)
            kept += len(stay)
        return released, kept

    async def discard(self, key: SeriesKey | None = None) -> int:
        """Throw the rows away; return how many there were."""
        gone = 0
        async for name, _, rows in self._notes(key):
            async with self._storage.unit_of_work() as uow:
                await uow.ingestion.checkpoints.delete(name)
                await uow.commit()
            gone += len(rows)
        return gone

    async def _notes(
        self, key: SeriesKey | None
    ) -> AsyncIterator[tuple[str, dict[str, Any], list[QuarantinedRow]]]:
        """Yield each checkpoint of the series, or of all: its name, its data and its rows."""
        after = PREFIX
        while True:
            page = await self._storage.ingestion.checkpoints.list(limit=_PAGE, after=after)
            for checkpoint in page:
                if not checkpoint.name.startswith(PREFIX):
                    return
                rows = _rows(checkpoint.name, checkpoint.data)
                if key is None or rows[0].key == key:
                    yield checkpoint.name, dict(checkpoint.data), rows
            if len(page) < _PAGE:
                return
            after = page[-1].name


async def _keep(uow: UnitOfWork, name: str, data: dict[str, Any]) -> None:
    if data["rows"]:
        await uow.ingestion.checkpoints.save(name, data)
    else:
        await uow.ingestion.checkpoints.delete(name)


def _rows(name: str, data: Mapping[str, Any]) -> list[QuarantinedRow]:
    key = None
    if data["key"] is not None:
        symbol, timeframe, exchange = data["key"]
        key = SeriesKey(symbol, Timeframe(timeframe), exchange)
    if not data["rows"]:
        raise NotFound(f"Checkpoint {name} holds no rows.", remedy="Delete it.")
    return [
        QuarantinedRow(
            note=name,
            key=key,
            source=data["source"],
            row=item["row"],
            reasons=tuple(item["reasons"]),
            came_as=item["came_as"],
            timestamp=None if item["timestamp"] is None else checks.from_ms(item["timestamp"]),
            scaled=item["values"] and tuple(int(value) for value in item["values"]),
            line=item.get("line"),
            place=item.get("place", "line"),
        )
        for item in data["rows"]
    ]
