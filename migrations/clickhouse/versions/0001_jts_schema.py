"""The tables of JTS, as its own services made them.

A database that JTS filled has them already. Everywhere else they are made only to be replaced, so
that every database comes to the same schema by the same way.
"""

from jts_storage.migrate import tables

revision = "0001"
down_revision = None

CANDLES = """
CREATE TABLE IF NOT EXISTS candles{on_cluster} (
    symbol String,
    exchange String,
    timeframe String,
    timestamp DateTime64(3),
    open Decimal64(4),
    high Decimal64(4),
    low Decimal64(4),
    close Decimal64(4),
    volume UInt64
) ENGINE = MergeTree() ORDER BY (symbol, timeframe, timestamp)
"""
SYMBOLS = """
CREATE TABLE IF NOT EXISTS symbols{on_cluster} (
    code String,
    name String,
    market String,
    sector String,
    is_active UInt8,
    updated_at DateTime
) ENGINE = ReplacingMergeTree(updated_at) ORDER BY code
"""


def upgrade() -> None:
    tables.execute(CANDLES)
    tables.execute(SYMBOLS)


def downgrade() -> None:
    tables.drop_if_empty("symbols")
    tables.drop_if_empty("candles")
