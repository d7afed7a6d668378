"""What a storage gives reads: who calls it to write is told where that is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

_WRITES = ("save", "append", "update", "delete", "remove")


class ReadsOnly:
    """Reads what is committed.

    A type checker refuses a call that writes. Who has none gets an `AttributeError` that says where
    writing is done, in place of the name of a class that nobody has heard of.
    """

    __slots__ = ()

    place: ClassVar[str]
    """What writes, as a unit of work has it."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            raise AttributeError(missing(self, name, self.place), name=name, obj=self)


def missing(reader: object, name: str, place: str) -> str:
    """The message for a name that a reader lacks."""
    if name.startswith(_WRITES):
        return (
            f"storage.{place} reads what is committed, and has no {name!r}."
            f" Write in a unit of work, through uow.{place}, and commit it."
        )
    return f"{type(reader).__name__!r} object has no attribute {name!r}"
