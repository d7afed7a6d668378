"""Raw candles in Parquet files, partitioned by timeframe, symbol and day."""

from jts_storage.lake.engine import ParquetStorageEngine
from jts_storage.lake.errors import Damage, DamagedFile
from jts_storage.lake.files import JobFile
from jts_storage.lake.layout import Partition
from jts_storage.lake.reader import VerifyReport

__all__ = [
    "Damage",
    "DamagedFile",
    "JobFile",
    "ParquetStorageEngine",
    "Partition",
    "VerifyReport",
]
