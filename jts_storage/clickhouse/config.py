"""The configuration of ClickHouse, which is defined with the other settings."""

from jts_storage.settings.clickhouse import MEMORY, ClickHouseConfig

__all__ = ["MEMORY", "ClickHouseConfig"]
