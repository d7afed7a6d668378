"""The versions of a strategy and of its formulas, for a backtest result that names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from jts_storage.mongo import queries
from jts_storage.mongo.access import DocumentAccess
from jts_storage.mongo.documents import (
    FORMULAS,
    STRATEGIES,
    StrategyDocument,
    VersionedDocument,
)
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.mongo.stored import ID
from jts_storage.mongo.transaction import Transaction


async def versions_now(
    manager: MongoDBManager, transaction: Transaction, strategy_id: str
) -> tuple[int | None, Mapping[str, int]]:
    """Return the version of the strategy, and of each formula that it uses, if they are stored."""
    strategies = DocumentAccess[StrategyDocument](manager, STRATEGIES, transaction)
    model = strategies.model
    fields = queries.only(model, "version") | dict.fromkeys(model.references(), 1)
    strategy = await strategies.find_one({ID: ObjectId(strategy_id)}, fields)
    if strategy is None:
        return None, {}
    used = [each for each in map(queries.object_id, model.formulas_of(strategy)) if each]
    formulas = DocumentAccess[VersionedDocument](manager, FORMULAS, transaction)
    fields = queries.only(formulas.model, "version")
    found = await formulas.find({ID: {"$in": used}}, limit=len(used), projection=fields)
    return _version(model, strategy), {
        str(each[ID]): _version(formulas.model, each) for each in found
    }


def _version(model: type[VersionedDocument], stored: Mapping[str, Any]) -> int:
    return int(stored.get(model.path("version")) or 1)
