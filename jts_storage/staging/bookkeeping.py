"""Bookkeeping that a unit of work has written but not committed, laid over what is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.errors import Conflict
from jts_storage.ports.ingestion import CheckpointReader, IngestionReader, SymbolBarsReader
from jts_storage.staging.candles import StagedCandles
from jts_storage.staging.lifetime import Lifetime
from jts_storage.staging.pages import merged_page

_Aggregate = tuple[str, date]


@dataclass(frozen=True, slots=True)
class AggregateChange:
    """What an aggregate is to become, if its stored version still is `base` (0: none stored)."""

    symbol: str
    trading_day: date
    base: int
    becomes: SymbolBars | None


@dataclass(frozen=True, slots=True)
class CheckpointChange:
    """What a checkpoint is to become.

    :param depends_on: the data it was computed from, which must still be stored; None if it was
        written without a look at what was there.
    """

    name: str
    becomes: Mapping[str, Any] | None
    is_dependent: bool = False
    depends_on: Mapping[str, Any] | None = None

    def still_holds(self, stored: Mapping[str, Any] | None) -> bool:
        """Whether what it was computed from is what is stored; to Python 1 would equal true."""
        return _as_text(stored) == _as_text(self.depends_on)


class StagedSymbolBars:
    """A `SymbolBarsRepository` whose writes stay here until they are handed over."""

    def __init__(self, stored: SymbolBarsReader, lifetime: Lifetime | None = None) -> None:
        self._stored = stored
        self._lifetime = lifetime or Lifetime()
        self._changes: dict[_Aggregate, AggregateChange] = {}

    @property
    def changes(self) -> list[AggregateChange]:
        return list(self._changes.values())

    async def get(self, symbol: str, trading_day: date) -> SymbolBars | None:
        change = self._changes.get((symbol, trading_day))
        return change.becomes if change else await self._stored.get(symbol, trading_day)

    async def list(
        self, symbol: str, *, limit: int = 1_000, after: date | None = None
    ) -> Sequence[SymbolBars]:
        async def page(limit: int, after: date | None) -> Sequence[SymbolBars]:
            return await self._stored.list(symbol, limit=limit, after=after)

        changes = [change for change in self._changes.values() if change.symbol == symbol]
        staged = [change.becomes for change in changes if change.becomes is not None]
        hidden = {change.trading_day for change in changes}
        return await merged_page(
            page, staged, hidden, lambda bars: bars.trading_day, date.isoformat, limit, after
        )

    async def save(self, bars: SymbolBars) -> SymbolBars:
        self._lifetime.check()
        before = await self.get(bars.symbol, bars.trading_day)
        found = before.version if before else 0
        if found != bars.version:
            raise Conflict(
                f"the bars of {bars.symbol} on {bars.trading_day} were changed by somebody else: "
                f"version {found} is stored, {bars.version} was read.",
                remedy="Read them again and repeat.",
            )
        base = self._base(bars.symbol, bars.trading_day, found)
        moment = checks.now()
        created = moment if before is None else before.created_at
        saved = replace(bars, version=found + 1, created_at=created, updated_at=moment)
        self._change(AggregateChange(bars.symbol, bars.trading_day, base, saved))
        return saved

    async def delete(self, symbol: str, trading_day: date) -> bool:
        self._lifetime.check()
        before = await self.get(symbol, trading_day)
        if before is None:
            return False
        base = self._base(symbol, trading_day, before.version)
        if base:
            self._change(AggregateChange(symbol, trading_day, base, None))
        else:
            del self._changes[symbol, trading_day]  # it was never stored
        return True

    def _base(self, symbol: str, trading_day: date, found: int) -> int:
        change = self._changes.get((symbol, trading_day))
        return change.base if change else found

    def _change(self, change: AggregateChange) -> None:
        self._changes[change.symbol, change.trading_day] = change


class StagedCheckpoints:
    """A `CheckpointRepository` whose writes stay here."""

    def __init__(self, stored: CheckpointReader, lifetime: Lifetime | None = None) -> None:
        self._stored = stored
        self._lifetime = lifetime or Lifetime()
        self._becomes: dict[str, Checkpoint | None] = {}
        self._bases: dict[str, Mapping[str, Any] | None] = {}

    @property
    def changes(self) -> list[CheckpointChange]:
        return [
            CheckpointChange(
                name,
                becomes.data if becomes else None,
                is_dependent=name in self._bases,
                depends_on=self._bases.get(name),
            )
            for name, becomes in self._becomes.items()
        ]

    async def get(self, name: str) -> Checkpoint | None:
        if name not in self._becomes:
            return await self._stored.get(name)
        staged = self._becomes[name]
        # The caller gets a copy: what is staged is not in its hands.
        return staged and replace(staged)

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Checkpoint]:
        async def page(limit: int, after: str | None) -> Sequence[Checkpoint]:
            return await self._stored.list(limit=limit, after=after)

        staged = [replace(checkpoint) for checkpoint in self._becomes.values() if checkpoint]
        hidden = set(self._becomes)
        return await merged_page(
            page, staged, hidden, lambda checkpoint: checkpoint.name, str, limit, after
        )

    async def save(self, name: str, data: Mapping[str, Any]) -> Checkpoint:
        self._lifetime.check()
        checkpoint = Checkpoint(name, data, checks.now())
        self._becomes[name] = checkpoint
        return replace(checkpoint)

    async def update(
        self, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Checkpoint:
        self._lifetime.check()
        before = await self.get(name)
        base = before.data if before else None
        becomes = change(None if base is None else checks.json_value(base, "data"))
        if name not in self._becomes:
            self._bases[name] = base
        return await self.save(name, becomes)

    async def delete(self, name: str) -> bool:
        self._lifetime.check()
        existed = await self.get(name) is not None
        if existed:
            self._becomes[name] = None
        return existed


class StagedIngestion:
    """The bookkeeping of a unit of work."""

    def __init__(self, stored: IngestionReader, lifetime: Lifetime | None = None) -> None:
        self.symbol_bars = StagedSymbolBars(stored.symbol_bars, lifetime)
        # Raw bars are read and staged as candles are; what candles can do beyond is not asked.
        self.bars = StagedCandles(stored.bars, lifetime)  # type: ignore[arg-type]
        self.checkpoints = StagedCheckpoints(stored.checkpoints, lifetime)


def _as_text(data: Mapping[str, Any] | None) -> str:
    return json.dumps(data, sort_keys=True)
