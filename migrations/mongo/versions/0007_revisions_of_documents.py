"""Where former formulas and strategies lie, and the versions that a backtest result names."""

from typing import Any

from jts_storage.migrate.mongo_operations import Operations

HISTORIES = ("formulas_history", "strategies_history")

TEXT = {"bsonType": "string"}
ID = {"bsonType": "objectId"}
DATE = {"bsonType": "date"}
NUMBER = {"bsonType": "number"}
TEXT_OR_NULL = {"bsonType": ["string", "null"]}
ID_OR_NULL = {"bsonType": ["objectId", "null"]}
DATE_OR_NULL = {"bsonType": ["date", "null"]}
NUMBER_OR_NULL = {"bsonType": ["number", "null"]}

TRADE: dict[str, Any] = {
    "bsonType": "object",
    "properties": {
        "symbol": TEXT,
        "side": {
            "enum": ["buy", "sell", "long", "short"],
        },
        "entryTime": DATE,
        "entryPrice": NUMBER,
        "exitTime": DATE_OR_NULL,
        "exitPrice": NUMBER_OR_NULL,
        "quantity": NUMBER,
        "pnl": NUMBER_OR_NULL,
        "exitReason": TEXT_OR_NULL,
    },
    "required": ["symbol", "side", "entryTime", "entryPrice", "quantity"],
}

VERSIONS: dict[str, Any] = {
    "strategyVersion": NUMBER_OR_NULL,
    "formulaVersions": {
        "bsonType": ["array", "null"],
        "items": {
            "bsonType": "object",
            "properties": {
                "formulaId": ID,
                "version": NUMBER,
            },
            "required": ["formulaId", "version"],
        },
    },
}

RESULTS: dict[str, Any] = {
    "bsonType": "object",
    "properties": {
        "strategyId": ID,
        "runAt": DATE,
        "config": {
            "bsonType": "object",
            "properties": {
                "startDate": DATE,
                "endDate": DATE,
                "symbols": {
                    "bsonType": ["array", "null"],
                    "items": TEXT,
                },
                "initialCapital": NUMBER,
                "dataFingerprint": TEXT_OR_NULL,
            },
            "required": ["startDate", "endDate", "initialCapital"],
        },
        "metrics": {
            "bsonType": ["object", "null"],
            "properties": {
                "totalReturnPct": NUMBER_OR_NULL,
                "sharpeRatio": NUMBER_OR_NULL,
                "maxDrawdownPct": NUMBER_OR_NULL,
                "winRate": NUMBER_OR_NULL,
                "profitFactor": NUMBER_OR_NULL,
                "totalTrades": NUMBER_OR_NULL,
            },
        },
        "trades": {
            "bsonType": ["array", "null"],
            "items": TRADE,
        },
        "tradeSet": ID_OR_NULL,
        "tradeCount": NUMBER_OR_NULL,
    },
    "required": ["strategyId", "runAt", "config"],
}


async def up(op: Operations) -> None:
    for name in HISTORIES:
        await op.create_collection(name)
        key = {"document": 1, "since": -1, "n": -1}
        await op.create_indexes(name, [{"name": f"{name}_document", "key": key, "unique": True}])
    await op.set_validator("backtest_results", _with(VERSIONS))


async def down(op: Operations) -> None:
    await op.set_validator("backtest_results", RESULTS)
    for name in HISTORIES:
        # What was cannot be had again, so a history stays, and its index with it.
        await op.drop_collection_if_empty(name)


def _with(fields: dict[str, Any]) -> dict[str, Any]:
    return RESULTS | {"properties": RESULTS["properties"] | fields}
