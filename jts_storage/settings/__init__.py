"""What a service sets: where its stores are and how to talk to them.

`StorageSettings` holds one model for each store: `ClickHouseConfig`, `MongoDBConfig`,
`DatabaseConfig` and, where there is one, `RedisConfig`. Their fields have one name each, in a URL,
the environment, a ``.env`` file and as a keyword. Importing this loads no driver.
"""

from jts_storage.settings.clickhouse import ClickHouseConfig
from jts_storage.settings.database import DatabaseConfig
from jts_storage.settings.fields import RetryPolicy
from jts_storage.settings.mongo import MongoDBConfig
from jts_storage.settings.redis import RedisConfig
from jts_storage.settings.storage import StorageSettings

__all__ = [
    "ClickHouseConfig",
    "DatabaseConfig",
    "MongoDBConfig",
    "RedisConfig",
    "RetryPolicy",
    "StorageSettings",
]
