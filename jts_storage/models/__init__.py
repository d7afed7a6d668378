"""Models that a service declares: its entities, the tables and documents that hold them."""

from jts_storage.models.conditions import has_text
from jts_storage.models.document_repository import DocumentRepository
from jts_storage.models.mapper import Mapper
from jts_storage.models.registry import Models
from jts_storage.models.table_repository import RecordRepository, TableQuery, TableRepository
from jts_storage.models.tables import RecordModel, TableModel
from jts_storage.models.types import Exact, Moment

__all__ = [
    "DocumentRepository",
    "Exact",
    "Mapper",
    "Models",
    "Moment",
    "RecordModel",
    "RecordRepository",
    "TableModel",
    "TableQuery",
    "TableRepository",
    "has_text",
]
