"""Events that a unit of work will publish once it has committed."""

from __future__ import annotations

from jts_storage.domain.events import DomainEvent
from jts_storage.errors import InvalidData


class CollectedEvents:
    """The events of a unit of work, in the order in which they were added."""

    def __init__(self) -> None:
        self.collected: list[DomainEvent] = []

    def add(self, event: DomainEvent) -> None:
        if not isinstance(event, DomainEvent):
            raise InvalidData("must be a DomainEvent", field="event", value=event)
        self.collected.append(event)
