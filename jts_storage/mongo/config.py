"""Where MongoDB is and how to talk to it: the model stands with the settings."""

from jts_storage.settings.mongo import MongoDBConfig, check_database_name

__all__ = ["MongoDBConfig", "check_database_name"]
