"""Events of the domain, delivered to the handlers registered for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, ClassVar

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.ids import new_event_id

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, kw_only=True)
class DomainEvent:
    """A fact of the past. Subclass it as a frozen dataclass; the class name gives `event_type`.

    `id` is the same at every delivery, so that a handler can notice a repetition; events of one
    `key` are delivered in the order in which they were committed.
    """

    event_type: ClassVar[str] = "domain_event"

    id: str = field(default_factory=new_event_id)
    occurred_at: datetime = field(default_factory=checks.now)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.event_type = _WORD_STARTS.sub("_", cls.__name__).lower()

    def __post_init__(self) -> None:
        checks.name(self.id, "id")
        object.__setattr__(self, "occurred_at", checks.utc(self.occurred_at, "occurred_at"))

    @property
    def key(self) -> str:
        """What the order of delivery is kept for; by default the type of the event."""
        return self.event_type


@dataclass(frozen=True, kw_only=True)
class CandlesImported(DomainEvent):
    series: SeriesKey
    rows: int

    @property
    def key(self) -> str:
        return str(self.series)


@dataclass(frozen=True, kw_only=True)
class IngestionCompleted(DomainEvent):
    symbol: str
    trading_day: date
    bar_count: int

    @property
    def key(self) -> str:
        return self.symbol


@dataclass(frozen=True, kw_only=True)
class IngestionFailed(DomainEvent):
    symbol: str
    trading_day: date
    reason: str

    @property
    def key(self) -> str:
        return self.symbol


@dataclass(frozen=True, kw_only=True)
class BacktestCompleted(DomainEvent):
    strategy_id: str
    result_id: str

    @property
    def key(self) -> str:
        return self.strategy_id


@dataclass(frozen=True, kw_only=True)
class ForeignEvent(DomainEvent):
    """An event of a class that only other processes have imported, as it is stored.

    :param type: its `event_type`.
    :param class_name: of its class, with the module.
    :param of: its `key`.
    :param data: its fields, as JSON has them.
    """

    type: str
    class_name: str
    of: str
    data: Mapping[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("type", "class_name", "of"):
            checks.name(getattr(self, name), name, longest=1_000)
        object.__setattr__(self, "data", checks.json_value(self.data, "data"))
        object.__setattr__(self, "event_type", self.type)  # its own, not this class's

    @property
    def key(self) -> str:
        return self.of
