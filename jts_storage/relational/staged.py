"""What a unit of work staged, brought into the database within one transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import Conflict
from jts_storage.relational.manager import DatabaseManager
from jts_storage.relational.repositories import (
    SqlCheckpointRepository,
    SqlIngestionRepository,
    SqlSymbolBarsRepository,
)
from jts_storage.staging import AggregateChange, CheckpointChange, SeriesChanges

log = logging.getLogger(__name__)


class StagedBookkeeping(Protocol):
    """The part of a unit of work that this store takes."""

    aggregates: list[AggregateChange]
    checkpoints: list[CheckpointChange]
    bars: list[SeriesChanges]


async def apply(
    manager: DatabaseManager, connection: AsyncConnection, work: StagedBookkeeping
) -> None:
    """:raises Conflict: something that the unit of work depends on was changed meanwhile."""
    ingestion = SqlIngestionRepository(manager, connection=connection)
    for aggregate in work.aggregates:
        await _apply_aggregate(ingestion.symbol_bars, aggregate)
    for checkpoint in work.checkpoints:
        await _apply_checkpoint(ingestion.checkpoints, checkpoint)
    await _apply_bars(ingestion, work)


async def replay(
    manager: DatabaseManager,
    connection: AsyncConnection,
    work: StagedBookkeeping,
    decided_at: datetime,
) -> None:
    """Apply a decided commit as far as nobody has written something later since."""
    ingestion = SqlIngestionRepository(manager, connection=connection)
    for aggregate in work.aggregates:
        stored = await ingestion.symbol_bars.get(aggregate.symbol, aggregate.trading_day)
        if (stored.version if stored else 0) == aggregate.base:
            await _apply_aggregate(ingestion.symbol_bars, aggregate)
        elif aggregate.becomes is None or not stored or stored.version < aggregate.becomes.version:
            _superseded(f"aggregate {aggregate.symbol} on {aggregate.trading_day}")
    for change in work.checkpoints:
        checkpoint = await ingestion.checkpoints.get(change.name)
        if checkpoint and checkpoint.updated_at and checkpoint.updated_at > decided_at:
            _superseded(f"checkpoint {change.name}")
            continue
        await _apply_checkpoint(ingestion.checkpoints, replace(change, is_dependent=False))
    await _apply_bars(ingestion, work)


async def _apply_aggregate(bars: SqlSymbolBarsRepository, change: AggregateChange) -> None:
    becomes, version = change.becomes, change.base
    if becomes is None or becomes.version <= version:  # deleted, and perhaps made anew
        await _delete_aggregate(bars, change)
        version = 0
    if becomes is None:
        return
    saved = replace(becomes, version=version)
    # A unit of work may have saved it several times; each counts the version up.
    while saved.version < becomes.version:
        moment = becomes.created_at if saved.version == 0 else becomes.updated_at
        saved = await bars.save(saved, moment=moment)


async def _delete_aggregate(bars: SqlSymbolBarsRepository, change: AggregateChange) -> None:
    stored = await bars.get(change.symbol, change.trading_day)
    if stored is None or stored.version != change.base:
        raise Conflict(
            f"the bars of {change.symbol} on {change.trading_day} were changed by somebody else "
            "before this commit.",
            remedy="Read them again and repeat.",
        )
    await _locked(bars, stored)
    await bars.delete(change.symbol, change.trading_day)


async def _locked(bars: SqlSymbolBarsRepository, stored: SymbolBars) -> None:
    """Hold the row until the end, having made sure that nobody was faster."""
    await bars.save(stored)


async def _apply_checkpoint(checkpoints: SqlCheckpointRepository, change: CheckpointChange) -> None:
    becomes = change.becomes
    if change.is_dependent:
        await checkpoints.update(change.name, lambda old: _if_unchanged(change, old))
    elif becomes is not None:
        await checkpoints.save(change.name, becomes)
    if becomes is None:
        await checkpoints.delete(change.name)


def _if_unchanged(change: CheckpointChange, old: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if not change.still_holds(old):
        raise Conflict(
            f"checkpoint {change.name!r} was changed by somebody else before this commit.",
            remedy="Update it again.",
        )
    return change.becomes or {}  # an empty one is about to be deleted


async def _apply_bars(ingestion: SqlIngestionRepository, work: StagedBookkeeping) -> None:
    for change in work.bars:
        for first, last in change.deleted:
            ends = checks.from_ms(first), checks.from_ms(last)
            await ingestion.bars.delete_range(change.key, *ends)
        series = CandleSeries.trusted(change.key, change.upserts)
        await ingestion.bars.save_many(change.key, series)


def _superseded(what: str) -> None:
    log.warning("A recovered commit found a later write and kept it.", extra={"kept": what})
