"""How entities become what a store holds, and what it holds becomes entities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

E = TypeVar("E")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Mapper(Generic[E, S]):
    """The two directions of an explicit mapping.

    :param to_stored: gives the document of an entity, or the row of one: values by column.
    :param from_stored: gives the entity. What it cannot make one of it refuses with an error,
        which the kit reports with the document's or the row's name.
    """

    to_stored: Callable[[E], S]
    from_stored: Callable[[S], E]
