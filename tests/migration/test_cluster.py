"""Migrations of a cluster: the statements of each step, and what they do where hosts are played."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jts_storage.clickhouse import comparing, schema, tables
from jts_storage.clickhouse.create_texts import parse
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.migrate.clickhouse import ClickHouseMigrations
from jts_storage.migrate.plan import Direction, Step

PROCESS = Path(__file__).with_name("cluster_process.py")
_ABSENT = "IF NOT EXISTS "
_CODEC = re.compile(r"MODIFY COLUMN (\w+) CODEC(\(\w+(?:\(8\))?, (?:LZ4|ZSTD\(1\))\))")
EVERYWHERE = "clusterAllReplicas(c1, currentDatabase(), {})"


async def printed(clickhouse: ClickHouseManager, direction: Direction) -> list[list[str]]:
    """The statements of each step, in the order in which they are taken."""
    with ClickHouseManager(clickhouse.config, cluster="c1") as clustered:
        migrations = ClickHouseMigrations(clustered)
        files = migrations.files if direction == "up" else migrations.files[::-1]
        texts = [await migrations.sql([Step(file, direction)]) for file in files]
    found = []
    for text in texts:
        lines = [line for line in text.splitlines() if not line.startswith("-- Running")]
        found.append([each.strip() for each in "\n".join(lines).split(";\n") if each.strip()])
    return found


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_whatever_changes_a_table_does_so_on_every_host(
    clickhouse: ClickHouseManager, direction: Direction
) -> None:
    steps = await printed(clickhouse, direction)
    verbs = {"CREATE", "EXCHANGE", "RENAME", "DROP"}
    changes = [each for step in steps for each in step if each.split()[0] in verbs]
    assert {each.split()[0] for each in changes} == verbs - (
        set() if direction == "up" else {"RENAME"}
    )
    assert [each for each in changes if "ON CLUSTER c1" not in each] == []


async def test_what_a_cluster_gets_is_what_its_models_say(clickhouse: ClickHouseManager) -> None:
    statements = [each for step in await printed(clickhouse, "up") for each in step]
    made = {
        each.split()[5]: parse(each)
        for each in statements
        if each.startswith("CREATE TABLE IF NOT EXISTS")
    }
    altered = [each for each in statements if each.startswith("ALTER TABLE")]
    for name, wanted in schema.texts_of(tables.build("c1").metadata).items():
        # The Distributed table is made under another name, which is then exchanged.
        found = made.get(f"{name}_new", made.get(name))
        assert found is not None
        codecs = [
            change
            for each in altered
            if each.startswith(f"ALTER TABLE {name} ON CLUSTER c1 ")
            for change in _CODEC.findall(each)
        ]
        columns = dict(found.columns)
        for column, codec in codecs:
            columns[column] = replace(columns[column], parts={"CODEC": codec})
        for each in altered:
            if added := re.match(
                rf"ALTER TABLE {name} ON CLUSTER c1 ADD COLUMN {_ABSENT}(.*)", each
            ):
                columns |= parse(f"CREATE TABLE t ({added[1]}) ENGINE = Memory").columns
        found = replace(found, columns=columns)
        assert list(comparing.compare(name, wanted, found)) == []


async def test_up_collects_the_rows_of_every_host(clickhouse: ClickHouseManager) -> None:
    for step, name in zip(
        (await printed(clickhouse, "up"))[1:3], ("candles", "symbols"), strict=True
    ):
        (insert,) = [each for each in step if each.startswith(f"INSERT INTO {name}_new")]
        assert f"FROM {EVERYWHERE.format(name)}" in insert


async def test_down_gives_each_shard_its_rows_and_removes_what_held_them(
    clickhouse: ClickHouseManager,
) -> None:
    *_, symbols, candles, tables_made = await printed(clickhouse, "down")
    for step, name, key in ((candles, "candles", "symbol"), (symbols, "symbols", "code")):
        own = [each for each in step if "jts_schema" not in each]
        on = "ON CLUSTER c1"
        assert own[0].startswith(f"CREATE TABLE IF NOT EXISTS {name}_new {on} ({key} String")
        assert own[1].startswith(f"CREATE TABLE IF NOT EXISTS {name}_spread {on}")
        assert own[1].endswith(
            f"ENGINE = Distributed(c1, currentDatabase(), {name}_new, cityHash64({key}))"
        )
        assert own[2].startswith(f"INSERT INTO {name}_spread (")
        assert EVERYWHERE.format(name) not in own[2], "a distributed table is asked once"
        assert own[3].startswith("SELECT")
        assert own[4:] == [
            "-- go on only if that found nothing",
            f"EXCHANGE TABLES {name} AND {name}_new {on}",
            f"DROP TABLE {name}_new {on} SYNC",
            f"DROP TABLE IF EXISTS {name}_spread {on} SYNC",
            f"DROP TABLE IF EXISTS {name}_local {on} SYNC",
        ]
    assert [each for each in tables_made if each.startswith("-- if")] == [
        f"-- if {name} is empty: DROP TABLE {name} ON CLUSTER c1 SYNC"
        for name in ("symbols", "candles")
    ]


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_what_is_distributed_gets_new_tables_beneath_it(
    clickhouse: ClickHouseManager, direction: Direction
) -> None:
    """The rows of each shard are copied and exchanged; only then the columns above follow."""
    steps = await printed(clickhouse, direction)
    step = steps[4] if direction == "up" else steps[3]
    own = [each for each in step if "jts_schema" not in each]
    on, local = "ON CLUSTER c1", "symbols_local_new"
    assert own[0].startswith(f"CREATE TABLE IF NOT EXISTS {local} {on} (code String")
    assert "ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}'" in own[0]
    assert own[1].startswith(f"CREATE TABLE IF NOT EXISTS symbols_spread {on}")
    assert f"Distributed(c1, currentDatabase(), {local}, cityHash64(code))" in own[1]
    assert own[2].startswith("INSERT INTO symbols_spread (")
    assert own[2].endswith("FROM symbols FINAL WHERE (1) AND 1"), "a distributed table, asked once"
    assert own[3].startswith("SELECT")
    above = own[6]
    assert above.startswith(f"CREATE TABLE IF NOT EXISTS symbols_new {on} (code String")
    assert ("version UInt64" in above) == (direction == "up")
    assert own[4:6] + own[7:] == [
        "-- go on only if that found nothing",
        f"EXCHANGE TABLES symbols_local AND {local} {on}",
        f"EXCHANGE TABLES symbols AND symbols_new {on}",
        f"DROP TABLE IF EXISTS symbols_new {on} SYNC",
        f"RENAME TABLE {local} TO symbols_legacy_2 {on}"
        if direction == "up"
        else f"DROP TABLE {local} {on} SYNC",
        f"DROP TABLE IF EXISTS symbols_spread {on} SYNC",
    ]


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_what_is_distributed_gets_another_order_beneath_it(
    clickhouse: ClickHouseManager, direction: Direction
) -> None:
    """The table above has neither a sort key nor new columns: it stays as it is."""
    steps = await printed(clickhouse, direction)
    step = steps[5] if direction == "up" else steps[2]
    own = [each for each in step if "jts_schema" not in each]
    on, local = "ON CLUSTER c1", "candles_local_new"
    key = "timeframe, symbol, exchange" if direction == "up" else "symbol, exchange, timeframe"
    assert own[0].startswith(f"CREATE TABLE IF NOT EXISTS {local} {on} (symbol LowCardinality")
    assert "ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}'" in own[0]
    assert f"ORDER BY ({key}, timestamp)" in own[0]
    assert own[1].startswith(f"CREATE TABLE IF NOT EXISTS candles_spread {on}")
    assert f"Distributed(c1, currentDatabase(), {local}, cityHash64(symbol))" in own[1]
    assert own[2].startswith("INSERT INTO candles_spread (")
    assert own[2].endswith("FROM candles FINAL WHERE (1) AND 1"), "a distributed table, asked once"
    assert own[3].startswith("SELECT")
    assert own[4:] == [
        "-- go on only if that found nothing",
        f"EXCHANGE TABLES candles_local AND {local} {on}",
        f"RENAME TABLE {local} TO candles_legacy_2 {on}"
        if direction == "up"
        else f"DROP TABLE {local} {on} SYNC",
        f"DROP TABLE IF EXISTS candles_spread {on} SYNC",
    ]


def test_rows_of_two_hosts_come_together_and_go_back() -> None:
    """The runner's own host holds no candle at all, which must not pass for an empty cluster."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROCESS)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    assert facts["columns that differ"] == []
    assert facts["filled"][0] == 600
    assert facts["up"]["candles"] == facts["filled"]
    assert facts["orders"] == 2 * [["timeframe, symbol, exchange, timestamp"]]
    assert facts["kept"] == 630
    assert facts["deleted"][0] == 400
    for state in ("down", "up again", "base"):
        assert facts[state]["candles"] == facts["deleted"], state
    for state in ("up", "down", "up again", "base"):
        assert facts[state]["symbols"] == ["jts", "jts_there"], state
        here, there = facts[state]["tables"].values()
        assert here == there
        assert not [name for name in here if name.endswith(("_new", "_spread", "_copied"))]
        assert ("candles_local" in here) == state.startswith("up")
