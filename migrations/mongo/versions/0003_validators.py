"""Validators: what is written from now on has the fields that are read, of their types."""

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

SCHEMAS: dict[str, dict[str, Any]] = {
    "formulas": {
        "bsonType": "object",
        "properties": {
            "name": TEXT,
            "expression": TEXT,
            "category": {
                "enum": ["scan", "entry", "exit", "stop_loss"],
            },
            "description": TEXT_OR_NULL,
            "tags": {
                "bsonType": ["array", "null"],
                "items": TEXT,
            },
            "parameters": {
                "bsonType": ["array", "null"],
                "items": {
                    "bsonType": "object",
                    "properties": {
                        "name": TEXT,
                        "dataType": {
                            "enum": ["int", "float", "decimal", "string", "bool", None],
                        },
                        "defaultValue": {},
                        "minValue": NUMBER_OR_NULL,
                        "maxValue": NUMBER_OR_NULL,
                    },
                    "required": ["name"],
                },
            },
            "version": NUMBER_OR_NULL,
            "createdAt": DATE_OR_NULL,
            "updatedAt": DATE_OR_NULL,
        },
        "required": ["name", "expression", "category"],
    },
    "strategies": {
        "bsonType": "object",
        "properties": {
            "name": TEXT,
            "description": TEXT_OR_NULL,
            "entryFormulaId": ID_OR_NULL,
            "exitFormulaId": ID_OR_NULL,
            "stopLossRule": {
                "bsonType": ["object", "null"],
                "properties": {
                    "type": {
                        "enum": ["formula", "fixed_pct", None],
                    },
                    "formulaId": ID_OR_NULL,
                    "percentage": NUMBER_OR_NULL,
                },
            },
            "riskConfig": {
                "bsonType": ["object", "null"],
                "properties": {
                    "positionSizePct": NUMBER_OR_NULL,
                    "maxPositions": NUMBER_OR_NULL,
                    "takeProfitPct": NUMBER_OR_NULL,
                    "maxDailyLossPct": NUMBER_OR_NULL,
                },
            },
            "version": NUMBER_OR_NULL,
            "createdAt": DATE_OR_NULL,
            "updatedAt": DATE_OR_NULL,
        },
        "required": ["name"],
    },
    "backtest_results": {
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
    },
    "backtest_trades": {
        "bsonType": "object",
        "properties": {
            "tradeSet": ID,
            "number": NUMBER,
            "trades": {
                "bsonType": "array",
                "items": TRADE,
            },
        },
        "required": ["tradeSet", "number", "trades"],
    },
}


async def up(op: Operations) -> None:
    for collection, schema in SCHEMAS.items():
        await op.set_validator(collection, schema)


async def down(op: Operations) -> None:
    for collection in SCHEMAS:
        await op.set_validator(collection, None)
