"""Moments of what is in memory."""

from __future__ import annotations

from dataclasses import dataclass

from jts_storage.domain.moments import AsOf, Commit, checked, version_at
from jts_storage.errors import InvalidData, NotFound
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.documents import InMemoryFormulaRepository, InMemoryStrategyRepository
from jts_storage.memory.past import as_of
from jts_storage.memory.revisions import RowsAsOf, rows_as_of
from jts_storage.memory.tables import MemoryDatabase


@dataclass(frozen=True, slots=True)
class InMemoryView:
    """A `View` of rows in memory."""

    commit: Commit
    candles: InMemoryCandleRepository
    formulas: InMemoryFormulaRepository
    strategies: InMemoryStrategyRepository


def view(database: MemoryDatabase, moment: AsOf) -> InMemoryView:
    with database.lock:
        version = version_of(database, moment)
        candles = as_of(database.candles, database.past, version)
        documents = RowsAsOf(rows_as_of(database.former, version))
    return InMemoryView(
        Commit(version),
        InMemoryCandleRepository(database, candles),
        InMemoryFormulaRepository(documents),
        InMemoryStrategyRepository(documents),
    )


def version_of(database: MemoryDatabase, moment: AsOf) -> int:
    """
    :raises InvalidData: the moment is in the future.
    :raises NotFound: there is no such snapshot.
    """
    named = checked(moment)
    if isinstance(named, str):
        raise NotFound(f"There is no snapshot {named!r}.", remedy="snapshots.list() has them.")
    version = named.version if isinstance(named, Commit) else version_at(named)
    if version > database.present():
        raise InvalidData(
            "lies in the future", field="as_of", value=Commit(version).moment.isoformat()
        )
    return version
