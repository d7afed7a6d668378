"""What a unit of work takes as an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from jts_storage import DomainEvent
from jts_storage.errors import InvalidData
from jts_storage.unit_of_work.staged import CollectedEvents


@dataclass(frozen=True, kw_only=True)
class Counted(DomainEvent):
    number: Any = 1

    @property
    def key(self) -> str:
        return "one"


NOTHING = Counted()


@pytest.mark.parametrize(
    "refused",
    [
        lambda events: events.add("no event"),
        lambda events: events.add(Counted(number=object())),
        lambda events: (events.add(NOTHING), events.add(replace(NOTHING, number=2))),
    ],
    ids=["of another class", "what JSON does not hold", "another of the same id"],
)
def test_what_is_refused_is_named(refused: Callable[[CollectedEvents], object]) -> None:
    with pytest.raises(InvalidData) as caught:
        refused(CollectedEvents())
    assert caught.value.field == "event"


def test_the_same_event_twice_is_one() -> None:
    events = CollectedEvents()
    events.add(NOTHING)
    events.add(NOTHING)
    assert events.collected == [NOTHING]
