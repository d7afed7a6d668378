"""Formulas, strategies and backtest results in MongoDB."""

from jts_storage.mongo.backtests import MongoDBBacktestResultRepository
from jts_storage.mongo.binding import Documents
from jts_storage.mongo.config import MongoDBConfig
from jts_storage.mongo.documents import (
    BacktestDocument,
    FormulaDocument,
    Models,
    StrategyDocument,
    TradeChunkDocument,
)
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.mongo.repositories import MongoDBFormulaRepository, MongoDBStrategyRepository
from jts_storage.mongo.schema import CollectionSchema, collection_schemas, ensure_schema

__all__ = [
    "BacktestDocument",
    "CollectionSchema",
    "Documents",
    "FormulaDocument",
    "Models",
    "MongoDBBacktestResultRepository",
    "MongoDBConfig",
    "MongoDBFormulaRepository",
    "MongoDBManager",
    "MongoDBStrategyRepository",
    "StrategyDocument",
    "TradeChunkDocument",
    "collection_schemas",
    "ensure_schema",
]
