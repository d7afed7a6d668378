"""The bookkeeping of ingestion as the rows of the real tables, by their own mappers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.changes import same_aggregate
from jts_storage.errors import Conflict
from jts_storage.memory.tables import CHECKPOINTS, SYMBOL_BARS, Session
from jts_storage.ports.ingestion import OHLCVRepository
from jts_storage.relational import mappers
from jts_storage.unit_of_work.staged import StagedIngestion


class InMemorySymbolBarsRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, symbol: str, trading_day: date) -> SymbolBars | None:
        return self.stored(symbol, trading_day)

    def stored(self, symbol: str, trading_day: date) -> SymbolBars | None:
        row = self._session.get(SYMBOL_BARS, (symbol, trading_day))
        return None if row is None else mappers.symbol_bars(row)

    def store(self, bars: SymbolBars) -> None:
        key = (bars.symbol, bars.trading_day)
        self._session.put(SYMBOL_BARS, key, mappers.symbol_bars_row(bars))

    async def list(
        self, symbol: str, *, limit: int = 1_000, after: date | None = None
    ) -> Sequence[SymbolBars]:
        checks.whole(limit, "limit", least=1)
        every = map(mappers.symbol_bars, self._session.scan(SYMBOL_BARS))
        found = [
            bars
            for bars in every
            if bars.symbol == symbol and (after is None or bars.trading_day > after)
        ]
        return sorted(found, key=lambda bars: bars.trading_day)[:limit]

    async def save(self, bars: SymbolBars) -> SymbolBars:
        moment = checks.now()
        with self._session.exclusive():
            stored = self.stored(bars.symbol, bars.trading_day)
            found = 0 if stored is None else stored.version
            if found != bars.version or not (stored is None or same_aggregate(stored, bars)):
                raise Conflict(
                    f"the bars of {bars.symbol} on {bars.trading_day} were changed by somebody "
                    f"else: version {found} is stored, {bars.version} was read.",
                    remedy="Read them again and repeat.",
                )
            saved = replace(
                bars,
                version=bars.version + 1,
                created_at=moment if stored is None else stored.created_at,
                updated_at=moment,
            )
            self.store(saved)
        return saved

    async def delete(self, symbol: str, trading_day: date) -> bool:
        return self._session.delete(SYMBOL_BARS, (symbol, trading_day))


class InMemoryCheckpointRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, name: str) -> Checkpoint | None:
        return self.stored(name)

    def stored(self, name: str) -> Checkpoint | None:
        row = self._session.get(CHECKPOINTS, name)
        return None if row is None else mappers.checkpoint(row)

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Checkpoint]:
        checks.whole(limit, "limit", least=1)
        every = map(mappers.checkpoint, self._session.scan(CHECKPOINTS))
        found = [checkpoint for checkpoint in every if after is None or checkpoint.name > after]
        return sorted(found, key=lambda checkpoint: checkpoint.name)[:limit]

    async def save(self, name: str, data: Mapping[str, Any]) -> Checkpoint:
        checkpoint = Checkpoint(name, data, checks.now())
        self._session.put(CHECKPOINTS, name, mappers.checkpoint_row(checkpoint))
        return checkpoint

    async def update(
        self, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Checkpoint:
        with self._session.exclusive():
            before = await self.get(name)
            return await self.save(name, change(None if before is None else before.data))

    async def delete(self, name: str) -> bool:
        return self._session.delete(CHECKPOINTS, name)


class InMemoryIngestionRepository:
    def __init__(self, session: Session, bars: OHLCVRepository) -> None:
        self._session = session
        self.symbol_bars = InMemorySymbolBarsRepository(session)
        self.bars = bars
        self.checkpoints = InMemoryCheckpointRepository(session)

    def check(self, staged: StagedIngestion) -> None:
        """:raises Conflict: what a unit of work is about to change is not as it saw it."""
        for aggregate in staged.symbol_bars.changes:
            if not aggregate.still_holds(
                self.symbol_bars.stored(aggregate.symbol, aggregate.trading_day)
            ):
                raise aggregate.conflict()
        for checkpoint in staged.checkpoints.changes:
            stored = self.checkpoints.stored(checkpoint.name)
            if not checkpoint.still_holds(None if stored is None else stored.data):
                raise checkpoint.conflict()

    def apply(self, staged: StagedIngestion) -> None:
        for aggregate in staged.symbol_bars.changes:
            key = (aggregate.symbol, aggregate.trading_day)
            if aggregate.becomes is None:
                self._session.delete(SYMBOL_BARS, key)
            else:
                self.symbol_bars.store(aggregate.becomes)
        for change in staged.checkpoints.changes:
            if change.becomes is None:
                self._session.delete(CHECKPOINTS, change.name)
            else:
                checkpoint = Checkpoint(change.name, change.becomes, checks.now())
                self._session.put(CHECKPOINTS, change.name, mappers.checkpoint_row(checkpoint))
