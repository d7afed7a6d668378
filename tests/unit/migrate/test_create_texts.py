"""A CREATE TABLE is read the same, whoever wrote it."""

from __future__ import annotations

import pytest

from jts_storage.clickhouse.comparing import REBUILD, compare
from jts_storage.clickhouse.create_texts import parse

SERVER = (
    "CREATE TABLE db.t (`a` LowCardinality(String) DEFAULT 'x, (y)' COMMENT 'TTL of it',"
    " `b` Decimal(18, 4) CODEC(T64, LZ4) TTL d + toIntervalDay(1), `d` DateTime64(3, 'UTC'),"
    " INDEX i b TYPE minmax GRANULARITY 2, CONSTRAINT c CHECK b > 0)"
    " ENGINE = ReplacingMergeTree(d) PARTITION BY toYear(d) ORDER BY (a, d)"
    " TTL d + toIntervalYear(1)"
    " SETTINGS index_granularity = 8192, storage_policy = 'a, b'"
)
COMPILED = """
CREATE TABLE t (
    a LowCardinality(String) DEFAULT 'x, (y)',
    b Decimal64(4) CODEC(T64, LZ4) TTL d + toIntervalDay(1),
    d DateTime64(3, 'UTC'),
    INDEX i b TYPE minmax GRANULARITY 2,
    CONSTRAINT c CHECK b > 0
) ENGINE = ReplacingMergeTree(d)
 PARTITION BY toYear(d)
 ORDER BY (a, d)
 TTL d + toIntervalYear(1)
 SETTINGS index_granularity=8192
"""


def test_every_part_is_found() -> None:
    table = parse(SERVER)
    assert list(table.columns) == ["a", "b", "d"]
    assert table.columns["a"].type == "LowCardinality(String)"
    assert table.columns["a"].parts == {"DEFAULT": "'x, (y)'", "COMMENT": "'TTL of it'"}
    assert table.columns["b"].parts == {"CODEC": "(T64, LZ4)", "TTL": "d + toIntervalDay(1)"}
    assert set(table.extras) == {"index i", "constraint c"}
    assert table.clauses["ENGINE ="] == "ReplacingMergeTree(d)"
    assert table.clauses["ORDER BY"] == "(a, d)"
    assert table.clauses["TTL"] == "d + toIntervalYear(1)"


def test_two_spellings_of_one_table_do_not_differ() -> None:
    assert list(compare("t", parse(COMPILED), parse(SERVER))) == []


def test_engines_of_a_cluster_are_compared_but_for_their_places() -> None:
    head = "CREATE TABLE t (a String) ENGINE = "
    here = head + "ReplicatedReplacingMergeTree('/here/{shard}', '{replica}', v) ORDER BY a"
    there = head + "ReplicatedReplacingMergeTree('/there/01', 'host-1', v) ORDER BY (a)"
    assert list(compare("t", parse(here), parse(there))) == []
    plain = head + "ReplacingMergeTree(v) ORDER BY a"
    assert [each.what for each in compare("t", parse(here), parse(plain))] == ["engine"]
    spread = head + "Distributed(c1, currentDatabase(), t_local, cityHash64(a))"
    shown = head + "Distributed('c1', 'jts', 't_local', cityHash64(a))"
    assert list(compare("t", parse(spread), parse(shown))) == []


@pytest.mark.parametrize(
    ("should", "has", "in_place"),
    [
        ("Decimal(18, 4)", "Decimal(9, 2)", True),
        ("Decimal(18, 4)", "Decimal(16, 2)", True),
        ("Decimal(18, 4)", "Decimal(17, 2)", False),
        ("Decimal(18, 4)", "Decimal(38, 2)", False),
        ("Decimal(18, 4)", "Decimal(18, 6)", False),
    ],
)
def test_a_decimal_is_altered_in_place_where_both_its_ends_fit(
    should: str, has: str, *, in_place: bool
) -> None:
    """Parts whose values do not fit could not be read any more."""
    wanted, found = (f"CREATE TABLE t (c {each})" for each in (should, has))
    (difference,) = compare("t", parse(wanted), parse(found))
    alter = f"ALTER TABLE t MODIFY COLUMN c {should}"
    assert difference.remedy == (alter if in_place else REBUILD)


def test_one_surplus_column_is_not_guessed_to_be_one_of_two() -> None:
    wanted = "CREATE TABLE t (a Int8, high Int64, low Int64, z Int8)"
    found = "CREATE TABLE t (extra Int64, a Int8, z Int8)"
    said = {(each.where, each.actual) for each in compare("t", parse(wanted), parse(found))}
    assert {("t.high", "nothing"), ("t.low", "nothing")} <= said
    assert ("t.extra", "Int64") in said
