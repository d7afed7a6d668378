"""What a gateway serves beside the ports: what a client's unit of work and its storage need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import DataSet
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.outcomes import Outcome
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.subscriptions import SubscriptionState


class StoredCandles(Protocol):
    """What staged candles ask of those that are stored, beside what every reader has."""

    async def read_panel(self, asked: PanelQuery) -> CandlePanel: ...

    async def read_resampled(
        self, asked: PanelQuery, target: Timeframe, timezone: str
    ) -> CandlePanel: ...

    async def panel_sizes(self, asked: PanelQuery) -> Mapping[SeriesKey, int]: ...

    def stream_long(self, asked: PanelQuery, block_rows: int) -> AsyncIterator[CandlePanel]: ...

    async def symbols_of(self, market: Market) -> frozenset[str]: ...


class StoredTables(Protocol):
    """Rows of declared tables, by the name of the model.

    :param where: a condition, as `conditions` writes it.
    """

    async def read(
        self,
        model: str,
        where: Any,
        columns: Sequence[str] | None,
        descending: bool,
        limit: int | None,
        key: Sequence[Any] | None,
        strict: bool,
    ) -> Any: ...

    def stream(
        self, model: str, where: Any, strict: bool, block_rows: int
    ) -> AsyncIterator[Any]: ...


class StoredDocuments(Protocol):
    """Declared documents, by the name of the model, as BSON."""

    async def get(self, model: str, identity: str) -> bytes | None: ...

    async def page(
        self, model: str, where: bytes, limit: int, after: str | None, strict: bool
    ) -> Sequence[bytes]: ...


class WorkDocuments(StoredDocuments, Protocol):
    """The same in a unit of work, where they are written, too."""

    async def save_many(self, model: str, entities: Sequence[bytes]) -> Sequence[bytes]: ...

    async def delete(self, model: str, identity: str, force: bool) -> bool: ...


class ServedStorage(Protocol):
    """The storage itself."""

    async def as_of(self, moment: AsOf) -> Commit:
        """The commit that a moment names, once it and all earlier ones are stored."""
        ...

    async def data_set(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        market: Market | None = None,
        exchange: str | None = None,
        as_of: AsOf | None = None,
    ) -> DataSet: ...

    async def fingerprint(self, data_set: DataSet) -> str: ...

    async def health(self) -> Mapping[str, Any]: ...

    async def recover(self) -> int: ...

    async def outcome(self, id: str) -> Outcome: ...

    async def unsubscribe(self, name: str) -> bool: ...

    async def subscriptions(self) -> Sequence[SubscriptionState]: ...

    async def delivered(self, events: Sequence[str]) -> int:
        """Forget events that handlers of the client have had; how many they are."""

    async def query(self, statement: str, limit: int) -> tuple[Sequence[str], Sequence[Any]]:
        """The answer of ClickHouse to a statement that only reads: names of columns, and rows.

        :param limit: how many rows are wanted; 0 for all. One more is told if there are more.
        """
        ...

    async def check(self, stores: Sequence[str], by_year: bool) -> Sequence[Mapping[str, Any]]:
        """How live schemas differ from the models, each difference by its fields.

        :param stores: which ones; all if it names none.
        """
        ...

    async def migrations(
        self, stores: Sequence[str], by_year: bool, chain: str | None
    ) -> Sequence[Mapping[str, Any]]:
        """Every migration and how its database stands to it, each by its fields."""
        ...
