"""What a unit of work has staged, as changes; and those of another process, taken over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import pyarrow as pa

from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain.changes import CommitChanges, TableChange
from jts_storage.domain.events import DomainEvent
from jts_storage.models.registry import Models
from jts_storage.unit_of_work.staged.bookkeeping import StagedIngestion
from jts_storage.unit_of_work.staged.candles import StagedCandles
from jts_storage.unit_of_work.staged.events import CollectedEvents
from jts_storage.unit_of_work.staged.tables import StagedTables


class Staging(Protocol):
    """Where a unit of work keeps what it has staged."""

    candles: StagedCandles
    ingestion: StagedIngestion
    events: CollectedEvents


def staged_changes(staging: Staging, tables: StagedTables, source: str) -> CommitChanges:
    """All that is staged but the events.

    :param source: what the unit of work says of itself.
    """
    changes = dict(tables.changes)
    # Their versions are counted apart, since other programs write symbols, too (decision 0017).
    symbols = changes.pop(SYMBOLS, None)
    staging.candles.changes.source = source
    return CommitChanges(
        candles=staging.candles.changes,
        symbols=symbols and symbols.rows,
        aggregates=staging.ingestion.symbol_bars.changes,
        checkpoints=staging.ingestion.checkpoints.changes,
        bars=staging.ingestion.bars.changes,
        tables=list(changes.values()),
    )


def take(
    staging: Staging,
    tables: StagedTables,
    models: Models,
    changes: CommitChanges,
    events: Iterable[DomainEvent],
) -> None:
    """Put changes in the place of what is staged, which must be nothing.

    :raises InvalidData: something among them is not as this process would have staged it.
    :raises StorageError: a declared table is not known here.
    """
    staging.candles.changes = changes.candles
    staging.ingestion.bars.changes = changes.bars
    staging.ingestion.symbol_bars.take(changes.aggregates)
    staging.ingestion.checkpoints.take(changes.checkpoints)
    if changes.symbols is not None:
        rows: pa.Table = SYMBOLS.changes_to(changes.symbols)
        tables.of(SYMBOLS).take(TableChange(SYMBOLS.name, SYMBOLS.store, SYMBOLS.mode, rows))
    for change in changes.tables:
        tables.of(models.table(change.name)).take(change)
    for event in events:
        staging.events.add(event)
