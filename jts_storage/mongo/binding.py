"""Beanie document classes of one manager, made from the document models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import beanie
from beanie import Document
from bson import Decimal128

if TYPE_CHECKING:
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase

    from jts_storage.mongo.documents import Models
    from jts_storage.mongo.stored import StoredDocument

    CollectionOf = Callable[[str], AsyncCollection[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Documents:
    """The Beanie document classes of one manager, by collection."""

    formulas: type[Any]
    strategies: type[Any]
    backtest_results: type[Any]
    backtest_trades: type[Any]
    declared: Mapping[str, type[Any]]

    def of(self, collection: str) -> type[Any]:
        """The class of a collection, the kit's or a service's."""
        if collection in self.declared:
            return self.declared[collection]
        found: type[Any] = getattr(self, collection)
        return found


async def bind_documents(
    models: Models, db: AsyncDatabase[dict[str, Any]], collection_of: CollectionOf
) -> Documents:
    """Make fresh document classes. Creates no index, drops none.

    :param db: which Beanie asks for its version and collections.
    :param collection_of: gives a collection by name, for whatever event loop is running.
    """
    bound = {
        name: _document_class(model, collection_of) for name, model in models.by_collection.items()
    }
    await beanie.init_beanie(database=db, document_models=list(bound.values()), skip_indexes=True)
    declared = {name: bound.pop(name) for name in models.declared}
    return Documents(**bound, declared=declared)


def _document_class(model: type[StoredDocument], collection_of: CollectionOf) -> type[Document]:
    settings = type(
        "Settings",
        (),
        {
            "name": model.collection,
            "indexes": model.indexes(),
            "bson_encoders": {Decimal: Decimal128},
        },
    )
    # Of two bases the later one's configuration would win, and that is Beanie's.
    body = {"__module__": model.__module__, "model_config": model.model_config}
    made: Any = type(f"Bound{model.__name__}", (model, Document), body)
    # Set afterwards: in the body, pydantic would take it for a field without a type.
    made.Settings = settings
    made.get_pymongo_collection = classmethod(lambda cls: collection_of(model.collection))
    return cast("type[Document]", made)
