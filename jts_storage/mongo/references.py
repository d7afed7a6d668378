"""Keeping a formula from being deleted while a strategy that uses it is saved.

MongoDB notices that two transactions write one document, not that one writes what the other has
looked for. So both write here, in a document of that formula: whoever comes second has a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from bson import ObjectId
from pymongo import UpdateOne

from jts_storage.errors import Conflict, StorageError
from jts_storage.mongo.access import CollectionAccess
from jts_storage.mongo.errors import ends_a_transaction

REFERENCES: Final = "uow_references"

_DUPLICATE_KEY: Final = 11000


class References(CollectionAccess):
    """The collection ``uow_references``: how often each formula was put to use or deleted."""

    async def use(self, formula_ids: Iterable[ObjectId]) -> None:
        """Note that strategies begin to use the formulas.

        :raises Conflict: another transaction does the same, or deletes one of them.
        """
        await self._count("uses", formula_ids)

    async def delete_formula(self, formula_id: ObjectId) -> None:
        """Note that the formula is deleted.

        :raises Conflict: another transaction does the same, or begins to use it.
        """
        await self._count("deletions", [formula_id])

    async def deletions(self, formula_ids: Iterable[ObjectId]) -> Mapping[ObjectId, int]:
        """How often each formula was deleted, those never deleted left out."""
        where = {"_id": {"$in": list(formula_ids)}, "deletions": {"$gt": 0}}
        collection, session = self.collection, self.session
        found = await self.repeat(
            "reading", lambda: collection.find(where, session=session).to_list()
        )
        return {each["_id"]: each["deletions"] for each in found}

    async def _count(self, what: str, formula_ids: Iterable[ObjectId]) -> None:
        # All in one order, so that of two transactions only one has to give way.
        wanted = sorted(set(formula_ids))
        if not wanted:
            return
        collection, session = self.collection, self.session
        updates: list[UpdateOne] = [
            UpdateOne({"_id": each}, {"$inc": {what: 1}}, upsert=True) for each in wanted
        ]
        try:
            await self.once("saving", lambda: collection.bulk_write(updates, session=session))
        except StorageError as exc:
            cause = exc.__cause__
            overtaken = isinstance(cause, Exception) and ends_a_transaction(cause)
            if isinstance(exc, Conflict) and (overtaken or exc.code == _DUPLICATE_KEY):
                raise in_use_or_deleted(wanted, exc.code) from cause
            raise


def in_use_or_deleted(formula_ids: Iterable[ObjectId], code: int | str | None = None) -> Conflict:
    names = ", ".join(map(str, list(formula_ids)[:10]))
    return Conflict(
        f"A formula was put to use or deleted by somebody else at the same time (one of {names}).",
        remedy="Read again and repeat.",
        code=code,
    )
