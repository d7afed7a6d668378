"""The bookkeeping of ingestion in SQLite or PostgreSQL."""

from jts_storage.relational.manager import DatabaseManager
from jts_storage.relational.pool import ConnectionPool
from jts_storage.relational.repositories import (
    SqlCheckpointRepository,
    SqlIngestionRepository,
    SqlOHLCVRepository,
    SqlSymbolBarsRepository,
)
from jts_storage.relational.tables import create_all, metadata
from jts_storage.settings import DatabaseConfig

SymbolBarsRepository = SqlSymbolBarsRepository
OHLCVRepository = SqlOHLCVRepository
CheckpointRepository = SqlCheckpointRepository

__all__ = [
    "CheckpointRepository",
    "ConnectionPool",
    "DatabaseConfig",
    "DatabaseManager",
    "OHLCVRepository",
    "SqlCheckpointRepository",
    "SqlIngestionRepository",
    "SqlOHLCVRepository",
    "SqlSymbolBarsRepository",
    "SymbolBarsRepository",
    "create_all",
    "metadata",
]
