"""Migrations up and down on a cluster of two hosts, as far as one engine can be one.

The hosts are two databases of one embedded engine. Distributed tables are real, on a cluster of one
shard. What needs a Keeper is played: a statement ON CLUSTER runs in both databases, replicated
engines become plain ones, and what asks every host reads both databases. It prints what it saw.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final

from jts_storage import migrate
from jts_storage.clickhouse.embedded import engine
from jts_storage.clickhouse.embedded.session import EmbeddedSession
from jts_storage.clickhouse.manager import ClickHouseManager

CLUSTER: Final = "c1"
HERE, THERE = "jts", "jts_there"

_ONE_SHARD = """<tcp_port>9000</tcp_port><remote_servers><c1><shard><replica>
<host>127.0.0.1</host><port>9000</port></replica></shard></c1></remote_servers></clickhouse>"""
_REPLICATED = re.compile(r"Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?")
_EVERY_HOST = re.compile(r"cluster(?:AllReplicas)?\(c1, currentDatabase\(\), (\w+)\)")

CANDLES = """CREATE TABLE {}.candles (symbol String, exchange String, timeframe String,
    timestamp DateTime64(3), open Decimal64(4), high Decimal64(4), low Decimal64(4),
    close Decimal64(4), volume UInt64) ENGINE = MergeTree() ORDER BY (symbol, timeframe, timestamp)
"""
SYMBOLS = """CREATE TABLE {}.symbols (code String, name String, market String, sector String,
    is_active UInt8, updated_at DateTime) ENGINE = ReplacingMergeTree(updated_at) ORDER BY code"""
KEYS = "symbol, exchange, timeframe, timestamp"
ROWS = f"count(), groupBitXor(cityHash64({KEYS}, open, high, low, close, volume))"


def play_cluster() -> None:
    engine._CONFIG = engine._CONFIG.replace("</clickhouse>", _ONE_SHARD)
    send = EmbeddedSession._asked

    def on_both_hosts(self: EmbeddedSession, query: str) -> Any:
        query = _REPLICATED.sub(r"\1(", query).replace(
            " replicated_deduplication_window", " non_replicated_deduplication_window"
        )
        query = _EVERY_HOST.sub(rf"merge(REGEXP('^{HERE}(_there)?$'), '^\1$')", query)
        alone = query.replace(f" ON CLUSTER {CLUSTER}", "")
        if alone == query:
            return send(self, query)
        send(self, f"USE {THERE}")
        send(self, alone)
        send(self, f"USE {HERE}")
        return send(self, alone)

    EmbeddedSession._asked = on_both_hosts  # type: ignore[method-assign]


def fill(manager: ClickHouseManager) -> None:
    """Nobody replicated what JTS filled: all candles lie on the other host, symbols on both."""
    for host in (HERE, THERE):
        manager.execute(CANDLES.format(host))
        manager.execute(SYMBOLS.format(host))
        manager.execute(f"INSERT INTO {host}.symbols VALUES ('{host}', 'n', 'ETF', '', 1, 1)")
    for rows, more in ((600, 0), (30, 1)):
        manager.execute(
            f"INSERT INTO {THERE}.candles SELECT 'S' || toString(number % 3), 'KRX', '1m',"
            " fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 60000)),"
            f" 10 + {more}, 20, 1, 15, number FROM numbers({rows})"
        )


def seen(manager: ClickHouseManager, source: str) -> dict[str, Any]:
    return {
        "candles": manager.execute(f"SELECT {ROWS} FROM {source}")[0],
        "symbols": sorted(code for (code,) in manager.execute("SELECT code FROM symbols FINAL")),
        "tables": {
            host: [name for (name,) in manager.execute(f"SHOW TABLES FROM {host}")]
            for host in (HERE, THERE)
        },
    }


async def main() -> dict[str, Any]:
    play_cluster()
    manager = ClickHouseManager(embedded_path=":memory:", database=HERE, cluster=CLUSTER)
    with manager:
        manager.execute(f"CREATE DATABASE {THERE}")
        fill(manager)
        latest = f"(SELECT * FROM {THERE}.candles ORDER BY open DESC LIMIT 1 BY {KEYS})"
        facts: dict[str, Any] = {"filled": manager.execute(f"SELECT {ROWS} FROM {latest}")[0]}
        databases = migrate.Databases(manager)
        await migrate.up(databases)
        ours = "(SELECT * FROM candles FINAL WHERE NOT is_deleted)"
        facts["up"] = seen(manager, ours)
        facts["columns that differ"] = [
            str(each) for each in await migrate.check(databases) if "." in each.where
        ]
        facts["orders"] = manager.execute(
            "SELECT sorting_key FROM system.tables WHERE name IN ('candles_local', 'candles')"
            " AND sorting_key != ''"
        )
        facts["kept"] = manager.execute(f"SELECT count() FROM {THERE}.candles_legacy")[0][0]
        manager.execute(
            "INSERT INTO candles SELECT * REPLACE (1 AS is_deleted, version + 1e18 AS version)"
            " FROM candles FINAL WHERE symbol = 'S1'"
        )
        facts["deleted"] = manager.execute(f"SELECT {ROWS} FROM {ours}")[0]
        await migrate.down(databases, to="1")
        facts["down"] = seen(manager, "candles")
        await migrate.up(databases)
        facts["up again"] = seen(manager, ours)
        await migrate.down(databases, to="base")
        facts["base"] = seen(manager, "candles")
        return facts


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
