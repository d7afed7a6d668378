"""Write what a unit of work staged into the database, within one transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage.domain import checks
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.changes import AggregateChange, CheckpointChange
from jts_storage.domain.series import CandleSeries
from jts_storage.relational.manager import DatabaseManager
from jts_storage.relational.repositories import (
    SqlCheckpointRepository,
    SqlIngestionRepository,
    SqlSymbolBarsRepository,
    StoredData,
)

log = logging.getLogger(__name__)


class StagedBookkeeping(Protocol):
    """The part of a unit of work that this store takes."""

    aggregates: list[AggregateChange]
    checkpoints: list[CheckpointChange]
    bars: CandleChanges


async def apply(
    manager: DatabaseManager,
    connection: AsyncConnection,
    work: StagedBookkeeping,
    commit: str | None = None,
) -> None:
    """Write what was staged.

    Rows are locked in one order whatever order they were staged in, so that two commits never wait
    for each other.

    :param commit: the id under which recovery could apply it, too.
    :raises Conflict: something that the unit of work depends on was changed meanwhile.
    """
    ingestion = SqlIngestionRepository(manager, connection=connection)
    for aggregate in _by_name(work.aggregates):
        await _apply_aggregate(ingestion.symbol_bars, aggregate)
    for checkpoint in _by_checkpoint(work.checkpoints):
        await _apply_checkpoint(ingestion.checkpoints, checkpoint)
    await _apply_bars(ingestion, work)
    if commit is not None:
        await ingestion.is_first_time(commit)


async def replay(
    manager: DatabaseManager, connection: AsyncConnection, work: StagedBookkeeping, commit: str
) -> bool:
    """Write what a decided commit staged, unless it is written; whether it was not.

    Rows that a program without the journal has changed meanwhile are left as they are.
    """
    ingestion = SqlIngestionRepository(manager, connection=connection)
    if not await ingestion.is_first_time(commit):
        return False
    for aggregate in _by_name(work.aggregates):
        stored = await ingestion.symbol_bars.get(aggregate.symbol, aggregate.trading_day)
        if aggregate.still_holds(stored):
            await _apply_aggregate(ingestion.symbol_bars, aggregate)
        else:
            _superseded(f"aggregate {aggregate.symbol} on {aggregate.trading_day}")
    for change in _by_checkpoint(work.checkpoints):
        if change.still_holds(await ingestion.checkpoints.stored(change.name)):
            await _apply_checkpoint(ingestion.checkpoints, change)
        else:
            _superseded(f"checkpoint {change.name}")
    await _apply_bars(ingestion, work)
    return True


def _by_name(changes: Iterable[AggregateChange]) -> list[AggregateChange]:
    return sorted(changes, key=lambda change: (change.symbol, change.trading_day))


def _by_checkpoint(changes: Iterable[CheckpointChange]) -> list[CheckpointChange]:
    return sorted(changes, key=lambda change: change.name)


async def _apply_aggregate(bars: SqlSymbolBarsRepository, change: AggregateChange) -> None:
    becomes, version, created_at = change.becomes, change.base, change.created_at
    if becomes is None or becomes.version <= version:  # deleted, and perhaps made anew
        await _delete_aggregate(bars, change)
        version, created_at = 0, None
    if becomes is None:
        return
    saved = replace(becomes, version=version, created_at=created_at)
    # A unit of work may have saved it several times; each counts the version up.
    while saved.version < becomes.version:
        moment = becomes.created_at if saved.version == 0 else becomes.updated_at
        saved = await bars.save(saved, moment=moment)


async def _delete_aggregate(bars: SqlSymbolBarsRepository, change: AggregateChange) -> None:
    stored = await bars.get(change.symbol, change.trading_day)
    if stored is None or not change.still_holds(stored):
        raise change.conflict()
    await bars.save(stored)  # locks the row until the end; fails if another writer was faster
    await bars.delete(change.symbol, change.trading_day)


async def _apply_checkpoint(checkpoints: SqlCheckpointRepository, change: CheckpointChange) -> None:
    def becomes(stored: StoredData) -> Mapping[str, Any]:
        if not change.still_holds(stored):
            raise change.conflict()
        return change.becomes or {}  # an empty one is about to be deleted

    if change.becomes is None and change.base is None and change.knows_base:
        return  # made and deleted within the unit of work
    await checkpoints.replace(change.name, becomes)
    if change.becomes is None:
        await checkpoints.delete(change.name)


async def _apply_bars(ingestion: SqlIngestionRepository, work: StagedBookkeeping) -> None:
    for change in sorted(work.bars, key=lambda change: change.key.sort_key):
        await ingestion.bars.lock(change.key)
        for first, last in change.deleted:
            ends = checks.from_ms(first), checks.from_ms(last)
            await ingestion.bars.delete_range(change.key, *ends)
        series = CandleSeries.trusted(change.key, change.upserts)
        await ingestion.bars.save_many(change.key, series)


def _superseded(what: str) -> None:
    log.warning("A recovered commit found a later write and kept it.", extra={"kept": what})
