"""Events that a unit of work will publish once it has committed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain.events import DomainEvent, ForeignEvent
from jts_storage.domain.subscriptions import PlainEvent
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
    if isinstance(event, ForeignEvent):
        return dict(event.data)
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


def class_name_of(event: DomainEvent) -> str:
    """The class of an event, with its module, as it is stored."""
    if isinstance(event, ForeignEvent):
        return event.class_name
    kind = type(event)
    return f"{kind.__module__}.{kind.__qualname__}"


def plain_event(event: DomainEvent, version: int) -> PlainEvent:
    """An event in the form in which it is stored.

    :param version: of its commit.
    """
    return PlainEvent(
        event.id, event.event_type, class_name_of(event), event.key, event_data(event), version
    )


def event_of(class_name: str, data: Mapping[str, Any]) -> DomainEvent | None:
    """The event, if its class is imported; a name from elsewhere must not make us import code."""
    for kind in _kinds(DomainEvent):
        if f"{kind.__module__}.{kind.__qualname__}" == class_name:
            event: Any = adapter(kind).validate_python(data)
            return event if isinstance(event, DomainEvent) else None
    return None


def known_types() -> frozenset[str]:
    """The types of events whose class is imported."""
    return frozenset(kind.event_type for kind in _kinds(DomainEvent))


def _kinds(base: type[DomainEvent]) -> Iterator[type[DomainEvent]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def adapter(kind: type[DomainEvent]) -> TypeAdapter[Any]:
    """What writes and reads events of a class."""
    from pydantic import TypeAdapter

    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]
