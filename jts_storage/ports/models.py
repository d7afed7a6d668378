"""What a storage needs to know of a declared model."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeVar

R_co = TypeVar("R_co", covariant=True)


class Model(Protocol[R_co]):
    """A `TableModel`, a `RecordModel` or a `DocumentModel`, with the repository that it declares.

    :ivar name: of its table or collection, by which the journal knows it.
    """

    @property
    def name(self) -> str: ...

    @property
    def store(self) -> Literal["clickhouse", "database", "mongo"]: ...

    def repository(self, source: Any) -> R_co:
        """The repository over rows or documents that are stored, or staged in a unit of work."""
        ...
