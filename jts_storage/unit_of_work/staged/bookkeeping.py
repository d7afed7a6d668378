"""Bookkeeping that a unit of work has written but not committed, laid over what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.changes import AggregateChange, CheckpointChange, same_aggregate
from jts_storage.errors import Conflict, InvalidData
from jts_storage.ports.ingestion import CheckpointReader, IngestionReader, SymbolBarsReader
from jts_storage.unit_of_work.staged.candles import StagedCandles
from jts_storage.unit_of_work.staged.pages import merged_page

_Aggregate = tuple[str, date]


class StagedSymbolBars:
    """A `SymbolBarsRepository` whose writes stay here until they are handed over.

    An aggregate is read once: what it was then is what it must still be when it is written.
    """

    def __init__(self, stored: SymbolBarsReader, lifetime: Lifetime | None = None) -> None:
        self._stored = stored
        self._lifetime = lifetime or Lifetime()
        self._changes: dict[_Aggregate, AggregateChange] = {}
        self._read: dict[_Aggregate, SymbolBars | None] = {}
        self._lock = asyncio.Lock()

    @property
    def changes(self) -> list[AggregateChange]:
        return list(self._changes.values())

    async def get(self, symbol: str, trading_day: date) -> SymbolBars | None:
        key = (symbol, trading_day)
        if key in self._changes:
            return self._changes[key].becomes
        if key not in self._read:
            stored = await self._stored.get(symbol, trading_day)
            self._read.setdefault(key, stored)
        return self._read[key]

    async def list(
        self, symbol: str, *, limit: int = 1_000, after: date | None = None
    ) -> Sequence[SymbolBars]:
        async def page(limit: int, after: date | None) -> Sequence[SymbolBars]:
            return await self._stored.list(symbol, limit=limit, after=after)

        changes = [change for change in self._changes.values() if change.symbol == symbol]
        staged = [change.becomes for change in changes if change.becomes is not None]
        hidden = {change.trading_day for change in changes}
        return await merged_page(
            page,
            staged,
            hidden,
            key_of=lambda bars: bars.trading_day,
            order=date.isoformat,
            limit=limit,
            after=after,
        )

    async def save(self, bars: SymbolBars) -> SymbolBars:
        self._lifetime.check()
        async with self._lock:
            return await self._save(bars)

    async def _save(self, bars: SymbolBars) -> SymbolBars:
        before = await self.get(bars.symbol, bars.trading_day)
        self._lifetime.check()
        found = before.version if before else 0
        if found != bars.version or (before and not same_aggregate(before, bars)):
            raise Conflict(
                f"the bars of {bars.symbol} on {bars.trading_day} were changed by somebody else: "
                f"version {found} is stored, {bars.version} was read.",
                remedy="Read them again and repeat.",
            )
        moment = checks.now()
        created = moment if before is None else before.created_at
        saved = replace(bars, version=found + 1, created_at=created, updated_at=moment)
        self._change(bars.symbol, bars.trading_day, before, saved)
        return saved

    async def delete(self, symbol: str, trading_day: date) -> bool:
        self._lifetime.check()
        async with self._lock:
            before = await self.get(symbol, trading_day)
            self._lifetime.check()
            if before is None:
                return False
            self._change(symbol, trading_day, before, None)
            if not self._changes[symbol, trading_day].base:
                del self._changes[symbol, trading_day]  # it was never stored
            return True

    def take(self, changes: Sequence[AggregateChange]) -> None:
        """Put what was staged elsewhere in the place of what is staged here."""
        self._lifetime.check()
        self._changes = {(change.symbol, change.trading_day): change for change in changes}

    def _change(
        self, symbol: str, trading_day: date, before: SymbolBars | None, becomes: SymbolBars | None
    ) -> None:
        first = self._changes.get((symbol, trading_day)) or AggregateChange(
            symbol,
            trading_day,
            base=before.version if before else 0,
            becomes=None,
            created_at=before.created_at if before else None,
        )
        self._changes[symbol, trading_day] = replace(first, becomes=becomes)


class StagedCheckpoints:
    """A `CheckpointRepository` whose writes stay here.

    A checkpoint is read once, at the latest when it is written: what it was then is what it must
    still be when the unit of work commits. One that cannot be read can be saved over and deleted.
    """

    def __init__(self, stored: CheckpointReader, lifetime: Lifetime | None = None) -> None:
        self._stored = stored
        self._lifetime = lifetime or Lifetime()
        self._becomes: dict[str, Checkpoint | None] = {}
        self._read: dict[str, Checkpoint | InvalidData | None] = {}
        self._lock = asyncio.Lock()

    @property
    def changes(self) -> list[CheckpointChange]:
        return [
            CheckpointChange(name, _data(becomes), _as_stored(self._read[name]))
            for name, becomes in self._becomes.items()
        ]

    async def get(self, name: str) -> Checkpoint | None:
        found = await self._found(name)
        if isinstance(found, InvalidData):
            raise found
        # The caller gets a copy: what is kept here is not in its hands.
        return found and replace(found)

    async def _found(self, name: str) -> Checkpoint | InvalidData | None:
        """The checkpoint as it is here, or the error that tells why it cannot be read."""
        if name not in self._read:
            stored = await self._read_once(name)
            self._read.setdefault(name, stored)
        return self._becomes[name] if name in self._becomes else self._read[name]

    async def _read_once(self, name: str) -> Checkpoint | InvalidData | None:
        try:
            return await self._stored.get(name)
        except InvalidData as exc:
            if exc.document != name or not isinstance(exc.value, str):
                raise  # it is the name that is refused
            return exc

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Checkpoint]:
        async def page(limit: int, after: str | None) -> Sequence[Checkpoint]:
            found = await self._stored.list(limit=limit, after=after)
            for checkpoint in found:
                self._read.setdefault(checkpoint.name, checkpoint)
            return found

        staged = [replace(checkpoint) for checkpoint in self._becomes.values() if checkpoint]
        hidden = set(self._becomes)
        return await merged_page(
            page,
            staged,
            hidden,
            key_of=lambda checkpoint: checkpoint.name,
            order=str,
            limit=limit,
            after=after,
        )

    async def save(self, name: str, data: Mapping[str, Any]) -> Checkpoint:
        self._lifetime.check()
        checkpoint = Checkpoint(name, data, checks.now())
        async with self._lock:
            await self._found(name)
            return self._stage(checkpoint)

    async def update(
        self, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Checkpoint:
        self._lifetime.check()
        async with self._lock:
            before = await self.get(name)
            becomes = change(None if before is None else checks.json_value(before.data, "data"))
            return self._stage(Checkpoint(name, becomes, checks.now()))

    async def delete(self, name: str) -> bool:
        self._lifetime.check()
        async with self._lock:
            existed = await self._found(name) is not None
            self._lifetime.check()
            if existed:
                self._becomes[name] = None
            return existed

    def take(self, changes: Sequence[CheckpointChange]) -> None:
        """Put what was staged elsewhere in the place of what is staged here."""
        self._lifetime.check()
        moment = checks.now()
        for change in changes:
            becomes, base = change.becomes, change.base
            self._becomes[change.name] = (
                None if becomes is None else Checkpoint(change.name, becomes, moment)
            )
            if isinstance(base, str):  # what was stored there could not be read
                self._read[change.name] = InvalidData(
                    "cannot be read", value=base, document=change.name
                )
            else:
                self._read[change.name] = (
                    None if base is None else Checkpoint(change.name, base, moment)
                )

    def _stage(self, checkpoint: Checkpoint) -> Checkpoint:
        self._lifetime.check()
        self._becomes[checkpoint.name] = checkpoint
        return replace(checkpoint)


class StagedIngestion:
    """The bookkeeping of a unit of work."""

    def __init__(self, stored: IngestionReader, lifetime: Lifetime | None = None) -> None:
        self.symbol_bars = StagedSymbolBars(stored.symbol_bars, lifetime)
        # Raw bars are read and staged as candles are; what candles can do beyond is not asked.
        self.bars = StagedCandles(stored.bars, lifetime)  # type: ignore[arg-type]
        self.checkpoints = StagedCheckpoints(stored.checkpoints, lifetime)


def _data(checkpoint: Checkpoint | None) -> Mapping[str, Any] | None:
    return None if checkpoint is None else checkpoint.data


def _as_stored(read: Checkpoint | InvalidData | None) -> Mapping[str, Any] | str | None:
    if isinstance(read, InvalidData):
        return str(read.value)
    return _data(read)
