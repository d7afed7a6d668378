"""The tables of the bookkeeping: schema only.

Prices are exact on both databases: integers scaled by 10**4 in SQLite, NUMERIC(18, 4) in
PostgreSQL. A volume is an unsigned 64-bit number: NUMERIC(20, 0) in PostgreSQL; SQLite's integers
are signed, so there a volume of 2**63 or more is stored as its two's complement (minus 2**64),
and every smaller one as it is. Timestamps of bars are milliseconds since 1970: 64 bits of
nanoseconds end in 2262, candles in 2299.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import TypeDecorator, TypeEngine

from jts_storage.models.types import milliseconds


class _Moment(TypeDecorator[datetime]):
    """A time, in PostgreSQL with its zone and of milliseconds."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return milliseconds() if dialect.name == "postgresql" else DateTime()


metadata = MetaData()

_name = Text().with_variant(Text(collation="C"), "postgresql")
_day = Text().with_variant(Text(collation="C"), "postgresql")
_price = Numeric(18, 4).with_variant(sqlite.INTEGER(), "sqlite")
_volume = Numeric(20, 0).with_variant(sqlite.INTEGER(), "sqlite")
_moment = _Moment()
_int64 = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
_now = text("CURRENT_TIMESTAMP")

symbol_bars_aggregates = Table(
    "symbol_bars_aggregates",
    metadata,
    Column("symbol", _name, nullable=False),
    Column("trading_date", _day, nullable=False),
    Column("version", _int64, nullable=False, server_default=text("1")),
    Column("is_complete", Boolean, nullable=False, server_default=false()),
    Column("collection_started", Boolean, nullable=False, server_default=false()),
    Column("bar_count", _int64, nullable=False, server_default=text("0")),
    Column("created_at", _moment, nullable=False, server_default=_now),
    Column("updated_at", _moment, nullable=False, server_default=_now),
    PrimaryKeyConstraint("symbol", "trading_date"),
)

ohlcv_bars = Table(
    "ohlcv_bars",
    metadata,
    Column("symbol", _name, nullable=False),
    Column("exchange", _name, nullable=False, server_default=""),
    Column("timeframe", _name, nullable=False),
    Column("timestamp_ms", _int64, nullable=False),
    Column("open_price", _price, nullable=False),
    Column("high_price", _price, nullable=False),
    Column("low_price", _price, nullable=False),
    Column("close_price", _price, nullable=False),
    Column("volume", _volume, nullable=False),
    Column("created_at", _moment, nullable=False, server_default=_now),
    PrimaryKeyConstraint("symbol", "exchange", "timeframe", "timestamp_ms"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("symbol", _name, nullable=False, primary_key=True),
    Column("checkpoint_data", Text, nullable=False),
    Column("updated_at", _moment, nullable=False, server_default=_now),
)

applied_commits = Table(
    "applied_commits",
    metadata,
    Column("id", _name, nullable=False, primary_key=True),
    Column("applied_at", _moment, nullable=False, server_default=_now),
)
"""The commits over several stores whose bookkeeping is here: each is applied once."""


async def create_all(engine: AsyncEngine) -> None:
    """Create the tables that are missing; for tests and first steps, migrations do it elsewhere."""
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
