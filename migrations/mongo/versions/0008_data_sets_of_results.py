"""The data set that a backtest result names beside its fingerprint."""

from typing import Any

from jts_storage.migrate.mongo_operations import Operations

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

DATA_SET: dict[str, Any] = {
    "bsonType": ["object", "null"],
    "properties": {
        "timeframe": TEXT,
        "start": DATE,
        "end": DATE,
        "series": {
            "bsonType": "array",
            "items": {
                "bsonType": "object",
                "properties": {
                    "symbol": TEXT,
                    "exchange": TEXT,
                },
                "required": ["symbol", "exchange"],
            },
        },
        "commit": NUMBER,
    },
    "required": ["timeframe", "start", "end", "series", "commit"],
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
    },
    "required": ["strategyId", "runAt", "config"],
}


async def up(op: Operations) -> None:
    config = RESULTS["properties"]["config"]
    named = config | {"properties": config["properties"] | {"dataSet": DATA_SET}}
    results = RESULTS | {"properties": RESULTS["properties"] | {"config": named}}
    await op.set_validator("backtest_results", results)


async def down(op: Operations) -> None:
    await op.set_validator("backtest_results", RESULTS)
