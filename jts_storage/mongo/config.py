"""The configuration of MongoDB, which is defined with the other settings."""

from jts_storage.settings.mongo import MongoDBConfig, check_database_name

__all__ = ["MongoDBConfig", "check_database_name"]
