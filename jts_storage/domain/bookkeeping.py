"""Progress of bar collection: aggregates by symbol, and checkpoints of collectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from jts_storage.domain import checks
from jts_storage.errors import InvalidData


@dataclass(frozen=True, slots=True)
class SymbolBars:
    """The bars of one symbol on one trading day, as an aggregate that is collected and completed.

    `version` is 0 until it is stored, then the version that was read; a save with an older one
    than the stored is a `Conflict`. Transitions give a new object.
    """

    symbol: str
    trading_day: date
    version: int = 0
    collection_started: bool = False
    is_complete: bool = False
    bar_count: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        checks.name(self.symbol, "symbol")
        checks.day(self.trading_day, "trading_day")
        checks.whole(self.version, "version")
        checks.whole(self.bar_count, "bar_count")
        if self.is_complete and not self.collection_started:
            raise InvalidData(
                "cannot be complete before its collection started", field="is_complete", value=True
            )
        checks.given(self, checks.utc, "created_at", "updated_at")

    def start_collection(self) -> SymbolBars:
        """:raises InvalidData: it has started already."""
        if self.collection_started:
            raise InvalidData(
                f"the collection of {self.symbol} on {self.trading_day} has started already",
                field="collection_started",
            )
        return replace(self, collection_started=True)

    def add_bars(self, count: int) -> SymbolBars:
        """:raises InvalidData: the collection has not started, or is complete."""
        self._must_be_collecting()
        return replace(self, bar_count=self.bar_count + checks.whole(count, "count"))

    def complete(self) -> SymbolBars:
        """:raises InvalidData: the collection has not started, or is complete."""
        self._must_be_collecting()
        return replace(self, is_complete=True)

    def _must_be_collecting(self) -> None:
        if not self.collection_started or self.is_complete:
            state = "is complete" if self.is_complete else "has not started"
            raise InvalidData(
                f"the collection of {self.symbol} on {self.trading_day} {state}",
                field="collection_started",
            )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a collector stopped: a JSON object under a name, often that of a symbol."""

    name: str
    data: Mapping[str, Any]
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        checks.name(self.name, "name")
        if not isinstance(self.data, Mapping):
            raise InvalidData("must be a JSON object", field="data", value=self.data)
        object.__setattr__(self, "data", checks.json_value(self.data, "data"))
        checks.given(self, checks.utc, "updated_at")
