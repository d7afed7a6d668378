"""What most programs of tests need, but for chDB, which starts threads: no fork has these."""

import aiosqlite  # noqa: F401
import asyncpg  # noqa: F401
import clickhouse_driver  # noqa: F401
import pandas  # noqa: F401
import pymongo  # noqa: F401

import jts_storage.backend
import jts_storage.cli.main
import jts_storage.composition
import jts_storage.migrate.clickhouse
import jts_storage.migrate.environment
import jts_storage.migrate.mongo
import jts_storage.migrate.relational
import jts_storage.sync
import jts_storage.testing.factories  # noqa: F401
