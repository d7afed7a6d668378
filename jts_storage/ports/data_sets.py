"""The contract of stores that tell of candles without giving them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import DataSet, Figures, SeriesDifference
from jts_storage.domain.enums import Market
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.panel_query import PanelQuery


class DataSetReader(Protocol):
    """Answers about many candles at once, computed where they are stored."""

    async def commit(self, as_of: AsOf | None) -> Commit:
        """The commit of a moment, the latest if None, once it and all earlier ones are stored.

        :raises InvalidData: the moment is in the future, or no history of it is kept.
        :raises NotFound: there is no such snapshot.
        """
        ...

    async def symbols_of(self, market: Market) -> frozenset[str]:
        """The codes of the symbols of a market."""
        ...

    async def rows(self, asked: PanelQuery, commit: Commit) -> Mapping[SeriesKey, int]:
        """How many candles each series had then; series without any are left out."""
        ...

    async def figures(self, data_set: DataSet) -> Mapping[SeriesKey, Figures]:
        """The figures of each series as of the commit."""
        ...

    async def differing(self, data_set: DataSet) -> Sequence[SeriesDifference]:
        """The series that are stored otherwise now than as of the commit, in order.

        What was corrected and corrected back is not different.
        """
        ...
