"""Candles and symbols in ClickHouse, on a server or embedded in the process."""

from jts_storage.clickhouse.import_internals import import_libraries

import_libraries()
