"""What a unit of work has written but not committed, laid over what is stored.

Neither ClickHouse nor the in-memory store has a transaction over time series, and the bookkeeping
must be known before it is decided. A unit of work keeps its changes here, answers its own reads
from stored and staged together, and hands over the net effect when it commits.
"""

from jts_storage.unit_of_work.staged.bookkeeping import (
    StagedCheckpoints,
    StagedIngestion,
    StagedSymbolBars,
)
from jts_storage.unit_of_work.staged.candles import StagedCandles
from jts_storage.unit_of_work.staged.events import (
    CollectedEvents,
    class_name_of,
    event_data,
    event_of,
    plain_event,
)

__all__ = [
    "CollectedEvents",
    "StagedCandles",
    "StagedCheckpoints",
    "StagedIngestion",
    "StagedSymbolBars",
    "class_name_of",
    "event_data",
    "event_of",
    "plain_event",
]
