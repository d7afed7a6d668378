"""Whether a MongoDB server holds commits or purges that are decided and not finished."""

from __future__ import annotations

from typing import Any, Final

from pymongo import MongoClient

from jts_storage.unit_of_work.entries import ENTRIES

PURGES: Final = "uow_purges"
"""Where it is noted what was purged of the history of candles."""

_ITS_OWN: Final = {"admin", "config", "local"}


def is_at_rest(client: MongoClient[dict[str, Any]]) -> bool:
    """Return whether no journal in any database of the server has an entry, and no purge is left
    to be finished.
    """
    unfinished: dict[str, dict[str, Any]] = {ENTRIES: {}, PURGES: {"isUnfinished": True}}
    return all(
        client[name][collection].find_one(where, {"_id": 1}) is None
        for name in client.list_database_names()
        if name not in _ITS_OWN
        for collection, where in unfinished.items()
    )
