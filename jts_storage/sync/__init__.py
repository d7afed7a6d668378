"""The blocking twins of `Storage`, the unit of work and every repository."""

from jts_storage.sync.repositories import UnitOfWork
from jts_storage.sync.storage import Storage

__all__ = ["Storage", "UnitOfWork"]
