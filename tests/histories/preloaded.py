"""What a worker needs, imported once for all: each start is a fork of a process that has it."""

import asyncpg  # noqa: F401
import clickhouse_driver  # noqa: F401
import pyarrow  # noqa: F401

import jts_storage.backend  # noqa: F401
import tests.declared
import tests.histories.process  # noqa: F401
