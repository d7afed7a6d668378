"""What a gateway tells of the stores themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from jts_storage.errors import StorageError

if TYPE_CHECKING:
    from jts_storage.migrate import Databases
    from jts_storage.unit_of_work.participants import Stores


def stores_of(backend: Any) -> Stores:
    """
    :raises StorageError: it is in memory.
    """
    stores: Stores | None = getattr(backend, "stores", None)
    if stores is None:
        raise StorageError(
            "A storage in memory has no databases behind it.", remedy="Ask one that has."
        )
    return stores


def databases_of(backend: Any, wanted: Sequence[str], by_year: bool) -> Databases:
    """Those of the stores that are named, or all of them."""
    from jts_storage.migrate import Databases

    stores = stores_of(backend)
    known = {"clickhouse": stores.clickhouse, "mongo": stores.mongo, "relational": stores.database}
    chosen: dict[str, Any] = {
        name: store if not wanted or name in wanted else None for name, store in known.items()
    }
    return Databases(
        chosen["clickhouse"],
        chosen["mongo"],
        chosen["relational"],
        by_year,
        models=stores.models,
        service=backend.settings.migrations,
    )


def by_field(found: Any) -> Mapping[str, Any]:
    return {field.name: getattr(found, field.name) for field in fields(found)}
