"""Events that a unit of work will publish once it has committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain.events import DomainEvent
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_adapters: dict[type[DomainEvent], TypeAdapter[Any]] = {}


class CollectedEvents:
    """The events of a unit of work, in the order in which they were added."""

    def __init__(self, lifetime: Lifetime | None = None) -> None:
        self._by_id: dict[str, DomainEvent] = {}
        self._lifetime = lifetime or Lifetime()

    @property
    def collected(self) -> list[DomainEvent]:
        return list(self._by_id.values())

    def add(self, event: DomainEvent) -> None:
        if not isinstance(event, DomainEvent):
            raise InvalidData("must be a DomainEvent", field="event", value=event)
        self._lifetime.check()
        event_data(event)
        if self._by_id.setdefault(event.id, event) != event:
            raise InvalidData(
                "has the id of another event of this unit of work", field="event", value=event.id
            )


def event_data(event: DomainEvent) -> dict[str, Any]:
    """The fields of an event as JSON has them.

    :raises InvalidData: JSON has nothing for one of them.
    """
    from pydantic import PydanticUserError
    from pydantic_core import PydanticSerializationError

    try:
        data: dict[str, Any] = adapter(type(event)).dump_python(event, mode="json")
    except (PydanticUserError, PydanticSerializationError) as exc:
        raise InvalidData(
            f"cannot be stored as JSON: {str(exc).splitlines()[0]}",
            field="event",
            value=event.event_type,
        ) from exc
    return data


def adapter(kind: type[DomainEvent]) -> TypeAdapter[Any]:
    """What writes and reads events of a class."""
    from pydantic import TypeAdapter

    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]
