"""Name what a unit of work has written, for messages."""

from __future__ import annotations

from collections.abc import Iterable

from jts_storage.unit_of_work.staged.bookkeeping import StagedIngestion
from jts_storage.unit_of_work.staged.candles import StagedCandles
from jts_storage.unit_of_work.staged.events import CollectedEvents
from jts_storage.unit_of_work.staged.tables import StagedTables

_MANY = 100


def written(
    candles: StagedCandles,
    tables: StagedTables,
    ingestion: StagedIngestion,
    events: CollectedEvents,
    documents: Iterable[str],
) -> list[str]:
    """:param documents: the collections that it writes to."""
    others = {
        "aggregates": ingestion.symbol_bars.changes,
        "checkpoints": ingestion.checkpoints.changes,
        "raw bars": ingestion.bars.changes,
        "events": events.collected,
    }
    return [
        *_of_candles(candles),
        *(model.name for model, _ in tables.changes),
        *sorted(documents),
        *(name for name, changes in others.items() if changes),
    ]


def _of_candles(candles: StagedCandles) -> list[str]:
    if not candles.changes:
        return []
    keys = candles.changes.few_keys(_MANY)
    if keys is None:
        return [f"candles of more than {_MANY} series"]
    first, *others = sorted(map(str, keys))
    return [f"candles of {first}" + (f" and {len(others)} more series" if others else "")]
