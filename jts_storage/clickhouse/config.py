"""Where ClickHouse is and how to talk to it: the model stands with the settings."""

from jts_storage.settings.clickhouse import MEMORY, ClickHouseConfig

__all__ = ["MEMORY", "ClickHouseConfig"]
