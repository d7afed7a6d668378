"""Named subscriptions of events: what each asks for, what it is told, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, Self, TypeAlias, get_args

from jts_storage.domain import checks
from jts_storage.domain.events import DomainEvent
from jts_storage.errors import InvalidData

From: TypeAlias = Literal["now", "stored"]
"""Where a new subscription begins: with later commits, or with what waits for handlers already."""

HANDLERS: Final = "handlers"
"""The name under which the handlers of all processes share their events; no other may have it."""

ALL_TYPES: Final = "*"
MOST: Final = 100
"""So many subscriptions there may be: every commit with events looks at all of them."""


@dataclass(frozen=True, slots=True)
class PlainEvent:
    """An event as it is stored, for those who lack its class.

    :param class_name: the module and the name of its class, with a dot between.
    :param data: its fields, as JSON has them.
    :param version: of the commit that it came with: ``as_of=Commit(version)`` shows its work.
    """

    id: str
    event_type: str
    class_name: str
    key: str
    data: Mapping[str, Any]
    version: int


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """One subscription, as operators see it.

    :param types: the types of events that it hears; none of them means all.
    :param waiting: how many events are stored for it that it has not acknowledged.
    :param parked: how many of its events were refused by their classes.
    :param oldest: how long ago the oldest that waits was committed; None if none waits.
    """

    name: str
    types: tuple[str, ...]
    is_durable: bool
    waiting: int
    parked: int
    oldest: timedelta | None


@dataclass(frozen=True, slots=True)
class Interest:
    """What a subscriber asks for.

    :param types: the types of events that it hears; none of them means all.
    """

    name: str
    types: frozenset[str]
    from_stored: bool
    is_durable: bool

    @classmethod
    def checked(
        cls, name: str, types: Iterable[str | type[DomainEvent]], from_: From, *, durable: bool
    ) -> Self:
        """:raises InvalidData: naming what is no name, no type of events or no beginning."""
        if from_ not in get_args(From):
            raise InvalidData(
                "must be 'now' or 'stored'", field="from_", value=from_, remedy="Leave it out."
            )
        heard = frozenset(map(_type_name, types))
        every = ALL_TYPES in heard
        return cls(
            subscription_name(name), frozenset() if every else heard, from_ == "stored", durable
        )

    def hears(self, event_type: str) -> bool:
        return not self.types or event_type in self.types


def subscription_name(name: str) -> str:
    """:raises InvalidData: it is no name, or that of the handlers."""
    if checks.name(name, "name") == HANDLERS:
        raise InvalidData(
            "is how the handlers of events share theirs",
            field="name",
            value=name,
            remedy="Choose another name.",
        )
    return name


def _type_name(given: object) -> str:
    if isinstance(given, type) and issubclass(given, DomainEvent):
        return given.event_type
    if isinstance(given, str):
        return checks.name(given, "types")
    raise InvalidData("must be types of events, or their names", field="types", value=repr(given))
