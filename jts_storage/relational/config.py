"""Where the bookkeeping is and how to talk to it: the model stands with the settings."""

from jts_storage.settings.database import DatabaseConfig

__all__ = ["DatabaseConfig"]
