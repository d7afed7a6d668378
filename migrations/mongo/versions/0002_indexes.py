"""Indexes for what repositories ask, and a collection for trades that one document cannot hold."""

from typing import Any

from jts_storage.migrate.mongo_operations import Operations

INDEXES: dict[str, list[dict[str, Any]]] = {
    "formulas": [
        {
            "name": "formulas_text",
            "key": {"name": "text", "tags": "text", "description": "text"},
            "weights": {"name": 10, "tags": 5, "description": 1},
            "default_language": "none",
            "language_override": "_textSearchLanguage",
        },
        {"name": "formulas_category", "key": {"category": 1, "_id": 1}},
        {"name": "formulas_tags", "key": {"tags": 1, "_id": 1}},
    ],
    "strategies": [
        {"name": "strategies_entry_formula", "key": {"entryFormulaId": 1}},
        {"name": "strategies_exit_formula", "key": {"exitFormulaId": 1}},
        {"name": "strategies_stop_formula", "key": {"stopLossRule.formulaId": 1}},
    ],
    "backtest_results": [
        {
            "name": "backtest_results_strategy_run",
            "key": {"strategyId": 1, "runAt": -1, "_id": -1},
        },
    ],
    "backtest_trades": [
        {"name": "backtest_trades_set", "key": {"tradeSet": 1, "number": 1}, "unique": True},
    ],
}


async def up(op: Operations) -> None:
    await op.create_collection("backtest_trades")
    for collection, indexes in INDEXES.items():
        await op.create_indexes(collection, indexes)


async def down(op: Operations) -> None:
    for collection, indexes in INDEXES.items():
        await op.drop_indexes(collection, [index["name"] for index in indexes])
    # The trades in it fit nowhere else.
    await op.drop_collection_if_empty("backtest_trades")
