"""What the kit reads in a statement, it reads right."""

from __future__ import annotations

import pytest

from jts_storage.clickhouse.sql import bare, insert_target, literal, only_reads, quoted


@pytest.mark.parametrize(
    "statement",
    ["select 1", " -- note\n(SELECT 1)", "/* x */ WITH 1 AS a SELECT a", "DESC t", "EXISTS t"],
)
def test_reads(statement: str) -> None:
    assert only_reads(statement)


@pytest.mark.parametrize(
    "statement",
    [
        *("INSERT INTO t SELECT 1", "/* select */ DROP TABLE t", "", "ALTER TABLE t", "-- x"),
        *("/* a /* b */ SELECT 1 */ DROP TABLE t", "/*/**/ SELECT 1 */ DROP TABLE t"),
        *("SELECT 1; DROP TABLE t", "WITH 1 AS a INSERT INTO t SELECT a"),
    ],
)
def test_writes(statement: str) -> None:
    assert not only_reads(statement)


@pytest.mark.parametrize(
    ("statement", "table", "names"),
    [
        ("INSERT INTO t VALUES", "t", []),
        ("insert into db.t (a, b) VALUES", "db.t", ["a", "b"]),
        (
            "INSERT INTO TABLE `d b`.`t``x` (`a \\` b`, c) FORMAT Native",
            "`d b`.`t``x`",
            ["a ` b", "c"],
        ),
    ],
)
def test_the_target_of_an_insert(statement: str, table: str, names: list[str]) -> None:
    assert insert_target(statement) == (table, names)


def test_nothing_else_has_a_target() -> None:
    with pytest.raises(ValueError, match="not an INSERT"):
        insert_target("SELECT 1")


def test_quoting() -> None:
    assert bare(quoted("a`b\\c")) == "a`b\\c"
    assert literal("a'b\\c\0") == "'a\\'b\\\\c\\0'"
    assert literal(True) == "1"
    assert literal(None) == "NULL"
