"""Columns and comparisons as conditions get them: what Python would drop of them is refused.

``a == 1 and b == 2`` asks Python whether ``a == 1`` is true and gives only ``b == 2`` or only the
other; SQLAlchemy answers without a word. Here the question is an error. A comparison that begins
with an element of SQLAlchemy's own, such as ``literal(1) == c.a``, cannot be guarded so: it is
noted which columns went into such, and one that is not in the condition was dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from sqlalchemy import Table
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.visitors import iterate, replacement_traverse

from jts_storage.errors import InvalidData

JOIN = "Join comparisons by &, | and ~, each in brackets: (c.a == 1) & (c.b > 2)."


def refuse_truth() -> NoReturn:
    """:raises InvalidData: a condition was joined by ``and``, ``or``, ``not`` or a chain."""
    raise InvalidData(
        "joins conditions by Python's and, or, not, or a chain such as 1 < x < 3, which keep only"
        " one of them",
        field="where",
        remedy=JOIN,
    )


class GuardedColumns:
    """The columns of a table by their keys."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._taken: list[_Taken] = []

    def complete(self, condition: Any) -> Any:
        """The condition as SQLAlchemy has it, in which is all that SQLAlchemy made of columns.

        :raises InvalidData: Python dropped some of it.
        """
        made = bare(condition)
        if not self._taken:
            return made
        used = set(map(id, iterate(made)))
        if any(id(each) not in used for each in self._taken):
            refuse_truth()
        return replacement_traverse(made, {}, _as_it_was)

    def __getattr__(self, name: str) -> GuardedColumn:
        return self[name]

    def __getitem__(self, name: str) -> GuardedColumn:
        found = self._table.c.get(name)
        if found is None:
            raise InvalidData(
                f"{self._table.name} has no column {name!r}",
                field="where",
                remedy=f"It has {', '.join(self._table.c.keys())}.",
            )
        return GuardedColumn(found, self._taken)


class Guarded:
    """An element of SQLAlchemy, which takes this in its place."""

    def __init__(self, element: Any) -> None:
        self.element = element

    def __clause_element__(self) -> Any:
        return self.element

    def __bool__(self) -> bool:
        refuse_truth()


class _Undecided(Grouping[bool]):
    """A condition in brackets that is neither true nor false, whatever SQLAlchemy makes of it.

    `and_` and `or_` of a single condition give that condition back, which would be no longer
    guarded.
    """

    inherit_cache = True

    def __bool__(self) -> bool:
        refuse_truth()


class _Taken(Grouping[Any]):
    """A column that SQLAlchemy took into an element of its own."""

    inherit_cache = True


def _as_it_was(element: Any, **_: Any) -> Any:
    return element.element if isinstance(element, _Taken) else None


class GuardedCondition(Guarded):
    """A comparison, or several."""

    def __clause_element__(self) -> Any:
        return _Undecided(self.element)

    def __and__(self, other: Any) -> GuardedCondition:
        return GuardedCondition(self.element & _condition(other))

    def __or__(self, other: Any) -> GuardedCondition:
        return GuardedCondition(self.element | _condition(other))

    def __eq__(self, other: object) -> bool:
        refuse_truth()

    def __ne__(self, other: object) -> bool:
        refuse_truth()

    __hash__ = None  # type: ignore[assignment]

    def __invert__(self) -> GuardedCondition:
        return GuardedCondition(~self.element)


def _compared(name: str) -> Callable[..., GuardedCondition]:
    def compare(self: Guarded, *values: Any) -> GuardedCondition:
        return GuardedCondition(getattr(bare(self), name)(*map(bare, values)))

    return compare


class GuardedColumn(Guarded):
    """A column, which can be compared."""

    def __init__(self, element: Any, taken: list[_Taken]) -> None:
        super().__init__(element)
        self._taken = taken

    def __clause_element__(self) -> Any:
        self._taken.append(_Taken(self.element))
        return self._taken[-1]

    __eq__ = _compared("__eq__")  # type: ignore[assignment]
    __ne__ = _compared("__ne__")  # type: ignore[assignment]
    __lt__ = _compared("__lt__")
    __le__ = _compared("__le__")
    __gt__ = _compared("__gt__")
    __ge__ = _compared("__ge__")
    in_ = _compared("in_")
    not_in = _compared("not_in")
    between = _compared("between")
    is_ = _compared("is_")
    is_not = _compared("is_not")

    def __hash__(self) -> int:
        return hash(self.element)


def _condition(value: Any) -> Any:
    """:raises InvalidData: it is a bool, such as ``c.price is None`` gives."""
    if isinstance(value, bool):
        refuse_truth()
    return bare(value)


def bare(value: Any) -> Any:
    """The element of SQLAlchemy in a guarded one; everything else as it is."""
    return value.element if isinstance(value, Guarded) else value
