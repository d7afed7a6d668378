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
    VersionedDocument,
)
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.mongo.model import DocumentModel
from jts_storage.mongo.repositories import MongoDBFormulaRepository, MongoDBStrategyRepository
from jts_storage.mongo.schema import CollectionSchema, collection_schemas, ensure_schema
from jts_storage.mongo.stored import Stored as StoredFields
from jts_storage.mongo.values import decimal, id_text

__all__ = [
    "BacktestDocument",
    "CollectionSchema",
    "DocumentModel",
    "Documents",
    "FormulaDocument",
    "Models",
    "MongoDBBacktestResultRepository",
    "MongoDBConfig",
    "MongoDBFormulaRepository",
    "MongoDBManager",
    "MongoDBStrategyRepository",
    "StoredFields",
    "StrategyDocument",
    "TradeChunkDocument",
    "VersionedDocument",
    "collection_schemas",
    "decimal",
    "ensure_schema",
    "id_text",
]
