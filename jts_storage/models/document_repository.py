"""The repository of declared documents, which a service may subclass for its own queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from jts_storage.domain import checks
from jts_storage.models.table_repository import not_in_a_unit_of_work

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

Condition: TypeAlias = Mapping[str, Any]
DocumentWhere: TypeAlias = Callable[[Any], Condition]
"""Makes a condition of the fields of a document: ``lambda order: order.state == State.OPEN``."""


class DocumentDeclaration(Protocol[E_co]):
    """What a repository needs to know of its `DocumentModel`."""

    @property
    def name(self) -> str: ...

    @property
    def entity(self) -> type[E_co]: ...

    def condition(self, where: DocumentWhere) -> Condition: ...


class DocumentSource(Protocol[E]):
    """Where a repository's documents are: committed, or in the transaction of a unit of work."""

    async def get(self, identity: str) -> E | None: ...

    async def page(
        self, where: Condition, limit: int, after: str | None, *, strict: bool
    ) -> Sequence[E]: ...

    async def save_many(self, entities: Sequence[E]) -> Sequence[E]: ...

    async def delete(self, identity: str, *, force: bool) -> bool: ...


class ReadOnlyDocuments(Generic[E]):
    """What is committed, as a storage gives it outside of any unit of work."""

    def __init__(self, stored: DocumentSource[E]) -> None:
        self.get = stored.get
        self.page = stored.page

    async def save_many(self, entities: Sequence[E]) -> Sequence[E]:
        raise not_in_a_unit_of_work()

    async def delete(self, identity: str, *, force: bool) -> bool:
        raise not_in_a_unit_of_work()


class DocumentRepository(Generic[E]):
    """The documents of a `DocumentModel`, each under an optimistic lock.

    What a storage gives reads what is committed; writes belong to a unit of work.
    """

    def __init__(self, model: DocumentDeclaration[E], source: DocumentSource[E]) -> None:
        self._model = model
        self._source = source

    async def get(self, identity: str) -> E | None:
        return await self._source.get(identity)

    async def list(
        self,
        *,
        where: DocumentWhere | None = None,
        limit: int = 1_000,
        after: str | None = None,
        strict: bool = False,
    ) -> Sequence[E]:
        """Entities in order of their ids, those that cannot be read left out.

        :param where: a condition on fields: ``where=lambda order: order.state == State.OPEN``.
            Operators of Beanie can be used, too.
        :param after: the id of the last entity of the page before.
        :param strict: raise `InvalidData` for a document that cannot be read.
        """
        checks.whole(limit, "limit", below=2**31)
        condition = {} if where is None else self._model.condition(where)
        return await self._source.page(condition, limit, after, strict=strict)

    async def save(self, entity: E) -> E:
        """Store an entity in place of what was read, or a new one where it has no id.

        :raises Conflict: somebody else changed it first.
        """
        return (await self.save_many([entity]))[0]

    async def save_many(self, entities: Iterable[E]) -> Sequence[E]:
        """All of them or, if one is refused, none."""
        listed = checks.several(entities, self._model.entity, self._model.name)
        return await self._source.save_many(listed) if listed else []

    async def delete(self, identity: str, *, force: bool = False) -> bool:
        """Whether there was something to delete.

        :raises InUse: another document refers to it, and `force` is not given.
        """
        return await self._source.delete(identity, force=force)
