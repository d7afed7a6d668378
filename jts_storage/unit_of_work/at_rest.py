"""Whether a MongoDB server holds commits that are decided and not finished."""

from __future__ import annotations

from typing import Any, Final

from pymongo import MongoClient

from jts_storage.unit_of_work.entries import ENTRIES

_ITS_OWN: Final = {"admin", "config", "local"}


def is_at_rest(client: MongoClient[dict[str, Any]]) -> bool:
    """Return whether no journal in any database of the server has an entry."""
    for name in client.list_database_names():
        if name not in _ITS_OWN and client[name][ENTRIES].find_one({}, {"_id": 1}) is not None:
            return False
    return True
